"""Sounds or pictures with captions: a CSV file of `path,caption`, with a line for each caption of a file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from kws_imagebind.datasets.base import Dataset, DatasetError, Kind, Utterance
from kws_imagebind.datasets.folder import is_picture

COLUMNS = ("path", "caption")
LABEL = "clip"  # of all: what is said in them is in their captions


@dataclass(frozen=True)
class Captioned:
    """Files and what is said of them.

    Attributes:
        dataset: each file once, in the order of the lines.
        captions: of all files.
        owners: the index of the file that each caption describes.
    """

    dataset: Dataset
    captions: tuple[str, ...]
    owners: tuple[int, ...]


def load_captions(path: Path, root: Path | None = None) -> Captioned:
    """The files that a CSV file lists, with their captions.

    Args:
        path: UTF-8, with the columns `path` and `caption`; others are passed over.
        root: what paths are relative to; by default the folder of the CSV file.

    Raises:
        DatasetError: it cannot be read, lacks a column or a caption, names a file that is not there, or names both
            sounds and pictures.
    """
    root = path.parent if root is None else root
    places: dict[str, int] = {}
    captions, owners = [], []
    for line, (name, caption) in enumerate(_lines(path), start=2):
        if not name or not caption:
            raise DatasetError(f"{path}, line {line}: expected a path and a caption, got '{name}' and '{caption}'")
        captions.append(caption)
        owners.append(places.setdefault(name, len(places)))
    if not places:
        raise DatasetError(f"{path} lists no captions; expected lines of path,caption")
    clips = tuple(Utterance(root / name, LABEL, None, name) for name in places)
    missing = next((clip for clip in clips if not clip.path.is_file()), None)
    if missing:
        raise DatasetError(
            f"{path} names '{missing.key}', and '{missing.path}' does not exist; give its folder as --data"
        )
    kinds = {is_picture(clip.path) for clip in clips}
    if len(kinds) > 1:
        raise DatasetError(f"{path} names sounds and pictures; expected a file for each kind")
    kind: Kind = "image" if kinds.pop() else "audio"
    return Captioned(Dataset(path.stem, clips, (LABEL,), "captions", kind=kind), tuple(captions), tuple(owners))


def _lines(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(
                    f"{path} has no column {', '.join(missing)}; expected path,caption in its first line"
                )
            return [((row["path"] or "").strip(), (row["caption"] or "").strip()) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise DatasetError(f"{path} cannot be read ({reason}); expected a CSV file of path,caption") from error

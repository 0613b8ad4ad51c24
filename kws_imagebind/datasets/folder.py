"""A folder of recordings, one folder a word: `root/word/clip.wav`.

Any format that libsndfile reads will do. Hidden files and folders are passed over, and so are folders whose name begins
with an underscore, as Speech Commands keeps its noise in `_background_noise_`.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from kws_imagebind.datasets.base import DatasetError, Recordings, Request, Utterance, listed

SPEAKER_DIVIDER = "_nohash_"  # of Speech Commands' file names: SPEAKER_nohash_NUMBER


class Folder:
    """A folder of recordings as a `Source`."""

    splits: tuple[str, ...] = ()
    options: tuple[str, ...] = ("root",)

    def load(self, request: Request) -> Recordings:
        if request.root is None:
            raise DatasetError("data set 'folder' needs the path of the folder; give it with --data")
        utterances, note = load_folder(request.root)
        return Recordings(utterances, tuple(dict.fromkeys(each.label for each in utterances)), "folder", note=note)


def load_folder(root: Path) -> tuple[tuple[Utterance, ...], str]:
    """The clips of every word's folder, in the order of their keys, and a note on files that were passed over.

    Raises:
        DatasetError: the folder is missing or holds no words; a word's folder holds no recording; two words' names
            differ in upper and lower case alone.
    """
    if not root.is_dir():
        raise DatasetError(f"'{root}' is not a folder; expected one that holds a folder for each word")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith((".", "_")))
    if not folders:
        raise DatasetError(
            f"'{root}' holds no folder with the name of a word; expected recordings such as '{root}/yes/1.wav'"
        )
    _check_names(folders)
    others: Counter[str] = Counter()
    utterances = [utterance for folder in folders for utterance in _clips(folder, others)]
    return tuple(sorted(utterances, key=lambda utterance: utterance.key)), _note(others)


def speaker_of(filename: str) -> str | None:
    """The speaker that a file name tells in the manner of Speech Commands.

    >>> speaker_of("0a7c2a8d_nohash_0.wav"), speaker_of("me.wav")
    ('0a7c2a8d', None)
    """
    speaker, divider, _ = filename.partition(SPEAKER_DIVIDER)
    return speaker if divider and speaker else None


def _check_names(folders: Iterable[Path]) -> None:
    seen: dict[str, str] = {}
    for folder in folders:
        if "=" in folder.name:
            raise DatasetError(
                f"folder '{folder.name}' has a '=' in its name, which marks how a keyword is spoken; rename it"
            )
        other = seen.setdefault(_plain(folder.name).casefold(), folder.name)
        if other != folder.name:
            raise DatasetError(f"folders '{other}' and '{folder.name}' name the same keyword; put their clips into one")


def _clips(folder: Path, others: Counter[str]) -> list[Utterance]:
    """The recordings of one word; what is no audio is counted in `others` by its extension."""
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    clips = [file for file in files if is_audio(file)]
    passed = Counter(file.suffix.lower() or "no extension" for file in files if not is_audio(file))
    if not clips:
        raise DatasetError(f"'{folder}' holds no recording: {_instead(folder, passed)}")
    others.update(passed)
    label = _plain(folder.name)
    return [
        Utterance(path=file, label=label, speaker=speaker_of(file.name), key=f"{label}/{_plain(file.name)}")
        for file in clips
    ]


def is_audio(file: Path) -> bool:
    """Whether a file's name is that of a recording that can be read here."""
    from kws_imagebind.audio.files import extensions  # which waits for torch; a list of names need not

    return file.suffix.lower() in extensions()


def _instead(folder: Path, passed: Counter[str]) -> str:
    """What a word's folder holds instead of recordings, and the remedy."""
    if any(entry.is_dir() for entry in folder.iterdir()):
        return "it holds folders, which are not searched; name the folder whose folders are the words"
    found = f"it holds only {listed(passed)}" if passed else "it is empty"
    return f"{found}; put WAV, FLAC, OGG or MP3 files there or remove the folder"


def _plain(name: str) -> str:
    """One spelling of accents, since macOS takes letters apart and others do not."""
    return unicodedata.normalize("NFC", name)


def _note(others: Counter[str]) -> str:
    if not others:
        return ""
    return f"{others.total():,} files left out that cannot be read as audio ({listed(others)})"

"""Data sets by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kws_imagebind.datasets.base import Dataset, DatasetError, Utterance, select
from kws_imagebind.datasets.challenge import TWELVE, load_twelve
from kws_imagebind.datasets.folder import load_folder
from kws_imagebind.datasets.sample import load_sample
from kws_imagebind.datasets.speech_commands import find_corpus, load_speech_commands, version_of
from kws_imagebind.registry import did_you_mean
from kws_imagebind.text.keywords import KeywordError, check_keywords, parse_keywords
from kws_imagebind.text.tasks import Task
from kws_imagebind.text.tasks import task as named_task

DATASETS = {
    "sample": "the bundled sample: 35 words by synthetic voices; the default",
    "speech-commands": "Google's Speech Commands v0.01 or v0.02, with its official splits",
    "folder": "a folder of your own recordings, word/clip.wav",
}


def load_dataset(
    name: str,
    root: str | Path | None = None,
    split: str | None = None,
    task: str | None = None,
    keywords: str | Sequence[str] | None = None,
    download: bool = False,
    version: str | None = None,
) -> Dataset:
    """A data set by name, restricted to the clips of its keywords; a keyword without clips stays a candidate.

    Args:
        name: one of `DATASETS`.
        root: where the data lie; speech-commands looks in "data" if not told, the sample needs none.
        split: of speech-commands: "training", "validation", "testing" (the default) or "all".
        task: a named choice of keywords; by default v2-35 (v1-30 for v0.01), and a folder's own words.
        keywords: your own choice instead of a task, as a list or as 'yes,no,kettle=/K EH T AH L/'.
        download: fetch speech-commands if it is not there.
        version: of speech-commands; by default the one that `root` is named by, the task belongs to, or `root` holds.

    Raises:
        DatasetError: unknown name or split, options that do not belong together, missing or incomplete data.
        KeywordError: unknown task, blank or repeated keywords.
    """
    _check_options(name, root, split, download, version)
    chosen = _choice(task, keywords)
    if name == "sample":
        utterances, note = load_sample()
        chosen = chosen or named_task("v2-35")
    elif name == "folder":
        utterances, note = load_folder(Path(str(root)))
        chosen = chosen or Task("folder", tuple(dict.fromkeys(utterance.label for utterance in utterances)))
    else:
        root, split = Path(root or "data"), split or "testing"
        version = version or version_of(root) or _version_for(root, task)
        load = load_twelve if task in TWELVE else load_speech_commands
        utterances, note = load(root, split, version, download)
        chosen = chosen or named_task("v1-30" if version == "v0.01" else "v2-35")
    return _restricted(name, utterances, chosen, split, note)


def _restricted(name: str, utterances: Sequence[Utterance], chosen: Task, split: str | None, note: str) -> Dataset:
    where = f"data set '{name}'" if split is None else f"split '{split}' of data set '{name}'"
    return Dataset(
        name=name,
        utterances=select(utterances, chosen.keywords, where),
        keywords=chosen.keywords,
        task=chosen.name,
        split=split,
        note=note,
    )


def _check_options(name: str, root: str | Path | None, split: str | None, download: bool, version: str | None) -> None:
    if name not in DATASETS:
        raise DatasetError(f"unknown data set '{name}'{did_you_mean(name, DATASETS)}; available: {', '.join(DATASETS)}")
    if name != "speech-commands":
        for option, given in (("split", split), ("download", download), ("version", version)):
            if given:
                raise DatasetError(f"data set '{name}' has no {option}; only speech-commands does")
    if name == "sample" and root is not None:
        raise DatasetError(f"the bundled sample is not in '{root}'; for your own recordings choose --dataset folder")
    if name == "folder" and root is None:
        raise DatasetError("data set 'folder' needs the folder's path; give it with --data")


def _choice(task: str | None, keywords: str | Sequence[str] | None) -> Task | None:
    if task is not None and keywords is not None:
        raise KeywordError("a task and keywords are given; expected one of the two, for a task is a list of keywords")
    if keywords is not None:
        parsed = parse_keywords(keywords) if isinstance(keywords, str) else check_keywords(keywords)
        return Task("custom", parsed)
    return None if task is None else named_task(task)


def _version_for(root: Path, task: str | None) -> str:
    if task is not None and task.startswith("v1-"):
        return "v0.01"
    return next((version for version in ("v0.02", "v0.01") if find_corpus(root, version)), "v0.02")

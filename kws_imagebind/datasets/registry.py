"""Data sets by name, their other splits, and what is none of their keywords."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kws_imagebind.datasets.base import (
    Dataset,
    DatasetError,
    NoiseSource,
    Recordings,
    Request,
    Source,
    Stream,
    StreamingSource,
    Utterance,
    select,
    selected,
)
from kws_imagebind.datasets.challenge import find_test_set
from kws_imagebind.datasets.folder import holds_pictures
from kws_imagebind.datasets.speech_commands import VERSIONS, find_corpus
from kws_imagebind.registry import Entry, Registry, call_with
from kws_imagebind.text.keywords import KeywordError, check_keywords, parse_keywords
from kws_imagebind.text.tasks import Task
from kws_imagebind.text.tasks import task as named_task

VALIDATION = "validation"  # the split that chooses

DATASETS = Registry(
    "data set",
    "kws_imagebind.datasets",
    (
        Entry(
            "sample",
            "the bundled sample: 35 words by synthetic voices; the default",
            "kws_imagebind.datasets.sample:Sample",
        ),
        Entry(
            "speech-commands",
            "Google's Speech Commands v0.01 or v0.02, with its official splits",
            "kws_imagebind.datasets.official:SpeechCommandsSource",
        ),
        Entry(
            "folder",
            "a folder of your own recordings, word/clip.wav",
            "kws_imagebind.datasets.folder:Folder",
        ),
        Entry(
            "pictures",
            "a folder of your own pictures, word/picture.jpg, for encoders that take pictures",
            "kws_imagebind.datasets.folder:Pictures",
        ),
    ),
    DatasetError,
)


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
        name: a registered name, or your own as "FILE.py:NAME" or "module:NAME": a `Source`, or a function that takes
            any of `root`, `split`, `version`, `download` and returns `Recordings` or utterances.
        root: where the data lie; speech-commands looks in "data" if not told, the sample needs none.
        split: "training", "validation", "testing" (the default) or "all" of speech-commands; the sample has none.
        task: a named choice of keywords; by default v2-35 (v1-30 for v0.01), and a folder's own words.
        keywords: your own choice instead of a task, as a list or as 'yes,no,kettle=/K EH T AH L/'.
        download: fetch speech-commands if it is not there.
        version: of speech-commands; by default the one that `root` is named by or holds.

    Raises:
        DatasetError: unknown name or split, a folder's path as the name, options that do not belong together, missing
            or incomplete data, a task that is defined on another version of the corpus.
        KeywordError: unknown task, blank or repeated keywords.
    """
    return _loaded(_request(name, root, split, task, keywords, download, version))


def stream_dataset(
    name: str,
    root: str | Path | None = None,
    split: str | None = None,
    task: str | None = None,
    keywords: str | Sequence[str] | None = None,
    download: bool = False,
    version: str | None = None,
) -> Stream:
    """As `load_dataset`, but the clips of a folder come one after another and are never all in memory."""
    request = _request(name, root, split, task, keywords, download, version)
    source = _source(request)
    if not isinstance(source, StreamingSource):
        dataset = _loaded(request)
        clips, note = iter(dataset.utterances), dataset.note
        return Stream(name, clips, dataset.task, dataset.keywords, dataset.split, lambda: note, dataset.kind)
    _check_options(source, request)
    stream, chosen = source.stream(request), _choice(request)
    if chosen is None:
        return stream
    clips = selected(stream.utterances, chosen.keywords, f"data set '{name}'")
    return replace(stream, utterances=clips, task=chosen.name, keywords=chosen.keywords)


def _request(
    name: str,
    root: str | Path | None,
    split: str | None,
    task: str | None,
    keywords: str | Sequence[str] | None,
    download: bool,
    version: str | None,
) -> Request:
    if task is not None and keywords is not None:
        raise KeywordError("a task and keywords are given; expected one of the two, for a task is a list of keywords")
    chosen = None
    if keywords is not None:
        chosen = parse_keywords(keywords) if isinstance(keywords, str) else check_keywords(keywords)
    place = None if root is None else Path(root)
    name = str(name)  # a path is not one, which the next line says
    if name not in DATASETS and Path(name).is_dir():
        raise DatasetError(
            f"'{name}' is a folder and not the name of a data set; write "
            f'kws.load_dataset("{dataset_at(Path(name))}", root="{name}"), or --data {shlex.quote(name)} on the '
            "command line"
        )
    return Request(name, place, split, task, chosen, version, download)


def _choice(request: Request) -> Task | None:
    """The keywords that were asked for; None where nobody asked for any."""
    chosen = Task("custom", request.keywords) if request.keywords else None
    return chosen or (named_task(request.task) if request.task else None)


def dataset_at(root: Path | None, download: bool = False) -> str:
    """The name of the data set that a folder holds; the sample where none is named."""
    if root is None:
        return "speech-commands" if download else "sample"
    official = download or any(find_corpus(root, version) or find_test_set(root, version) for version in VERSIONS)
    if official:
        return "speech-commands"
    return "pictures" if holds_pictures(root) else "folder"


def splits_of(name: str) -> tuple[str, ...]:
    """The splits that a data set can be asked for, the default one first; empty where it has none.

    >>> splits_of("speech-commands"), splits_of("folder")
    (('testing', 'training', 'validation', 'all'), ())

    Raises:
        DatasetError: there is no data set of that name.
    """
    return _source(Request(name)).splits


def sibling(dataset: Dataset, split: str) -> Dataset:
    """Another split of a data set, with the same keywords.

    Raises:
        DatasetError: the data set was made by hand, or has no such split.
    """
    return _loaded(_sibling_request(dataset, split))


def check_sibling(dataset: Dataset, split: str, why: str, remedy: str = "") -> None:
    """Says now, before any audio is read, that a data set lacks a split.

    Raises:
        DatasetError: it does, with `why` it is needed, and the `remedy`.
    """
    try:
        _check_options(_source(_sibling_request(dataset, split)), _sibling_request(dataset, split))
    except DatasetError as error:
        raise DatasetError(f"{why} needs a {split} split to choose on, and {error}{remedy}") from error


def outsiders(dataset: Dataset) -> Dataset:
    """Clips that say none of a data set's keywords: the other words of its source, and background noise if it has any.

    Raises:
        DatasetError: there are none, or the data set was made by hand.
    """
    request = _origin(dataset)
    source = _source(request)
    # Without a task, for the twelve labels draw their own silence and unknown words.
    everything = replace(request, task=None, keywords=None, download=False)
    recordings = source.load(everything)
    inside = {label.casefold() for label in dataset.labels}
    found = tuple(each for each in recordings.utterances if each.label.casefold() not in inside)
    if isinstance(source, NoiseSource):
        found += source.noise(request, len(recordings.utterances))
    if not found:
        raise DatasetError(
            f"data set '{dataset.name}' has no clip of other words and no background noise, against which an open set "
            "is tested; name fewer keywords with --keywords, so that the other words are left over"
        )
    labels = tuple(dict.fromkeys(utterance.label for utterance in found))
    return Dataset(dataset.name, found, labels, "outsiders", recordings.split)


def _loaded(request: Request) -> Dataset:
    source = _source(request)
    _check_options(source, request)
    chosen = _choice(request)
    found = source.load(request)
    own = found.keywords or tuple(sorted({utterance.label for utterance in found.utterances}))
    task = chosen or Task(found.task or request.name, own)
    where = f"data set '{request.name}'"
    where = where if found.split is None else f"split '{found.split}' of {where}"
    utterances = select(found.utterances, task.keywords, where)
    return Dataset(request.name, utterances, task.keywords, task.name, found.split, found.note, request, found.kind)


def _source(request: Request) -> Source:
    found = DATASETS.find(request.name)
    thing = found.thing
    if isinstance(thing, Source) and not isinstance(thing, type):
        return thing
    if isinstance(thing, type):
        thing = call_with(thing, argument=found.argument)
        if isinstance(thing, Source):
            return thing
    if callable(thing):
        return _FunctionSource(request.name, thing)
    raise DatasetError(f"data set '{request.name}' is {type(thing).__name__}; expected a Source or a function")


class _FunctionSource:
    """A function of a user's own as a `Source`; it may take `root`, `split`, `version` and `download`."""

    splits: tuple[str, ...]
    options: tuple[str, ...] = ("root", "version", "download")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name, self._function = name, function
        self.splits = tuple(getattr(function, "splits", ()))

    def load(self, request: Request) -> Recordings:
        given = call_with(
            self._function,
            root=request.root,
            split=request.split,
            version=request.version,
            download=request.download,
        )
        if isinstance(given, Recordings):
            return given
        found = tuple(given)
        wrong = next((each for each in found if not isinstance(each, Utterance)), None)
        if wrong is not None:
            raise DatasetError(
                f"data set '{self._name}' gave {type(wrong).__name__}; expected Utterances or Recordings"
            )
        return Recordings(found, split=request.split)


def _check_options(source: Source, request: Request) -> None:
    for option in ("root", "version", "download"):
        if getattr(request, option) and option not in source.options:
            if option == "root":
                raise DatasetError(
                    f"data set '{request.name}' takes no folder, and '{request.root}' is given; "
                    "for your own recordings choose --dataset folder"
                )
            raise DatasetError(f"data set '{request.name}' has no {option}")
    if request.split is not None and request.split not in source.splits:
        known = f"its splits are {', '.join(source.splits)}" if source.splits else "it has no splits"
        raise DatasetError(f"data set '{request.name}' has no split '{request.split}'; {known}")


def _origin(dataset: Dataset) -> Request:
    if dataset.origin is None:
        raise DatasetError(f"data set '{dataset.name}' was made by hand, so its other clips are unknown")
    return dataset.origin


def _sibling_request(dataset: Dataset, split: str) -> Request:
    return replace(_origin(dataset), split=split, download=False)

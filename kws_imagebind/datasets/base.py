"""What a data set is: clips that are not decoded yet, and the keywords they are to be told apart by."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from kws_imagebind.text import keywords as kw

if TYPE_CHECKING:
    from torch import Tensor


Kind = Literal["audio", "image"]


class DatasetError(ValueError):
    """A data set that is missing, incomplete or asked for the wrong thing; the message says what would do."""


@dataclass(frozen=True)
class ClipIdentity:
    """What is enough to recognise a clip and its speaker elsewhere, under whatever name.

    Attributes:
        content: SHA-256 (hexadecimal) of what was decoded, crop included.
        speaker: who speaks; None where unknown.
    """

    content: str
    speaker: str | None = None


@dataclass(frozen=True)
class Utterance:
    """One recording of one keyword.

    Attributes:
        path: where the file lies.
        label: the keyword that is spoken.
        speaker: who speaks it, where the data set says so; the same text is the same person.
        key: path relative to the data set's root with forward slashes, the clip's name in every table.
        crop: where the clip begins in the file and how long it is, in seconds; None is the whole file.
    """

    path: Path
    label: str
    speaker: str | None
    key: str
    crop: tuple[float, float] | None = None


@dataclass(frozen=True)
class Request:
    """Which recordings are asked for.

    Attributes:
        name: of the data set, as given to `load_dataset`.
        root: the folder it lies in; None leaves the place to the data set.
        split: None is the data set's own default.
        task: name of a task; None where keywords are given or the data set has its own.
        keywords: the user's own choice of words; None where a task is named.
        version: of a corpus that has several.
        download: whether what is missing may be fetched.
        argument: what stood after the colon of the data set's name.
    """

    name: str
    root: Path | None = None
    split: str | None = None
    task: str | None = None
    keywords: tuple[str, ...] | None = None
    version: str | None = None
    download: bool = False
    argument: str | None = None


@dataclass(frozen=True)
class Recordings:
    """What a source of data gives: clips that are not restricted to any keywords yet.

    Attributes:
        utterances: the clips.
        keywords: the default choice of words; None takes the labels that occur, in alphabetical order.
        task: name of that choice; the data set's own name where it has none.
        split: that the clips are of.
        note: what a reader of the results should know.
        kind: what the files are: "audio", or "image" for pictures.
    """

    utterances: tuple[Utterance, ...]
    keywords: tuple[str, ...] | None = None
    task: str | None = None
    split: str | None = None
    note: str = ""
    kind: Kind = "audio"


@runtime_checkable
class Source(Protocol):
    """A data set that can be named: the class, or a function that makes one, is what is registered.

    Attributes:
        splits: that can be asked for, the default one first; empty where there are none. Choosing (temperatures,
            thresholds, prompts) needs one that is called "validation".
        options: the fields of `Request` that it understands, of "root", "version" and "download".
    """

    splits: tuple[str, ...]
    options: tuple[str, ...]

    def load(self, request: Request) -> Recordings:
        """The clips.

        Raises:
            DatasetError: they are missing or incomplete, or the request makes no sense.
        """
        ...


@runtime_checkable
class NoiseSource(Protocol):
    """A source that also has recordings without any word, for open-set tests."""

    def noise(self, request: Request, clips: int) -> tuple[Utterance, ...]:
        """Background noise, labelled "silence", for a test beside so many clips; empty where there is none."""
        ...


@runtime_checkable
class StreamingSource(Protocol):
    """A source that can give its clips one after another, where they are too many to hold."""

    def stream(self, request: Request) -> Stream:
        """The clips, in the order of `load`; what is wrong with them is raised on the way.

        Raises:
            DatasetError: as `Source.load`.
        """
        ...


@dataclass(frozen=True)
class Stream:
    """Clips that come one after another; they can be asked for once.

    Attributes:
        name: of the data set.
        utterances: the clips.
        task: the name of the choice of keywords.
        keywords: the candidates; None for the labels that occur.
        split: that the clips are of.
        note: says, after the last clip, what a reader of the results should know.
        kind: what the files are.
    """

    name: str
    utterances: Iterator[Utterance]
    task: str
    keywords: tuple[str, ...] | None = None
    split: str | None = None
    note: Callable[[], str] = str
    kind: Kind = "audio"


@dataclass(frozen=True)
class Dataset:
    """Recordings and the choice to be made for each.

    Attributes:
        name: as given to `load_dataset`.
        utterances: at least one, each labelled with one of the keywords.
        keywords: the candidates, in the order of the score columns; some may have no clips.
        task: the name of the choice; "custom" for a user's own list of words.
        split: of the official splits, where the data set has them.
        note: what a reader of the results should know, such as the corpus's version or that it is a part.
        origin: what it was loaded by, from which its other splits can be loaded; None for one made by hand.
        kind: what the files are: "audio", or "image" for pictures.
    """

    name: str
    utterances: tuple[Utterance, ...]
    keywords: tuple[str, ...]
    task: str
    split: str | None = None
    note: str = ""
    origin: Request | None = None
    kind: Kind = "audio"

    def __post_init__(self) -> None:
        if not self.utterances:
            raise DatasetError(f"data set '{self.name}' has no clips; expected at least one")
        unknown = {utterance.label for utterance in self.utterances} - set(self.labels)
        if unknown:
            raise DatasetError(
                f"clips of data set '{self.name}' are labelled {listed(unknown)}, which is not one of its keywords"
            )
        key, times = Counter(utterance.key for utterance in self.utterances).most_common(1)[0]
        if times > 1:
            raise DatasetError(f"data set '{self.name}' names clip '{key}' {times} times; expected it once")

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def labels(self) -> tuple[str, ...]:
        """What each keyword is called, in their order."""
        return tuple(kw.label(keyword) for keyword in self.keywords)

    @property
    def targets(self) -> Tensor:
        """(n,) int64: for each clip the index of its label among the keywords."""
        import torch  # only here, so that a data set can be described without waiting for torch

        index = {label: i for i, label in enumerate(self.labels)}
        return torch.tensor([index[utterance.label] for utterance in self.utterances], dtype=torch.int64)

    def subset(self, limit: int, seed: int = 0) -> Dataset:
        """A random part of the clips, in their order; the whole data set if it has no more than `limit`.

        Each clip draws its lot from the seed and its own key alone. So a draw is the same on every machine and with
        every release of Python, and 64 clips are among the 128 of the same seed.

        Raises:
            DatasetError: `limit` is below 1.
        """
        if limit < 1:
            raise DatasetError(f"a limit of {limit} clips leaves nothing to measure; expected 1 or more")
        if limit >= len(self):
            return self
        drawn = {utterance.key for utterance in self.shuffled(seed)[:limit]}
        note = f"{limit:,} of {len(self):,} clips, drawn with seed {seed}"
        return replace(
            self,
            utterances=tuple(u for u in self.utterances if u.key in drawn),
            note=f"{self.note}; {note}" if self.note else note,
        )

    def shuffled(self, seed: int = 0) -> tuple[Utterance, ...]:
        """The clips in the order of the lots they draw, which `subset` takes the first of."""
        return tuple(sorted(self.utterances, key=lambda utterance: _lot(utterance.key, seed)))


def select(utterances: Sequence[Utterance], keywords: Sequence[str], where: str) -> tuple[Utterance, ...]:
    """The clips whose label is among the keywords, upper and lower case being the same.

    Their labels become the keywords' own spelling, so that a label always equals one of them.

    Raises:
        DatasetError: no clip is left; lists the labels that there are.
    """
    return tuple(selected(utterances, keywords, where))


def selected(utterances: Iterable[Utterance], keywords: Sequence[str], where: str) -> Iterator[Utterance]:
    """As `select`, one clip after another; it raises after the last."""
    spelling = {kw.label(keyword).casefold(): kw.label(keyword) for keyword in keywords}
    seen, chosen = set(), False
    for utterance in utterances:
        seen.add(utterance.label)
        if label := spelling.get(utterance.label.casefold()):
            chosen = True
            yield replace(utterance, label=label)
    if not chosen:
        raise DatasetError(f"{where} has no clip of {listed(spelling.values())}; its words are {listed(seen)}")


def _lot(key: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


def listed(names: Iterable[str], most: int = 40) -> str:
    """Names in alphabetical order for a message, cut where there are too many to read."""
    ordered = sorted(names)
    rest = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + rest


def counted(number: int, noun: str) -> str:
    """A number with its noun, for a message.

    >>> counted(1, "word"), counted(1200, "word")
    ('1 word', '1,200 words')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"

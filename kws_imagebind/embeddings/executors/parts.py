"""A table that grows in parts, so that a run that is stopped goes on where it was.

The clips are listed first. So many of them in a row are a part; a part is encoded on its own, in the same batches
whoever encodes it, and is one Parquet file that is there whole or not at all. At the end the parts are joined. What is
in memory at a time is one part, however many clips there are.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kws_imagebind.audio.signal import AudioError
from kws_imagebind.datasets.base import Dataset, DatasetError, Kind, Stream, Utterance, counted, listed
from kws_imagebind.embeddings import table
from kws_imagebind.embeddings.embed import OnError, check_kind, embed_some
from kws_imagebind.embeddings.table import TableError
from kws_imagebind.encoders.base import Encoder, EncoderError, check_encoder
from kws_imagebind.files import make_folder, whole

PART = 4096  # clips: a minute of a CPU's work, 3 MB at 192 numbers a vector
JOB, LISTING, LOCK = "job.json", "listing.parquet", ".lock"

Tell = Callable[[int, int], object]  # clips done, clips in all


class ExecutorError(TableError):
    """A run that cannot start or go on; the message says why and what to do."""


@dataclass(frozen=True)
class Job:
    """All that the vectors of a table depend on, besides the bytes of the recordings.

    Attributes:
        dataset, task, split, note, keywords, kind: as of a `Dataset`.
        encoder: its name.
        fingerprint: of the encoder.
        clips: how many are listed.
        digest: of the listing.
        part: clips in a part.
        batch_size: clips in a batch.
        on_error: "raise" or "skip".
    """

    dataset: str
    task: str
    split: str | None
    note: str
    keywords: tuple[str, ...]
    kind: Kind
    encoder: str
    fingerprint: str
    clips: int
    digest: str
    part: int
    batch_size: int
    on_error: OnError


@dataclass(frozen=True)
class Summary:
    """What became of a run.

    Attributes:
        clips: rows of the table.
        skipped: recordings that could not be used.
        parts: of the table.
        found: parts that an earlier run had finished.
    """

    clips: int
    skipped: int
    parts: int
    found: int


class Parts:
    """The folder beside a table in which its parts grow; a worker needs nothing else, besides the encoder.

    Args:
        folder: that `prepare` made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def job(self) -> Job:
        found = json.loads((self.folder / JOB).read_text(encoding="utf-8"))
        return Job(**{**found, "keywords": tuple(found["keywords"])})

    @cached_property
    def listing(self) -> table.Listing:
        return table.Listing(self.folder / LISTING)

    def __len__(self) -> int:
        return len(self.listing)

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.parquet"

    def is_done(self, number: int) -> bool:
        """Whether a part is there, holds all its clips, and none of their files was changed since it was begun."""
        try:
            rows, about = table.footer(self.path(number))
            skipped = len(about["skipped"])
            if rows + skipped != self.listing.size(number) or (skipped and self.job.on_error == "raise"):
                return False
            return all(_last_change(utterance.path) < about["started"] for utterance in self.listing[number])
        except (TableError, OSError, KeyError):
            return False

    def encode(self, number: int, encoder: Encoder, cache: Path | None = None, tell: Tell | None = None) -> int:
        """Encodes a part and writes it; returns how many clips it stands for.

        Raises:
            AudioError, DatasetError: a file cannot be used, and that is to be raised.
            EncoderError: the encoder is not the job's.
        """
        job, started = self.job, time.time()
        if encoder.fingerprint != job.fingerprint:
            raise EncoderError(
                f"the parts in '{self.folder}' are of encoder '{job.encoder}' ({job.fingerprint}), and a worker has "
                f"'{encoder.name}' ({encoder.fingerprint}); give all machines the same weights and release"
            )
        clips = self.listing[number]
        dataset = Dataset(job.dataset, clips, job.keywords, job.task, job.split, job.note, kind=job.kind)
        audio = embed_some(encoder, dataset, cache, job.batch_size, job.on_error, tell or False)
        contents = audio.contents or [""] * len(audio)
        rows = [table.row(utterance, content) for utterance, content in zip(audio.utterances, contents, strict=True)]
        table.write(self.path(number), rows, audio.features.numpy(), {**table.about(audio), "started": started})
        return len(clips)

    def join(self, output: Path) -> tuple[int, int]:
        """Writes the whole table and removes the folder; returns how many rows it has and how many were skipped.

        Raises:
            AudioError: no recording could be used.
            ExecutorError: the parts do not hold every clip once.
        """
        numbers = range(len(self))
        rows, skipped, silent = 0, [], []
        about: dict[str, Any] = {}
        for number in numbers:
            count, about = table.footer(self.path(number))
            rows += count
            skipped += about["skipped"]
            silent += about["silent"]
        if rows + len(skipped) != self.job.clips:
            raise ExecutorError(
                f"the parts in '{self.folder}' hold {rows + len(skipped):,} of {self.job.clips:,} clips; "
                "delete the folder and start again"
            )
        if not rows:
            what = "recordings" if self.job.kind == "audio" else "pictures"
            raise AudioError(f"none of the {len(skipped):,} {what} can be used; the first: {skipped[0]['reason']}")
        metadata = {name: value for name, value in about.items() if name not in ("format", "started")}
        metadata |= {"skipped": skipped, "silent": silent}
        table.join([self.path(number) for number in numbers], output, metadata)
        shutil.rmtree(self.folder)
        return rows, len(skipped)


def prepare(
    output: Path,
    clips: Stream,
    encoder: Encoder,
    batch_size: int,
    on_error: OnError,
    part: int = PART,
) -> Parts:
    """The parts of a table that is to be written: new ones, or those that an earlier run of the same job left.

    Args:
        output: the table.
        clips: what is encoded.
        encoder: what encodes.
        batch_size: clips at once.
        on_error: at a file that cannot be used.
        part: clips in a part.

    Raises:
        EncoderError: the encoder takes no pictures, and the clips are some.
        ExecutorError: the folder of the parts holds those of another job, or the table is there already and is of
            another encoder or other clips.
    """
    check_kind(check_encoder(encoder), clips.kind)
    folder = make_folder(folder_of(output))
    count, digest, labels = _list(clips, folder / LISTING, part)
    job = Job(
        dataset=clips.name,
        task=clips.task,
        split=clips.split,
        note=clips.note(),
        keywords=clips.keywords or labels,
        kind=clips.kind,
        encoder=encoder.name,
        fingerprint=encoder.fingerprint,
        clips=count,
        digest=digest,
        part=part,
        batch_size=batch_size,
        on_error=on_error,
    )
    parts = Parts(folder)
    _check_finished(output, job, parts.listing)
    if any(folder.glob("part-*")):
        _check_same(parts, job)
    with whole(folder / JOB) as file:
        file.write_text(json.dumps(asdict(job), ensure_ascii=False), encoding="utf-8")
    return Parts(folder)


def folder_of(output: Path) -> Path:
    """Where the parts of a table grow."""
    return output.with_name(f"{output.name}.parts")


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Lets one run at a time write a table.

    Raises:
        ExecutorError: another one is writing it.
    """
    folder = make_folder(folder_of(output))
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ExecutorError(f"another run is writing '{output}'; wait for it, or choose another --output") from error
    try:
        yield
    finally:
        lock.release()
        if folder.is_dir() and not (folder / JOB).is_file():  # nothing was begun
            shutil.rmtree(folder, ignore_errors=True)


def missing(parts: Parts) -> list[int]:
    """The numbers of the parts to encode; what a stopped writer left behind is removed."""
    for rest in parts.folder.glob(".part-*"):
        rest.unlink(missing_ok=True)
    return [number for number in range(len(parts)) if not parts.is_done(number)]


def run(
    parts: Parts, output: Path, execute: Callable[[Parts, Sequence[int], Tell], None], tell: Tell | None = None
) -> Summary:
    """Encodes what is missing, and joins the parts.

    Args:
        parts: that `prepare` gave.
        output: the table.
        execute: encodes parts of those numbers, and says on the way how many of all their clips are done.
        tell: is told of clips done and of all clips.
    """
    numbers = missing(parts)
    before = parts.job.clips - sum(map(parts.listing.size, numbers))
    if tell:
        tell(before, parts.job.clips)
    execute(parts, numbers, lambda done, _: tell(before + done, parts.job.clips) if tell else None)
    count = len(parts)
    rows, skipped = parts.join(output)
    return Summary(rows, skipped, count, count - len(numbers))


def _list(clips: Stream, path: Path, part: int) -> tuple[int, str, tuple[str, ...]]:
    """Writes the listing; returns how many clips it has, its digest, and the labels in the order of their names."""
    digest, labels, count = sha256(), set(), 0

    def noted(utterances: Iterable[Utterance]) -> Iterator[Utterance]:
        nonlocal count
        last = None
        for utterance in utterances:
            if utterance.key == last:
                raise DatasetError(f"data set '{clips.name}' names clip '{last}' twice; expected it once")
            last, count = utterance.key, count + 1
            labels.add(utterance.label)
            facts: list[Any] = [str(utterance.path), utterance.key, utterance.label, utterance.speaker, utterance.crop]
            digest.update(json.dumps(facts).encode())
            yield utterance

    table.write_all(path, table.listing_tables(noted(clips.utterances), part), {}, part)
    if not count:
        raise DatasetError(f"data set '{clips.name}' has no clips; expected at least one")
    return count, digest.hexdigest(), tuple(sorted(labels))


def _check_same(parts: Parts, job: Job) -> None:
    try:
        before = parts.job
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ExecutorError(f"'{parts.folder / JOB}' is damaged; delete '{parts.folder}' and start again") from error
    # Finished parts are as good under another --on-error; `is_done` refuses those that "raise" would not have made.
    if replace(before, note=job.note, on_error=job.on_error) == job:
        return
    others = ("note", "clips", "on_error")
    changed = [name for name, value in asdict(job).items() if name not in others and value != getattr(before, name)]
    names = {"digest": "list of clips", "part": "--part", "batch_size": "--batch-size"}
    what = ", ".join(names.get(name, name) for name in changed)
    raise ExecutorError(
        f"'{parts.folder}' holds parts of an unfinished run with another {what}; "
        "repeat that run to finish it, or delete the folder to start again"
    )


def _check_finished(output: Path, job: Job, listing: table.Listing) -> None:
    """A finished table is only written over by the job that made it, with the clips that came since: nothing is lost.

    Raises:
        ExecutorError: the file is of another encoder or other clips, or is something else.
    """
    remedy = "choose another --output, or remove the file"
    if not output.is_file() or not output.stat().st_size:
        return
    try:
        rows, about = table.footer(output)
        other = _other(job, about) or _lost(output, listing)
    except table.DamagedTableError:
        return
    except TableError as error:
        raise ExecutorError(
            f"'{output}' is there already, and is not a table that 'kws-imagebind embed' wrote; {remedy}"
        ) from error
    if other:
        raise ExecutorError(
            f"'{output}' already holds {counted(rows, 'vector')} of {_described(about)} by encoder "
            f"'{about.get('encoder')}' ({about.get('fingerprint')}), and {other}; {remedy}"
        )


def _other(job: Job, about: Mapping[str, Any]) -> str:
    """What is asked for that a table does not say of itself; empty where all is the same."""
    if about.get("fingerprint") != job.fingerprint:
        return f"encoder '{job.encoder}' ({job.fingerprint}) is asked for"
    asked = asdict(job)
    names = ["dataset", "split", "task"]
    if all(about.get(name) == asked[name] for name in names) and (
        job.task != "custom" or set(job.keywords) == set(about.get("keywords", ()))
    ):
        return ""
    return f"{_described(asked)} is asked for"


def _described(about: Mapping[str, Any]) -> str:
    split = f", split '{about['split']}'" if about.get("split") else ""
    keywords = listed(about.get("keywords") or (), most=5)
    words = f" ({keywords})" if about.get("task") == "custom" else f", task '{about.get('task')}'"
    return f"data set '{about.get('dataset')}'{split}{words}"


def _lost(output: Path, listing: table.Listing) -> str:
    """A clip of a table that is not listed; both have the same order."""
    asked = (table.row(utterance, "") for group in range(len(listing)) for utterance in listing[group])
    for row in table.rows_of(output):
        if not any(table.is_same_clip(row, each) for each in asked):
            return f"'{row.path}' among them is not among the clips asked for"
    return ""


def _last_change(path: Path) -> float:
    """When a file was last changed, in seconds; 0 where it is not there, for then it cannot be read again."""
    with suppress(OSError):
        status = path.stat()
        return max(status.st_mtime, status.st_ctime)
    return 0.0

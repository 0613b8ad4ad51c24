"""A data set through an encoder: read ahead, encoded in batches, and kept, so that no clip is ever encoded twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Literal, cast, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from kws_imagebind.audio.files import decode, read_bytes
from kws_imagebind.audio.signal import AudioError, is_silent
from kws_imagebind.datasets import Dataset, Utterance
from kws_imagebind.datasets.base import ClipIdentity, DatasetError, Kind
from kws_imagebind.datasets.folder import check_picture
from kws_imagebind.datasets.waveforms import cropped
from kws_imagebind.embeddings.store import EmbeddingStore
from kws_imagebind.encoders import Encoder
from kws_imagebind.encoders.base import EncoderError, ImageEncoder, audio_fingerprint, check_encoder, check_vectors
from kws_imagebind.encoders.cards import Card, card_of
from kws_imagebind.text.tasks import SILENCE

BATCH = 64  # clips
OnError = Literal["raise", "skip"]
Progress = Callable[[int, int], object]  # clips done, clips in all


@dataclass(frozen=True)
class Skipped:
    """A recording that could not be used, and why."""

    key: str
    reason: str


@dataclass(frozen=True)
class Embeddings:
    """The vectors of a data set's clips, in its order.

    Attributes:
        features: (n, dim) float32, unit norm.
        targets: (n,) int64, indices into the data set's keywords.
        utterances: the n clips behind them.
        dataset: where they are from; it may hold more clips than n where some were skipped.
        encoder: name of the encoder.
        fingerprint: of the encoder.
        skipped: clips of the data set that could not be used.
        cached: how many clips were found in the cache, with their copies.
        encoded: how many recordings were encoded; copies of a recording are encoded once.
        seconds: what looking up, decoding and encoding took.
        precision: of the encoder's arithmetic.
        padding: what the encoder does with recordings of other lengths than its own.
        card: what is known of the encoder.
        contents: the n clips' content keys: the hexadecimal sha256 of a file's bytes, or of that and the part of the
            file that the clip is. Equal keys are the same sound, whatever the files are called.
        silent: keys of the clips that are digital silence although their label is a word.
    """

    features: Tensor
    targets: Tensor
    utterances: tuple[Utterance, ...]
    dataset: Dataset
    encoder: str
    fingerprint: str
    skipped: tuple[Skipped, ...] = ()
    cached: int = 0
    encoded: int = 0
    seconds: float = 0.0
    precision: str = "unknown"
    padding: str = "unknown"
    card: Card | None = None
    contents: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.utterances)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a Parquet table, one row a clip; as `embeddings.table.save`."""
        from kws_imagebind.embeddings import table

        table.save(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Embeddings:
        """Embeddings from a table; as `embeddings.table.load`."""
        from kws_imagebind.embeddings import table

        return table.load(path)

    def select(self, rows: Sequence[int]) -> Embeddings:
        """Some of the clips, in that order."""
        contents = tuple(self.contents[row] for row in rows) if self.contents else ()
        keys = {self.utterances[row].key for row in rows}
        return replace(
            self,
            features=self.features[list(rows)],
            targets=self.targets[list(rows)],
            utterances=tuple(self.utterances[row] for row in rows),
            contents=contents,
            silent=tuple(key for key in self.silent if key in keys),
        )

    @property
    def identities(self) -> tuple[ClipIdentity, ...]:
        """Who said what in each clip. Vectors stand for the contents of embeddings that were made by hand."""
        contents = self.contents or [sha256(row.tobytes()).hexdigest() for row in self.features.numpy()]
        return tuple(
            ClipIdentity(content, utterance.speaker)
            for content, utterance in zip(contents, self.utterances, strict=True)
        )


def embed(
    encoder: Encoder,
    dataset: Dataset,
    cache: str | Path | None = None,
    batch_size: int = BATCH,
    on_error: OnError = "raise",
    progress: bool | Progress = False,
) -> Embeddings:
    """Encodes every clip of a data set, or finds it in the cache.

    A run that is killed keeps its finished batches in the cache; run again, it goes on from there. A file's bytes are
    read once: what is hashed for the cache is what is decoded.

    A clip of digital silence (every sample the same) says no word, but the protocol of a data set counts it: it is
    encoded like any other, and listed in `Embeddings.silent` unless its label says that it is silence.

    Args:
        encoder: what to encode with.
        dataset: the clips.
        cache: folder of the cache, or None for none.
        batch_size: clips encoded at once; it changes the speed and not the numbers.
        on_error: "raise" stops at the first unusable recording, "skip" lists them in `Embeddings.skipped`.
        progress: whether to show a bar on stderr, or what is called after each batch with the clips done and all clips.

    Raises:
        AudioError: an unusable recording, or with "skip", when no recording can be used.
        DatasetError: an unusable picture, as for a recording.
        CacheError: the cache cannot be used.
        EncoderError: the encoder lacks an attribute, takes no pictures where there are some, or returns something
            other than unit vectors.
    """
    found = embed_some(encoder, dataset, cache, batch_size, on_error, progress)
    if not len(found):
        what = "recordings" if dataset.kind == "audio" else "pictures"
        raise AudioError(f"none of the {len(dataset)} {what} can be used; the first: {found.skipped[0].reason}")
    return found


def embed_some(
    encoder: Encoder,
    dataset: Dataset,
    cache: str | Path | None = None,
    batch_size: int = BATCH,
    on_error: OnError = "raise",
    progress: bool | Progress = False,
) -> Embeddings:
    """As `embed`, for a part of a data set: with "skip", it may be that no clip is left."""
    if batch_size < 1 or on_error not in get_args(OnError):
        raise ValueError(f"batch size {batch_size}, on error {on_error!r}; expected at least 1, and 'raise' or 'skip'")
    encoder, started = check_encoder(encoder), time.perf_counter()
    check_kind(encoder, dataset.kind)
    table = _Table(dataset, encoder)
    with (
        # Audio and picture towers share a fingerprint, and pictures are few: they are not kept.
        _store(encoder, cache if dataset.kind == "audio" else None) as store,
        _Bar(progress, len(dataset), f"encoding with {encoder.name}") as bar,
    ):
        reader = _Reader(store, encoder.sample_rate, on_error, dataset.kind)

        def added(group: list[_Clip]) -> list[_Clip]:
            new = table.add(group)
            bar.update(len(group) - len(new))
            return new

        groups = _in_turn(reader.read, enumerate(dataset.utterances), batch_size)
        for batch in _full(map(added, groups), batch_size):
            if dataset.kind == "image":
                _encode_pictures(batch, encoder, table)
            else:
                _encode(batch, encoder, table, store)
            bar.update(len(batch))
    return table.embeddings(encoder, time.perf_counter() - started)


def check_kind(encoder: Encoder, kind: Kind) -> None:
    """Says before any file is read whether an encoder takes files of a kind.

    Raises:
        EncoderError: it does not.
    """
    if kind == "image" and not isinstance(encoder, ImageEncoder):
        raise EncoderError(f"encoder '{encoder.name}' takes no pictures; imagebind does, with its vision tower")


def _store(encoder: Encoder, cache: str | Path | None) -> AbstractContextManager[EmbeddingStore | None]:
    if cache is None:
        return nullcontext()
    return EmbeddingStore(Path(cache), audio_fingerprint(encoder), encoder.dim)


@dataclass(frozen=True)
class _Clip:
    """A clip of the data set, and one of these: its vector from the cache, its waveform, a picture, or why not.

    Attributes:
        index: its place in the data set.
        content: its content key.
        picture: the file, where the clip is a picture.
        problem: why it cannot be used.
        silent: whether the waveform is digital silence.
    """

    index: int
    content: bytes = b""
    vector: Tensor | None = None
    waveform: Tensor | None = None
    picture: Path | None = None
    problem: str | None = None
    silent: bool = False


class _Reader:
    """Clips to vectors from the cache, or else to waveforms. Only what the cache does not know is read or decoded."""

    def __init__(self, store: EmbeddingStore | None, sample_rate: int, on_error: OnError, kind: Kind) -> None:
        self._store, self._rate, self._on_error, self._kind = store, sample_rate, on_error, kind
        self._last: tuple[Path, bytes, Tensor] | None = None  # a file decoded: the next clip may be another part of it

    def read(self, clips: Sequence[tuple[int, Utterance]]) -> list[_Clip]:
        """What is known of some clips, in their order.

        Raises:
            AudioError: a recording cannot be used, and that is to be raised.
        """
        paths = {utterance.path for _, utterance in clips}
        known = self._store.known(paths) if self._store else {}
        wanted = {_content(known[u.path], u.crop) for _, u in clips if u.path in known}
        vectors = self._store.get(wanted) if self._store else {}
        fresh: list[tuple[Path, os.stat_result, bytes]] = []
        read = [self._clip(index, utterance, known, vectors, fresh) for index, utterance in clips]
        if self._store:
            self._store.remember(fresh)
        return read

    def _clip(
        self,
        index: int,
        utterance: Utterance,
        known: dict[Path, bytes],
        vectors: dict[bytes, Tensor],
        fresh: list[tuple[Path, os.stat_result, bytes]],
    ) -> _Clip:
        if utterance.path in known:
            content = _content(known[utterance.path], utterance.crop)
            if content in vectors:
                return _Clip(index, content, vectors[content])
        try:
            if self._kind == "image":
                return _Clip(index, check_picture(utterance.path), picture=utterance.path)
            return self._from_file(index, utterance, fresh)
        except (AudioError, DatasetError) as error:
            if self._on_error == "raise":
                raise
            return _Clip(index, problem=str(error))

    def _from_file(self, index: int, utterance: Utterance, fresh: list[tuple[Path, os.stat_result, bytes]]) -> _Clip:
        if self._last and self._last[0] == utterance.path and utterance.crop:
            _, file, waveform = self._last
        else:
            data, status = read_bytes(utterance.path)
            file = sha256(data).digest()
            if status:
                fresh.append((utterance.path, status, file))
            content = _content(file, utterance.crop)
            found = self._store.get([content]) if self._store else {}
            if found:  # the same bytes under another name
                return _Clip(index, content, found[content])
            waveform = decode(data, utterance.path, self._rate)
            self._last = (utterance.path, file, waveform)
        clip = cropped(waveform, utterance, self._rate)
        return _Clip(index, _content(file, utterance.crop), waveform=clip, silent=is_silent(clip))


def _content(file: bytes, crop: tuple[float, float] | None) -> bytes:
    """The content key of a clip: that of its file, or of the file and the part of it."""
    return sha256(file + f"{crop}".encode()).digest() if crop else file


def _in_turn(
    read: Callable[[Sequence[tuple[int, Utterance]]], list[_Clip]], clips: Iterable[tuple[int, Utterance]], size: int
) -> Iterator[list[_Clip]]:
    """Clips in groups of `size`, the next one being read while this one is encoded."""
    clips = iter(clips)
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(read, list(islice(clips, size)))
        while group := ahead.result():
            ahead = thread.submit(read, list(islice(clips, size)))
            yield group


def _full(groups: Iterable[list[_Clip]], size: int) -> Iterator[list[_Clip]]:
    """The same clips in groups of `size`; the last may be smaller."""
    waiting: list[_Clip] = []
    for group in groups:
        waiting += group
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting:
        yield waiting


def _encode(batch: Sequence[_Clip], encoder: Encoder, table: _Table, store: EmbeddingStore | None) -> None:
    waveforms = [clip.waveform for clip in batch if clip.waveform is not None]
    vectors = check_vectors(encoder.encode_audio(waveforms), len(batch), encoder)
    table.place(batch, vectors)
    # Silence is not kept, so that the next run hears again that it is silence.
    kept = [i for i, clip in enumerate(batch) if not clip.silent]
    if store and kept:
        store.put([batch[i].content for i in kept], vectors[kept])


def _encode_pictures(batch: Sequence[_Clip], encoder: Encoder, table: _Table) -> None:
    paths = [clip.picture for clip in batch if clip.picture is not None]
    table.place(batch, check_vectors(cast(ImageEncoder, encoder).encode_image(paths), len(batch), encoder))


class _Table:
    """What becomes of each clip: the row of a vector, or the reason why there is none."""

    def __init__(self, dataset: Dataset, encoder: Encoder) -> None:
        self._dataset = dataset
        self._features = torch.empty(len(dataset), encoder.dim)
        self._contents: list[bytes] = [b""] * len(dataset)
        self._first: dict[bytes, int] = {}  # of the clips with this content, the one whose vector is that of all
        self._encoded: set[int] = set()
        self._skipped: dict[int, Skipped] = {}
        self._silent: list[str] = []

    def add(self, clips: Iterable[_Clip]) -> list[_Clip]:
        """Notes the next clips, and returns those that are yet to be encoded, one for each content."""
        new = []
        for clip in clips:
            utterance = self._dataset.utterances[clip.index]
            if clip.problem:
                self._skipped[clip.index] = Skipped(utterance.key, clip.problem)
                continue
            self._contents[clip.index] = clip.content
            if clip.silent and utterance.label.strip("_").casefold() != SILENCE:
                self._silent.append(utterance.key)
            if self._first.setdefault(clip.content, clip.index) != clip.index:
                continue
            if clip.vector is None:
                new.append(clip)
            else:
                self._features[clip.index] = clip.vector
        return new

    def place(self, clips: Sequence[_Clip], vectors: Tensor) -> None:
        """The vectors (n, dim) of n clips that were encoded."""
        for clip, vector in zip(clips, vectors, strict=True):
            self._features[clip.index] = vector
            self._encoded.add(clip.index)

    def embeddings(self, encoder: Encoder, seconds: float) -> Embeddings:
        """The table, without the clips that were skipped."""
        kept = [index for index in range(len(self._dataset)) if index not in self._skipped]
        skipped = tuple(self._skipped.values())
        rows = [self._first[self._contents[index]] for index in kept]
        whole = rows == list(range(len(self._dataset)))
        return Embeddings(
            features=self._features if whole else self._features[rows],
            targets=self._dataset.targets[kept],
            utterances=tuple(self._dataset.utterances[index] for index in kept),
            dataset=self._dataset,
            encoder=encoder.name,
            fingerprint=encoder.fingerprint,
            skipped=skipped,
            cached=sum(row not in self._encoded for row in rows),
            encoded=len(self._encoded),
            seconds=seconds,
            precision=getattr(encoder, "precision", "unknown"),
            padding=getattr(encoder, "padding", "unknown"),
            card=card_of(encoder),
            contents=tuple(self._contents[index].hex() for index in kept),
            silent=tuple(self._silent),
        )


class _Bar:
    """A bar on stderr, or a call for each step."""

    def __init__(self, progress: bool | Progress, total: int, title: str) -> None:
        self._bar = tqdm(total=total, unit="clip", desc=title, disable=progress is not True)
        self._report = progress if callable(progress) else None
        self._done, self._total = 0, total
        if self._report:
            self._report(0, total)

    def update(self, count: int) -> None:
        self._done += count
        self._bar.update(count)
        if self._report and count:
            self._report(self._done, self._total)

    def __enter__(self) -> _Bar:
        self._bar.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.__exit__(*raised)

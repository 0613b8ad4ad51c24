"""A data set through an encoder: decoded ahead, encoded in batches, and kept, so that no clip is ever encoded twice."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from kws_imagebind.audio.signal import AudioError
from kws_imagebind.datasets import Dataset, Utterance
from kws_imagebind.datasets.waveforms import load_utterance
from kws_imagebind.embeddings.store import EmbeddingStore
from kws_imagebind.encoders import Encoder
from kws_imagebind.encoders.base import check_vectors
from kws_imagebind.encoders.cards import Card, card_of

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
        cached: how many clips were found in the cache.
        encoded: how many recordings were encoded; copies of a recording are encoded once.
        seconds: what looking up, decoding and encoding took.
        precision: of the encoder's arithmetic.
        padding: what the encoder does with recordings of other lengths than its own.
        card: what is known of the encoder.
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

    def __len__(self) -> int:
        return len(self.utterances)


def embed(
    encoder: Encoder,
    dataset: Dataset,
    cache: str | Path | None = None,
    batch_size: int = BATCH,
    on_error: OnError = "raise",
    progress: bool | Progress = False,
) -> Embeddings:
    """Encodes every clip of a data set, or finds it in the cache.

    A run that is killed keeps its finished batches in the cache; run again, it goes on from there.

    Args:
        encoder: what to encode with.
        dataset: the clips.
        cache: folder of the cache, or None for none.
        batch_size: clips encoded at once; it changes the speed and not the numbers.
        on_error: "raise" stops at the first unusable recording, "skip" lists them in `Embeddings.skipped`.
        progress: whether to show a bar on stderr, or what is called after each batch with the clips done and all clips.

    Raises:
        AudioError: an unusable recording, or with "skip", when no recording can be used.
        CacheError: the cache cannot be read or written.
    """
    if batch_size < 1 or on_error not in get_args(OnError):
        raise ValueError(f"batch size {batch_size}, on error {on_error!r}; expected at least 1, and 'raise' or 'skip'")
    started = time.perf_counter()
    with EmbeddingStore(Path(cache), encoder.fingerprint, encoder.dim) if cache is not None else nullcontext() as store:
        paths = [utterance.path for utterance in dataset.utterances]
        known = store.contents(paths) if store else [None] * len(paths)
        # A file that cannot be read, or need not be before it is decoded, goes by its path.
        contents = [content or _name(path) for content, path in zip(known, paths, strict=True)]
        contents = _cropped(contents, dataset.utterances)
        vectors = store.get(contents) if store else {}
        clips = Counter(contents)
        cached = sum(count for content, count in clips.items() if content in vectors)
        todo: dict[bytes, Utterance] = {}  # one clip for each content: copies are encoded once
        skipped: dict[bytes, Skipped] = {}
        for utterance, content in zip(dataset.utterances, contents, strict=True):
            if content not in vectors:
                todo.setdefault(content, utterance)
        bar = _Bar(progress, len(dataset), cached, f"{encoder.name} hears")
        with bar:
            for batch in _decoded(list(todo.items()), encoder.sample_rate, batch_size, on_error, skipped):
                heard = check_vectors(encoder.encode_audio([waveform for _, waveform in batch]), len(batch), encoder)
                hashes = [content for content, _ in batch]
                if store:
                    store.put(hashes, heard)
                vectors.update(zip(hashes, heard, strict=True))
                bar.update(sum(clips[content] for content in hashes))
            bar.update(sum(clips[content] for content in skipped))
    encoded = len(todo) - len(skipped)
    return _assemble(encoder, dataset, contents, vectors, skipped, cached, encoded, time.perf_counter() - started)


class _Bar:
    """A bar on stderr, or whoever else wants to know how far it is."""

    def __init__(self, progress: bool | Progress, total: int, done: int, title: str) -> None:
        self._bar = tqdm(total=total, initial=done, unit="clip", desc=title, disable=progress is not True)
        self._tell = progress if callable(progress) else None
        self._done, self._total = done, total
        if self._tell:
            self._tell(done, total)

    def update(self, count: int) -> None:
        self._done += count
        self._bar.update(count)
        if self._tell and count:
            self._tell(self._done, self._total)

    def __enter__(self) -> None:
        self._bar.__enter__()

    def __exit__(self, *raised: object) -> None:
        self._bar.__exit__(*raised)


def _name(path: Path) -> bytes:
    """Stands for the content of a file that has not been read."""
    return sha256(b"path:" + os.fsencode(path)).digest()


def _cropped(contents: Sequence[bytes], utterances: Sequence[Utterance]) -> list[bytes]:
    """Contents that tell the crops of one file apart."""
    return [
        sha256(content + f"{utterance.crop}".encode()).digest() if utterance.crop else content
        for content, utterance in zip(contents, utterances, strict=True)
    ]


def _decoded(
    todo: Sequence[tuple[bytes, Utterance]],
    sample_rate: int,
    batch_size: int,
    on_error: OnError,
    skipped: dict[bytes, Skipped],
) -> Iterator[list[tuple[bytes, Tensor]]]:
    """Batches of decoded clips, the next one being decoded while this one is encoded."""
    batches = [todo[start : start + batch_size] for start in range(0, len(todo), batch_size)]

    def decode(batch: Sequence[tuple[bytes, Utterance]]) -> list[tuple[bytes, Utterance, Tensor | AudioError]]:
        return [(content, utterance, _try_to_load(utterance, sample_rate)) for content, utterance in batch]

    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(decode, batches[0]) if batches else None
        for following in [*batches[1:], None]:
            if ahead is None:
                return
            loaded = ahead.result()
            ahead = thread.submit(decode, following) if following is not None else None
            usable = []
            for content, utterance, waveform in loaded:
                if isinstance(waveform, Tensor):
                    usable.append((content, waveform))
                elif on_error == "skip":
                    skipped[content] = Skipped(utterance.key, str(waveform))
                else:
                    raise waveform
            if usable:
                yield usable


def _try_to_load(utterance: Utterance, sample_rate: int) -> Tensor | AudioError:
    try:
        return load_utterance(utterance, sample_rate)
    except AudioError as error:
        return error


def _assemble(
    encoder: Encoder,
    dataset: Dataset,
    contents: Sequence[bytes],
    vectors: dict[bytes, Tensor],
    skipped: dict[bytes, Skipped],
    cached: int,
    encoded: int,
    seconds: float,
) -> Embeddings:
    kept, missing = [], []
    for index, (utterance, content) in enumerate(zip(dataset.utterances, contents, strict=True)):
        if content in vectors:
            kept.append((index, vectors[content]))
        else:
            missing.append(Skipped(utterance.key, skipped[content].reason))
    if not kept:
        raise AudioError(f"none of the {len(dataset)} recordings can be used; the first: {missing[0].reason}")
    indices = [index for index, _ in kept]
    return Embeddings(
        features=torch.stack([vector for _, vector in kept]),
        targets=dataset.targets[indices],
        utterances=tuple(dataset.utterances[index] for index in indices),
        dataset=dataset,
        encoder=encoder.name,
        fingerprint=encoder.fingerprint,
        skipped=tuple(missing),
        cached=cached,
        encoded=encoded,
        seconds=seconds,
        precision=getattr(encoder, "precision", "unknown"),
        padding=getattr(encoder, "padding", "unknown"),
        card=card_of(encoder),
    )

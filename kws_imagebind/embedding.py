"""A data set through an encoder: decoded ahead, encoded in batches, and kept, so that no clip is ever encoded twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from kws_imagebind.audio import AudioError, load_audio
from kws_imagebind.cache import EmbeddingStore
from kws_imagebind.datasets import Dataset, Utterance
from kws_imagebind.encoders import Encoder

BATCH = 64  # clips
OnError = Literal["raise", "skip"]


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
        cached: how many vectors came from the cache.
        seconds: what the rest took, decoding included.
        precision: of the encoder's arithmetic.
        padding: what the encoder does with recordings of other lengths than its own.
    """

    features: Tensor
    targets: Tensor
    utterances: tuple[Utterance, ...]
    dataset: Dataset
    encoder: str
    fingerprint: str
    skipped: tuple[Skipped, ...] = ()
    cached: int = 0
    seconds: float = 0.0
    precision: str = "unknown"
    padding: str = "unknown"

    def __len__(self) -> int:
        return len(self.utterances)


def embed(
    encoder: Encoder,
    dataset: Dataset,
    cache: str | Path | None = None,
    batch_size: int = BATCH,
    on_error: OnError = "raise",
    progress: bool = False,
) -> Embeddings:
    """Encodes every clip of a data set, or finds it in the cache.

    A run that is killed keeps its finished batches in the cache; run again, it goes on from there.

    Args:
        encoder: what to encode with.
        dataset: the clips.
        cache: folder of the cache, or None for none.
        batch_size: clips encoded at once; it changes the speed and not the numbers.
        on_error: "raise" stops at the first unusable recording, "skip" lists them in `Embeddings.skipped`.
        progress: whether to show a bar on stderr.

    Raises:
        AudioError: an unusable recording, or with "skip", when no recording can be used.
        CacheError: the cache cannot be read or written.
    """
    if batch_size < 1:
        raise ValueError(f"batch size {batch_size}; expected at least 1")
    started = time.perf_counter()
    store = EmbeddingStore(Path(cache), encoder.fingerprint, encoder.dim) if cache is not None else None
    paths = [utterance.path for utterance in dataset.utterances]
    contents = _cropped(store.contents(paths) if store else [_name(path) for path in paths], dataset.utterances)
    vectors = store.get(content for content in contents if content) if store else {}
    cached = sum(content in vectors for content in contents)
    todo: dict[bytes, Utterance] = {}  # one clip for each content: copies are encoded once
    skipped: dict[bytes, Skipped] = {}
    for utterance, content in zip(dataset.utterances, contents, strict=True):
        content = content or _name(utterance.path)  # unreadable, which decoding will put into words
        if content not in vectors:
            todo.setdefault(content, utterance)
    bar = tqdm(total=len(dataset), initial=cached, unit="clip", desc=f"{encoder.name} hears", disable=not progress)
    for batch in _decoded(list(todo.items()), encoder.sample_rate, batch_size, on_error, skipped):
        encoded = encoder.encode_audio([waveform for _, waveform in batch])
        hashes = [content for content, _ in batch]
        if store:
            store.put(hashes, encoded)
        vectors.update(zip(hashes, encoded, strict=True))
        bar.update(len(batch))
    bar.close()
    if store:
        store.close()
    return _assemble(encoder, dataset, contents, vectors, skipped, cached, time.perf_counter() - started)


def _name(path: Path) -> bytes:
    """Stands for the content of a file that has not been read."""
    return sha256(b"path:" + str(path).encode()).digest()


def _cropped(contents: Sequence[bytes | None], utterances: Sequence[Utterance]) -> list[bytes | None]:
    """Contents that tell the crops of one file apart."""
    return [
        sha256(content + f"{utterance.crop}".encode()).digest() if content and utterance.crop else content
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
        waveform = load_audio(utterance.path, sample_rate)
        if utterance.crop is None:
            return waveform
        start, seconds = utterance.crop
        first = round(start * sample_rate)
        return waveform[first : first + round(seconds * sample_rate)]
    except AudioError as error:
        return error


def _assemble(
    encoder: Encoder,
    dataset: Dataset,
    contents: Sequence[bytes | None],
    vectors: dict[bytes, Tensor],
    skipped: dict[bytes, Skipped],
    cached: int,
    seconds: float,
) -> Embeddings:
    kept, missing = [], []
    for index, (utterance, content) in enumerate(zip(dataset.utterances, contents, strict=True)):
        content = content or _name(utterance.path)
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
        seconds=seconds,
        precision=getattr(encoder, "precision", "unknown"),
        padding=getattr(encoder, "padding", "unknown"),
    )

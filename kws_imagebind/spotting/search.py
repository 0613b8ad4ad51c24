"""Recordings that can be searched: long ones by window, and hits that name a place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.audio.files import duration, load_audio, stream_audio
from kws_imagebind.audio.signal import AudioError
from kws_imagebind.datasets.folder import is_audio, speaker_of
from kws_imagebind.embeddings.index import ClipIndex, VectorIndexError
from kws_imagebind.embeddings.table import Row
from kws_imagebind.encoders.base import Encoder, WindowEncoder, check_vectors
from kws_imagebind.encoders.cards import card_of
from kws_imagebind.spotting.windows import FAINTEST, batches, level, sliding_windows

HOP = 0.25  # s between the windows of a long recording
LONG = 1.5  # windows; a shorter recording is one clip
APART = 0.5  # s between the middles of two hits in one recording
DUPLICATE = 0.98  # cosine with the query from which a clip is the same sound again

Progress = Callable[[int, int], object]  # recordings done, recordings in all


@dataclass(frozen=True)
class Found:
    """A clip or a place in a recording that is near a query.

    Attributes:
        path: of the recording.
        key: the clip's name.
        start: seconds from the recording's beginning.
        seconds: how long the clip is; None is to the end of the recording.
        score: cosine with the query.
        label: the word it is labelled with; "" where nobody says.
        speaker: who speaks; None where unknown.
    """

    path: str
    key: str
    start: float
    seconds: float | None
    score: float
    label: str = ""
    speaker: str | None = None


def recordings(folder: Path) -> list[Path]:
    """All recordings in a folder and the folders in it, or the one that is named, in the order of their names.

    Raises:
        AudioError: there is none.
    """
    if folder.is_file():
        return [folder]
    found = sorted(
        path
        for path in folder.rglob("*")
        if is_audio(path)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise AudioError(f"{folder}: there is no recording in it; expected WAV, FLAC, Ogg or MP3 files")
    return found


def index_recordings(
    folder: Path,
    encoder: Encoder,
    kind: str = "exact",
    hop: float = HOP,
    skipped: list[str] | None = None,
    progress: Progress | None = None,
    window: float | None = None,
) -> ClipIndex:
    """An index of all recordings in a folder.

    Where the encoder hears a window of one length, longer recordings are indexed by windows; others are one clip each.
    Of long recordings a few seconds are in memory at a time. Silence is left out.

    Args:
        folder: searched with its folders; may be one recording.
        encoder: what encodes.
        kind: of the index.
        hop: seconds between windows.
        skipped: if given, unusable recordings are listed there, and not raised.
        progress: called after each recording.
        window: seconds of the windows of long recordings, at most what the encoder hears at once, which is the
            default. In running speech a shorter one leaves out a word's neighbours.

    Raises:
        AudioError: a recording cannot be used, or none holds any sound.
        VectorIndexError: the hop or the window is not above 0, the window is longer than what the encoder hears, or as
            `ClipIndex.build`.
    """
    check_window(encoder, window)
    if not hop > 0:
        raise VectorIndexError(f"a hop of {hop} s; expected more than 0, such as {HOP}")
    paths, rows, vectors = recordings(folder), [], []
    root = folder if folder.is_dir() else folder.parent
    for done, path in enumerate(paths, start=1):
        try:
            own, heard = _heard(path, root, encoder, hop, window)
            rows += own
            vectors.append(heard)
        except AudioError as error:
            if skipped is None:
                raise
            skipped.append(str(error))
        if progress:
            progress(done, len(paths))
    if not rows:
        raise AudioError(f"{folder}: none of the {len(paths):,} recordings holds any sound")
    windowed = hop if isinstance(encoder, WindowEncoder) else None
    return ClipIndex.build(
        rows, torch.cat(vectors).numpy(), encoder.name, encoder.fingerprint, card_of(encoder).as_dict(),
        kind, windowed,  # type: ignore[arg-type]
    )  # fmt: skip


def check_window(encoder: Encoder, window: float | None) -> None:
    """Says before any recording is read that an encoder cannot take windows of that length.

    Raises:
        VectorIndexError: it cannot.
    """
    if window is None:
        return
    if not isinstance(encoder, WindowEncoder):
        raise VectorIndexError(f"encoder '{encoder.name}' hears whole recordings; leave out the window")
    if not 0 < window <= encoder.window:
        raise VectorIndexError(f"a window of {window:g} s; expected more than 0 and at most {encoder.window:g}")


@torch.inference_mode()
def _heard(
    path: Path, root: Path, encoder: Encoder, hop: float, window: float | None = None
) -> tuple[list[Row], Tensor]:
    """Rows and (n, dim) vectors of one recording."""
    key, content = path.relative_to(root).as_posix(), _digest(path)
    label = path.parent.name if path.parent != root else ""
    seconds, speaker = duration(path), speaker_of(path.name)
    if not isinstance(encoder, WindowEncoder) or seconds <= LONG * encoder.window:
        vectors = check_vectors(encoder.encode_audio([load_audio(path, encoder.sample_rate)]), 1, encoder)
        return [Row(key, str(path), content, None, None, label, speaker)], vectors
    rows, heard = [], []
    rate, length = encoder.sample_rate, window or encoder.window
    windows = sliding_windows(iter(stream_audio(path, rate)), round(length * rate), round(hop * rate))
    middle = 0
    for batch in batches(windows):
        loud = [float(level(window, rate)) > FAINTEST for window in batch]
        chosen = [window for window, kept in zip(batch, loud, strict=True) if kept]
        if chosen:
            heard.append(check_vectors(encoder.encode_audio(chosen), len(chosen), encoder))
        for kept in loud:
            start = max(0.0, middle * hop - length / 2)
            end = min(seconds, middle * hop + length / 2)
            if kept:
                rows.append(Row(f"{key}#{start:.2f}", str(path), content, start, end - start, label, speaker))
            middle += 1
    return rows, torch.cat([torch.zeros(0, encoder.dim), *heard])


def find(
    index: ClipIndex,
    queries: NDArray[np.float32],
    top: int,
    without: Iterable[str] = (),
    duplicates: float | None = None,
) -> list[Found]:
    """The places nearest to a query, the best first; of places that overlap only the best.

    Args:
        index: of clips.
        queries: (q, dim) unit vectors; a place scores as the best of them.
        top: how many places; fewer come back where there are not so many.
        without: contents (SHA-256) of recordings to leave out.
        duplicates: leaves out clips whose cosine with the query is at least this.

    Raises:
        VectorIndexError: more are asked for than clips are indexed.
    """
    if not 1 <= top <= len(index):
        raise VectorIndexError(f"the best {top:,} are asked for; expected 1 to {len(index):,}, the clips indexed")
    excluded, count = frozenset(without), min(len(index), 8 * top)
    while True:
        hits, exhausted = _places(index, queries, count, top, excluded, duplicates), count == len(index)
        if len(hits) >= top or exhausted:
            return hits
        count = min(len(index), 8 * count)


def _places(
    index: ClipIndex,
    queries: NDArray[np.float32],
    count: int,
    top: int,
    excluded: frozenset[str],
    duplicates: float | None,
) -> list[Found]:
    best: dict[int, float] = {}
    for cosines, rows in zip(*index.index.search(queries, count), strict=True):
        for cosine, row in zip(cosines.tolist(), rows.tolist(), strict=True):
            if row >= 0:
                best[row] = max(cosine, best.get(row, -1.0))
    hits: list[Found] = []
    taken: dict[str, list[float]] = {}
    for row, score in sorted(best.items(), key=lambda pair: (-pair[1], pair[0])):
        clip = index.rows[row]
        if clip.content in excluded or (duplicates is not None and score >= duplicates):
            continue
        start = clip.start or 0.0
        middle = start + (clip.seconds or 0.0) / 2
        near = clip.start is not None and any(abs(middle - other) < APART for other in taken.get(clip.path, ()))
        if near:
            continue
        taken.setdefault(clip.path, []).append(middle)
        hits.append(Found(clip.path, clip.key, start, clip.seconds, score, clip.label, clip.speaker))
        if len(hits) == top:
            break
    return hits


def content_of(path: str | os.PathLike[str]) -> str:
    """The content by which a recording is recognised in an index of recordings, under whatever name."""
    return _digest(Path(path))


def same_recording(index: ClipIndex, path: str | os.PathLike[str]) -> set[str]:
    """Contents of the clips in an index that are of a recording: those with its bytes, and those at its path."""
    real = Path(path).resolve()
    return {content_of(path)} | {row.content for row in index.rows if row.content and Path(row.path).resolve() == real}


def snippet(found: Found, sample_rate: int, margin: float = 0.1) -> Tensor:
    """The waveform (samples,) of a hit, with a little before and after it.

    Raises:
        AudioError: the recording is not there any more.
    """
    if found.seconds is None:
        return load_audio(found.path, sample_rate)
    first = max(0, round((found.start - margin) * sample_rate))
    last = round((found.start + found.seconds + margin) * sample_rate)
    parts: list[Tensor] = []
    place = 0
    for block in stream_audio(found.path, sample_rate):
        if place + len(block) > first and place < last:
            parts.append(block[max(0, first - place) : last - place])
        place += len(block)
        if place >= last:
            break
    return torch.cat([torch.zeros(0), *parts])


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

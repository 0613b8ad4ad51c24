"""What PhoneBind learns from: spoken segments in shards on disk, each with its word, pronunciation and source.

A shard is a pair of files: `NAME.npy` (int16 samples of all its segments, end to end, at 16 kHz) and `NAME.tsv` (one
line a segment: samples, source, speaker, word, phonemes). A shard without its .tsv is unfinished.
The .tsv files together are the training manifest that the leak test and the model card read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws_imagebind.files import whole
from kws_imagebind.text.phonemes import Pronunciation
from kws_imagebind.training.corpora.vocabulary import is_excluded

SAMPLE_RATE = 16_000  # Hz
LONGEST = 1.25  # s; a longer segment is no word that a one-second window could hold
SHORTEST = 0.1  # s
_FRAME = 80  # samples: 5 ms
_COLUMNS = ("samples", "source", "speaker", "word", "phonemes")


@dataclass(frozen=True)
class Segment:
    """One spoken word or short phrase.

    Attributes:
        audio: int16 samples at 16 kHz, the peak near full scale, without silence around; empty in a manifest.
        source: what made it ("espeak-ng") or where it is from ("speechocean762").
        speaker: the voice or person, unique within the source.
    """

    audio: np.ndarray
    source: str
    speaker: str
    word: str
    pronunciation: Pronunciation


def condition(waveform: np.ndarray) -> np.ndarray | None:
    """A float waveform as a segment's audio: trimmed and scaled to the peak; None if no usable word is in it."""
    frames = waveform[: len(waveform) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if not len(frames) or not np.isfinite(waveform).all():
        return None
    peak = np.abs(waveform).max()
    if peak < 1e-3:
        return None
    loud = np.flatnonzero(np.sqrt((frames**2).mean(1)) > 0.012 * peak)
    if not len(loud):
        return None
    start, end = max(0, loud[0] * _FRAME - 320), (loud[-1] + 1) * _FRAME + 480
    trimmed = waveform[start:end]
    if not SHORTEST * SAMPLE_RATE <= len(trimmed) <= LONGEST * SAMPLE_RATE:
        return None
    return np.round(trimmed / peak * 30_000).astype(np.int16)


def write_shard(folder: Path, name: str, segments: Sequence[Segment]) -> None:
    """Writes both files of a shard, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    audio = np.concatenate([segment.audio for segment in segments]) if segments else np.zeros(0, np.int16)
    with whole(folder / f"{name}.npy") as part, part.open("wb") as samples:
        np.save(samples, audio)
    with whole(folder / f"{name}.tsv") as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, delimiter="\t", lineterminator="\n")
        rows.writerow(_COLUMNS)
        for segment in segments:
            phonemes = " ".join(segment.pronunciation)
            rows.writerow((len(segment.audio), segment.source, segment.speaker, segment.word, phonemes))


def is_written(folder: Path, name: str) -> bool:
    """Whether a shard is complete."""
    return (folder / f"{name}.tsv").is_file()


class Corpus:
    """The segments of several shards, their audio memory-mapped.

    A segment with a word that may not be learnt from is left out, should a shard be older than the rule.

    Raises:
        FileNotFoundError: the folder holds no finished shard.
    """

    def __init__(self, manifests: Iterable[Path]) -> None:
        self._audio: list[np.ndarray] = []
        self._spans: list[tuple[int, int, int]] = []  # shard, first sample, end
        self.segments: list[Segment] = []
        for shard, manifest in enumerate(sorted(manifests)):
            self._audio.append(np.load(manifest.with_suffix(".npy"), mmap_mode="r"))
            start = 0
            with manifest.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file, delimiter="\t"):
                    end = start + int(row["samples"])
                    self._spans.append((shard, start, end))
                    pronunciation = tuple(row["phonemes"].split())
                    self.segments.append(
                        Segment(np.zeros(0, np.int16), row["source"], row["speaker"], row["word"], pronunciation)
                    )
                    start = end
        if not self.segments:
            raise FileNotFoundError("no finished shard found; run kws_imagebind.training.corpora.synthesis first")

        permitted = [not any(map(is_excluded, segment.word.split())) for segment in self.segments]
        self.segments = [segment for segment, kept in zip(self.segments, permitted, strict=True) if kept]
        self._spans = [span for span, kept in zip(self._spans, permitted, strict=True) if kept]

    def __len__(self) -> int:
        return len(self.segments)

    def audio(self, index: int) -> np.ndarray:
        """The int16 samples of one segment."""
        shard, start, end = self._spans[index]
        return self._audio[shard][start:end]

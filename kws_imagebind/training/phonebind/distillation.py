"""Several PhoneBinds as the teacher of one: what their mean hears in clean speech, the student is to hear in all.

Models that were trained apart err apart, and the mean of their cosines is right more often than each of them. A
student that learns that mean keeps the size and the speed of one (Hinton et al. 2015, arXiv:1503.02531). The teacher
hears each segment clean and whole, once; the student hears it cut, warped and in noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from kws_imagebind.audio.signal import fit
from kws_imagebind.files import whole
from kws_imagebind.models.ensemble import Ensemble
from kws_imagebind.models.phonebind import SAMPLES, at_full_scale, load
from kws_imagebind.text.phonemes import Pronunciation
from kws_imagebind.training.corpora.shards import Corpus

ROWS = 256  # segments that the teachers hear, or pronunciations that they read, at once
SHARPNESS = 30.0  # what cosines are multiplied by before a softmax: with it they are about calibrated


@dataclass(frozen=True)
class Lessons:
    """What the teachers make of a corpus.

    Attributes:
        sounds: of each segment (segments, dims of all teachers), as an `Ensemble` hears it, so that a scalar product is
            the mean of the teachers' cosines.
        texts: the same of each pronunciation (pronunciations, dims of all teachers).
    """

    sounds: NDArray[np.float16]
    texts: Tensor

    def cosines(self, segments: NDArray[np.int64], pronunciations: NDArray[np.int64]) -> Tensor:
        """(segments, pronunciations): the mean of the teachers' cosines."""
        heard = torch.from_numpy(np.asarray(self.sounds[segments], np.float32))
        return heard @ self.texts[torch.from_numpy(pronunciations)].T


def prepare(teachers: Sequence[Path], corpus: Corpus, pronunciations: Sequence[Pronunciation], folder: Path) -> Lessons:
    """Lets the teachers hear every segment and read every pronunciation; what they hear is kept in `folder`.

    Args:
        teachers: files of weights.
        corpus: whose segments the student will hear.
        pronunciations: that the student reads.
        folder: of a run; the file in it is named after the teachers and the corpus.
    """
    teacher = Ensemble([load(path) for path in teachers])
    kept = folder / f"lessons-{_digest(teachers, corpus)}.npy"
    if not kept.is_file():
        with whole(kept) as part, part.open("wb") as file:
            np.save(file, _heard(teacher, corpus))
    return Lessons(np.load(kept, mmap_mode="r"), _read(teacher, pronunciations))


def distilled(cosines: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy with the teacher's softmax, and the mean squared error of the cosines; both (batch, candidates).

    >>> same = torch.tensor([[0.9, 0.1]])
    >>> distilled(same, same)[1].item()
    0.0
    """
    wanted = (SHARPNESS * expected).softmax(1)
    taught = -(wanted * (SHARPNESS * cosines).log_softmax(1)).sum(1).mean()
    return taught, F.mse_loss(cosines, expected)


def _digest(teachers: Sequence[Path], corpus: Corpus) -> str:
    digest = hashlib.sha256()
    for path in teachers:
        digest.update(path.read_bytes())
    for index, segment in enumerate(corpus.segments):
        digest.update(f"{segment.source}\t{segment.speaker}\t{segment.word}\n".encode())
        digest.update(corpus.audio(index).tobytes())
    return digest.hexdigest()[:16]


@torch.inference_mode()
def _heard(teacher: Ensemble, corpus: Corpus) -> NDArray[np.float16]:
    rows = []
    for start in tqdm(range(0, len(corpus), ROWS), desc="teachers hear", unit=f"x{ROWS}"):
        part = [
            torch.from_numpy(corpus.audio(index).astype(np.float32) / 32_768)
            for index in range(start, min(start + ROWS, len(corpus)))
        ]
        mel = teacher.mel(at_full_scale(torch.stack([fit(clip, SAMPLES) for clip in part])))
        with torch.autocast("cpu", torch.bfloat16):
            rows.append(teacher.hear(mel)[0].half().numpy())
    return np.concatenate(rows)


@torch.inference_mode()
def _read(teacher: Ensemble, pronunciations: Sequence[Pronunciation]) -> Tensor:
    starts = range(0, len(pronunciations), ROWS)
    return torch.cat([teacher.encode_text(pronunciations[start : start + ROWS]) for start in starts])

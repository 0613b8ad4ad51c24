"""Two more things to do with vectors that are there: learn from a few clips, and search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kws_imagebind.datasets.base import Utterance
from kws_imagebind.embeddings.embed import Embeddings
from kws_imagebind.embeddings.index import ClipIndex
from kws_imagebind.embeddings.table import Row
from kws_imagebind.evaluation.learning_curve import LearningCurve, learning_curve
from kws_imagebind.notebook.display import listen, tabulate
from kws_imagebind.readouts.arithmetic import combine
from kws_imagebind.readouts.support import sampling
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.search import find

READOUTS = ("class-mean", "text-held")
SHOTS = (1, 2, 4)
DRAWS = 5
PLAYED = 3  # hits with a player


def halves(audio: Embeddings, seed: int = 0) -> tuple[Embeddings, Embeddings]:
    """The clips of half of the voices, drawn with a seed, and the clips of the others."""
    speakers = sorted({utterance.speaker or utterance.key for utterance in audio.utterances})
    drawn = np.random.default_rng(seed).permutation(len(speakers))
    first = {speakers[place] for place in drawn[: (len(speakers) + 1) // 2].tolist()}
    inside = [(utterance.speaker or utterance.key) in first for utterance in audio.utterances]
    rows = range(len(audio))
    return audio.select([row for row in rows if inside[row]]), audio.select([row for row in rows if not inside[row]])


def few_examples(audio: Embeddings, scorer: ZeroShotClassifier, seed: int = 0) -> LearningCurve:
    """Read-outs that learn from clips of half of the voices, measured on the clips of the others.

    Raises:
        FewShotError: a word has too few clips, or the voices are unknown.
    """
    learn, reported = halves(audio, seed)
    return learning_curve([learn], reported, READOUTS, sampling("speakers"), SHOTS, DRAWS, scorer)


def search(audio: Embeddings, *queries: Tensor, top: int = 5, without: Sequence[Utterance] = ()) -> None:
    """A table of the clips nearest to a sum of queries, and players of the best.

    Args:
        audio: where to look.
        queries: (n, dim) unit vectors of texts or sounds, all of which are added.
        top: how many.
        without: clips to leave out, such as the one that is asked with.
    """
    known = [Row(clip.key, str(clip.path), label=clip.label, speaker=clip.speaker) for clip in audio.utterances]
    left_out = {clip.key for clip in without}
    index = ClipIndex.build(known, audio.features.numpy(), audio.encoder, audio.fingerprint)
    found = find(index, combine(torch.cat(queries))[None].numpy(), min(top + len(left_out), len(known)))
    hits = [hit for hit in found if hit.key not in left_out][:top]
    rows = [(f"{hit.score:.2f}", hit.label, hit.speaker or "unknown") for hit in hits]
    tabulate(("cosine", "it says", "voice"), rows)
    clips = {clip.key: clip for clip in audio.utterances}
    listen([clips[hit.key] for hit in hits[:PLAYED]])

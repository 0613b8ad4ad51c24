"""One recording, a list of words: which of them is it?"""

from __future__ import annotations

import os
from collections.abc import Sequence

from kws_imagebind.audio import AudioError, load_audio
from kws_imagebind.encoders import Encoder, load_encoder
from kws_imagebind.zero_shot import Average, ZeroShotClassifier

SILENCE = 1e-5  # of full scale, a third of the smallest step of 16 bits


def spot(
    path: str | os.PathLike[str],
    words: Sequence[str],
    encoder: Encoder | None = None,
    templates: Sequence[str] | None = None,
    average: Average = "embedding",
) -> list[tuple[str, float]]:
    """The words ranked by how well a recording fits them, as (label, cosine), the best first.

    Args:
        path: a recording of any format that libsndfile reads.
        words: labels, or 'label=/ARPAbet/'; a list, or a text such as 'yes,no'.
        encoder: the bundled PhoneBind by default.
        templates: sentences with '{}' for the word; by default the encoder's own.
        average: of several templates, "embedding" or "score".

    Raises:
        AudioError: the recording cannot be used, or holds only silence.
        KeywordError, PronunciationError: a word cannot be used.
    """
    encoder = encoder or load_encoder("phonebind")
    return rank(path, encoder, ZeroShotClassifier(encoder, words, templates, average))


def rank(path: str | os.PathLike[str], encoder: Encoder, scorer: ZeroShotClassifier) -> list[tuple[str, float]]:
    """As `spot`, with the words' prompts encoded before: for many recordings of the same words."""
    waveform = load_audio(path, encoder.sample_rate)
    if float(waveform.max() - waveform.min()) < SILENCE:
        raise AudioError(f"{path}: holds only silence, so there is no word to spot; record it again, closer")
    scores = scorer(encoder.encode_audio([waveform]))
    ranked = zip(scores.labels, scores.values[0].tolist(), strict=True)
    return sorted(ranked, key=lambda pair: -pair[1])

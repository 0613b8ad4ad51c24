"""A recording and a list of words: which of them is it?"""

from __future__ import annotations

import os
from collections.abc import Sequence

from torch import Tensor

from kws_imagebind.audio.files import duration, load_audio
from kws_imagebind.audio.signal import AudioError, is_silent
from kws_imagebind.encoders import Encoder, as_encoder
from kws_imagebind.encoders.base import WindowEncoder
from kws_imagebind.readouts.base import Average
from kws_imagebind.readouts.enrolment import Enrolment, Words, word_scorer
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.windows import Heard, listen

LONG = 1.5  # windows; a longer recording is searched, a shorter one is heard at once


def spot(
    path: str | os.PathLike[str],
    words: Words | Enrolment | os.PathLike[str],
    encoder: Encoder | str | None = None,
    templates: Sequence[str] | None = None,
    average: Average = "embedding",
) -> list[tuple[str, float]]:
    """The words ranked by how well a recording fits them, as (label, cosine), the best first.

    A recording of about a second is heard at once. In a longer one a window slides over it, and each word has the score
    of the place that fits it best; `detect` says where that is, and whether the word was said at all.

    Args:
        path: a recording of any format that `load_audio` reads, and of any length.
        words: labels, or 'label=/ARPAbet/'; a list, or a text such as 'yes,no'. Or enrolled words, or their file .kws.
        encoder: an encoder or its name; the bundled PhoneBind by default.
        templates: sentences with '{}' for the word; by default the encoder's own.
        average: of several templates, "embedding" or "score".

    Raises:
        AudioError: the recording cannot be used, or holds only silence.
        KeywordError, PronunciationError: a word cannot be used.
        EnrolmentError: enrolled words are of another encoder, or their file is damaged.
    """
    encoder = as_encoder(encoder)
    return rank(path, encoder, word_scorer(encoder, words, templates, average))


def rank(
    path: str | os.PathLike[str], encoder: Encoder, scorer: ZeroShotClassifier | Enrolment
) -> list[tuple[str, float]]:
    """As `spot`, with the words' prompts encoded before: for many recordings of the same words."""
    if isinstance(encoder, WindowEncoder) and is_long(path, encoder):
        return ranked(listen(path, encoder, scorer, scorer.weights), path)
    waveform = load_audio(path, encoder.sample_rate)
    if is_silent(waveform):
        raise _silent(path)
    return by_score(scorer.labels, scorer(encoder.encode_audio([waveform])).values[0])


def is_long(path: str | os.PathLike[str], encoder: WindowEncoder) -> bool:
    """Whether a recording is too long to be heard at once."""
    return duration(path) > LONG * encoder.window


def ranked(heard: Heard, path: str | os.PathLike[str]) -> list[tuple[str, float]]:
    """The words, each with the cosine of the place that fits it best.

    Raises:
        AudioError: it holds only silence.
    """
    audible = heard.audible
    if not audible.any():
        raise _silent(path)
    return by_score(heard.labels, heard.keywords[audible].amax(0))


def by_score(labels: Sequence[str], scores: Tensor) -> list[tuple[str, float]]:
    """Labels with their (labels,) scores, the best first."""
    return sorted(zip(labels, scores.tolist(), strict=True), key=lambda pair: -pair[1])


def _silent(path: str | os.PathLike[str]) -> AudioError:
    return AudioError(f"{path}: holds only silence, so there is no word to spot; record it again, closer")

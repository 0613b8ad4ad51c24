"""How sure it is that a word was said in a window, as a number from 0 to 1."""

from __future__ import annotations

import os
from collections import deque
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.encoders.base import Encoder, EncoderError, FrameEncoder, WindowEncoder
from kws_imagebind.readouts.base import Readout
from kws_imagebind.readouts.enrolment import Enrolment, Words, word_scorer
from kws_imagebind.readouts.fillers import filler_vectors
from kws_imagebind.spotting.spelling import Speller
from kws_imagebind.spotting.windows import FAINTEST, FAR_BELOW, HOP, LOUD, Ear, Fits, Heard
from kws_imagebind.text.phonemes import Pronunciation

LEAST = 0.01  # a lower score is none
LOUD_FOR = 60.0  # s over which the loud parts of a stream are known


class Judge:
    """What the windows of one stream are worth, in their order.

    A score weighs a window's cosine with a word against those with other words and, where the encoder spells what it
    hears, looks for the word's sounds one after another. Silence scores 0, and so does what is 40 dB below the loud
    parts of the last minute.

    Attributes:
        readout: of the words. Where it has `spoken`, a text of each word ("" for a word that is known by its sound
            alone), their pronunciations are looked for.

    Args:
        encoder: a `WindowEncoder`.
        words: labels, or 'label=/ARPAbet/'; enrolled words or their file .kws; or a read-out, such as a
            `ZeroShotClassifier`.

    Raises:
        EncoderError: the encoder has no window, or what its scores are worth is not known.
        KeywordError, PronunciationError: a word cannot be used.
        EnrolmentError: enrolled words are of another encoder, or their file is damaged.
    """

    def __init__(self, encoder: Encoder, words: Words | Readout | os.PathLike[str]) -> None:
        if not isinstance(encoder, WindowEncoder):
            raise EncoderError(f"encoder '{encoder.name}' does not find where in a recording a word is; phonebind does")
        known = isinstance(words, Readout) and not isinstance(words, Enrolment)  # whose encoder is checked
        self.readout = cast(Readout, words) if known else word_scorer(encoder, cast(Words, words))
        self.encoder, self.window = encoder, encoder.window
        self.labels = tuple(self.readout.labels)
        self.confidence = encoder.confidence()
        self.fillers = filler_vectors(encoder, self.readout)
        self.speech = encoder.speech_confidence() if isinstance(encoder, FrameEncoder) else None
        self.speller = Speller(self._readings()) if self.speech else None
        self.reset()

    def reset(self) -> None:
        """The next window is the first of another stream."""
        self._levels: deque[float] = deque(maxlen=round(LOUD_FOR / HOP))

    def ear(self) -> Ear:
        """What gives the windows of a stream."""
        return Ear(self.encoder, self.readout, self.fillers, self.speller)

    def _readings(self) -> list[tuple[Pronunciation, ...]]:
        """Of each word the ways to say it, if they are known."""
        texts = getattr(self.readout, "spoken", ("",) * len(self.labels))
        assert isinstance(self.encoder, FrameEncoder)
        return [self.encoder.pronunciations(text) if text else () for text in texts]

    def scores(self, fits: Fits | Heard) -> Tensor:
        """(windows, words) how sure it is that each was said, wherever there is something to hear."""
        fillers = fits.fillers.double()[:, None]
        scores = self.confidence(fits.keywords.double(), fillers.expand(-1, len(self.labels)))
        if self.speech and self.speller and fits.spelled is not None:
            phonemes, spread = self.speller.phonemes.double(), fits.spread.double()[:, None]
            known = phonemes.clamp_min(1)
            apart = fits.apart.double()[:, None]
            spelled = self.speech(fits.keywords.double(), fillers, spread, fits.spelled.double(), known, apart)
            scores = torch.where(phonemes > 0, spelled, scores)
        return scores

    def __call__(self, fits: Fits) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The windows that follow: (n,) numbers of their best words, and (n,) scores."""
        best = self.scores(fits).max(dim=1)
        scores = best.values.numpy()
        scores[~fits.inside | (scores < LEAST)] = 0
        for place, level in enumerate(fits.levels.tolist()):
            if level > FAINTEST:
                self._levels.append(level)
            if scores[place] and (level <= FAINTEST or level <= np.percentile(self._levels, LOUD) - FAR_BELOW):
                scores[place] = 0
        return best.indices.numpy(), scores

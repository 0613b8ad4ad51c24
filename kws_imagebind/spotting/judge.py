"""How sure it is that a word was said in a window, as a number from 0 to 1."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kws_imagebind.encoders.base import Encoder, EncoderError, WindowEncoder
from kws_imagebind.readouts.base import Readout
from kws_imagebind.readouts.fillers import filler_vectors
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.windows import FAINTEST, FAR_BELOW, HOP, LOUD, Ear, Fits

LEAST = 0.01  # a lower score is none
LOUD_FOR = 60.0  # s over which the loud parts of a stream are known


class Judge:
    """What the windows of one stream are worth, in their order.

    The best word of a window is that of the highest cosine; its score weighs this cosine against other words. Silence
    scores 0, and so does what is 40 dB below the loud parts of the last minute.

    Args:
        encoder: a `WindowEncoder`.
        words: labels, or 'label=/ARPAbet/'; or a read-out of them, such as a `ZeroShotClassifier`.

    Raises:
        EncoderError: the encoder has no window, or what its scores are worth is not known.
        KeywordError, PronunciationError: a word cannot be used.
    """

    def __init__(self, encoder: Encoder, words: Sequence[str] | Readout) -> None:
        if not isinstance(encoder, WindowEncoder):
            raise EncoderError(f"encoder '{encoder.name}' does not find where in a recording a word is; phonebind does")
        self.readout = words if isinstance(words, Readout) else ZeroShotClassifier(encoder, words)
        self.encoder, self.window = encoder, encoder.window
        self.labels = tuple(self.readout.labels)
        self.confidence = encoder.confidence()
        self.fillers = filler_vectors(encoder, self.readout)
        self.reset()

    def reset(self) -> None:
        """The next window is the first of another stream."""
        self._levels: deque[float] = deque(maxlen=round(LOUD_FOR / HOP))

    def ear(self) -> Ear:
        """What gives the windows of a stream."""
        return Ear(self.encoder, self.readout, self.fillers)

    def __call__(self, fits: Fits) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """The windows that follow: (n,) numbers of their best words, and (n,) scores."""
        best = fits.keywords.max(dim=1)
        scores = self.confidence(best.values.double(), fits.fillers.double()).numpy()
        scores[~fits.inside | (scores < LEAST)] = 0
        for place, level in enumerate(fits.levels.tolist()):
            if level > FAINTEST:
                self._levels.append(level)
            if scores[place] and (level <= FAINTEST or level <= np.percentile(self._levels, LOUD) - FAR_BELOW):
                scores[place] = 0
        return best.indices.numpy(), scores

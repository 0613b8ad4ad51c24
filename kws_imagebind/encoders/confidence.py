"""How sure it is that a keyword was said: its cosine and those of other words, as a number from 0 to 1.

Any word fits some filler words well, and noise fits none; a keyword fits itself better than either. What that is worth
depends on the weights, so the three numbers lie beside them, with the digest of the weights they are for.
`python -m kws_imagebind.training.phonebind.confidence` fits them.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kws_imagebind.files import check_bundled, whole

NEAREST = 10  # of the fillers, whose mean stands for how well a sound fits other words
THRESHOLD = 0.5  # where a word is taken to be said, unless a user says otherwise
LONG = 8.0  # phonemes, from which more do not count
QUIET = (5.0, 20.0)  # dB that a word stands out, from which it counts as said alone in part, and wholly
SUFFIX = ".confidence.json"  # in the place of the weights' own
BUNDLED = Path(__file__).parents[1] / "weights" / f"phonebind{SUFFIX}"


class ConfidenceError(ValueError):
    """Numbers that are missing, damaged or for other weights; the message gives the remedy."""


def remedy(path: Path) -> str:
    """What fits the numbers that a file lacks.

    >>> remedy(Path("phonebind-large.confidence.json"))
    "fit them with 'python -m kws_imagebind.training.phonebind.confidence --data DIR --encoder phonebind-large'"
    """
    return f"fit them with 'python -m kws_imagebind.training.phonebind.confidence --data DIR{_whose(path)}'"


def speech_remedy(path: Path) -> str:
    """What fits the numbers of running speech that a file lacks."""
    command = "python -m kws_imagebind.training.phonebind.running_speech --speech DIR --data DIR"
    return f"fit them with '{command}{_whose(path)}'"


def _whose(path: Path) -> str:
    return " --encoder phonebind-large" if path.name == f"phonebind-large{SUFFIX}" else ""


@dataclass(frozen=True)
class Confidence:
    """The logistic of a weighted sum.

    >>> sure = Confidence(keyword=20.0, fillers=-10.0, bias=-8.0)
    >>> [round(float(each), 2) for each in sure(torch.tensor([0.7, 0.1]), torch.tensor([0.4, 0.2]))]
    [0.88, 0.0]

    Attributes:
        keyword: weight of the cosine with the keyword.
        fillers: weight of the mean cosine with the `NEAREST` best fillers.
        bias: added to both.
    """

    keyword: float
    fillers: float
    bias: float

    def __call__(self, keyword: Tensor, fillers: Tensor) -> Tensor:
        """Cosines with the keyword and with fillers, of equal shape -> numbers from 0 to 1 of that shape."""
        return torch.sigmoid(self.keyword * keyword + self.fillers * fillers + self.bias)

    @classmethod
    def read(cls, path: Path, weights: str) -> Confidence:
        """The numbers in a file, if they are for the weights of this digest.

        Raises:
            ConfidenceError: they are for other weights, or the file is missing or damaged.
            FileProblem: the bundled file is damaged.
        """
        if path.parent == BUNDLED.parent:
            check_bundled(path)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            numbers = cls(*(float(found[name]) for name in ("keyword", "fillers", "bias")))
            own = found["weights"] == weights
        except FileNotFoundError:
            raise ConfidenceError(f"there is no '{path.name}' beside the weights; {remedy(path)}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfidenceError(f"'{path}' does not hold three numbers and a digest; {remedy(path)}") from error
        if not own:
            raise ConfidenceError(f"'{path}' is for other weights than those beside it; {remedy(path)}")
        if not all(math.isfinite(number) for number in asdict(numbers).values()):
            raise ConfidenceError(f"'{path}' holds a number that is not finite; {remedy(path)}")
        return numbers

    def write(self, path: Path, weights: str, notes: dict[str, Any]) -> None:
        """Writes the numbers, the digest of the weights they are for, and `notes`."""
        with whole(path) as part:
            part.write_text(
                json.dumps({"weights": weights, **asdict(self), **notes}, indent=2) + "\n", encoding="utf-8"
            )


@dataclass(frozen=True)
class Weighing:
    """A weighted sum of what is known of a keyword in a window, on the scale of logits."""

    keyword: float
    fillers: float
    spread: float
    spelling: float
    phonemes: float
    bias: float

    def __call__(self, keyword: Tensor, fillers: Tensor, spread: Tensor, match: Tensor, phonemes: Tensor) -> Tensor:
        """As `SpeechConfidence` takes them."""
        return (
            self.keyword * keyword
            + self.fillers * fillers
            + self.spread * spread
            - self.spelling * (match.clamp_max(0) / -phonemes).sqrt()
            + self.phonemes * phonemes.clamp_max(LONG)
            + self.bias
        )

    @classmethod
    def of(cls, found: dict[str, Any]) -> Weighing:
        """The numbers by their names.

        Raises:
            KeyError, TypeError, ValueError: one is missing or is not a finite number.
        """
        numbers = cls(*(float(found[field.name]) for field in fields(cls)))
        if not all(math.isfinite(number) for number in asdict(numbers).values()):
            raise ValueError("a number is not finite")
        return numbers


@dataclass(frozen=True)
class SpeechConfidence:
    """How sure it is that a keyword was said in a recording or a stream.

    The logistic of one of two weighted sums. `within` is for speech without pauses, which is full of words that are
    nearly the keyword, and whose neighbours share its window; `alone` is for a word with quiet before and after it.
    Where it is not quite quiet (`QUIET`), they are mixed. Both look at the spread of the cosines with fillers, which
    tells speech from noise, and at how well the keyword's sounds are spelled one after another (`spotting.spelling`),
    for each of them; the root of that counts, which forgives one sound that was not heard. A longer word is easier to
    tell from others, so its number of phonemes, up to `LONG`, moves the threshold.

    >>> from dataclasses import replace
    >>> within = Weighing(keyword=20.0, fillers=-10.0, spread=0.0, spelling=1.0, phonemes=0.1, bias=-8.0)
    >>> sure = SpeechConfidence(within, replace(within, bias=-6.0))
    >>> [round(float(sure(*map(torch.tensor, (0.6, 0.4, 0.1, match, 6.0, 0.0)))), 2) for match in (-0.5, -20.0)]
    [0.58, 0.23]
    >>> [round(float(sure(*map(torch.tensor, (0.6, 0.4, 0.1, -0.5, 6.0, quiet)))), 2) for quiet in (12.5, 30.0)]
    [0.79, 0.91]
    """

    within: Weighing
    alone: Weighing

    def __call__(
        self, keyword: Tensor, fillers: Tensor, spread: Tensor, match: Tensor, phonemes: Tensor, apart: Tensor
    ) -> Tensor:
        """Numbers from 0 to 1, of shapes that fit each other.

        Args:
            keyword: cosines with the keyword.
            fillers: the mean cosine with the `NEAREST` best fillers.
            spread: the standard deviation of the cosines with the fillers.
            match: `Speller`'s, at most 0.
            phonemes: how many the keyword has, at least 1.
            apart: dB by which the sound is louder than what is before and after it (`spotting.windows.apart`).
        """
        heard = (keyword, fillers, spread, match, phonemes)
        quiet = ((apart - QUIET[0]) / (QUIET[1] - QUIET[0])).clamp(0, 1)
        return torch.sigmoid((1 - quiet) * self.within(*heard) + quiet * self.alone(*heard))

    @classmethod
    def read(cls, path: Path) -> SpeechConfidence | None:
        """The numbers under "speech" in a file that `Confidence.read` has read; None if it holds none.

        Raises:
            ConfidenceError: they are damaged.
        """
        found = json.loads(path.read_text(encoding="utf-8")).get("speech")
        if found is None:
            return None
        try:
            return cls(Weighing.of(found["within"]), Weighing.of(found["alone"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfidenceError(f"'{path}' does not hold the numbers of 'speech'; {speech_remedy(path)}") from error

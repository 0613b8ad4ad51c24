"""The bundled sample: the 35 words of Speech Commands by synthetic voices, the data set that is always there."""

from __future__ import annotations

from pathlib import Path

from kws_imagebind.datasets.base import DatasetError, Utterance
from kws_imagebind.datasets.folder import load_folder

PACKAGE = Path(__file__).resolve().parents[1]
# In an installed wheel, then in a clone: beside an installed package a folder "sample" may be anyone's.
PLACES = (PACKAGE / "sample", PACKAGE.parent / "sample")


def sample_folder() -> Path:
    """Where the sample lies.

    Raises:
        DatasetError: it was left out of this installation.
    """
    for place in PLACES:
        if place.is_dir():
            return place
    raise DatasetError("this installation of kws-imagebind lacks its sample; install it again, or name your own data")


def load_sample() -> tuple[tuple[Utterance, ...], str]:
    """The clips of the sample, and a note on what they are."""
    utterances, _ = load_folder(sample_folder())
    return utterances, "bundled sample, synthetic voices"

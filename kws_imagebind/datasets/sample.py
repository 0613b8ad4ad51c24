"""The bundled sample: the 35 words of Speech Commands by synthetic voices, the data set that is always there."""

from __future__ import annotations

from pathlib import Path

from kws_imagebind.datasets.base import DatasetError, Recordings, Request
from kws_imagebind.datasets.folder import load_folder
from kws_imagebind.text.tasks import SPEECH_COMMANDS_WORDS

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


class Sample:
    """The bundled sample as a `Source`."""

    splits: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def load(self, request: Request) -> Recordings:
        utterances, _ = load_folder(sample_folder())
        return Recordings(utterances, SPEECH_COMMANDS_WORDS, "v2-35", note="bundled sample, synthetic voices")

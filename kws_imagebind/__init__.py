"""How well does an audio-text model spot spoken keywords it was never trained on?"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kws_imagebind.audio.files import load_audio
    from kws_imagebind.audio.signal import AudioError
    from kws_imagebind.datasets import Dataset, Utterance, load_dataset
    from kws_imagebind.embeddings.embed import Embeddings, embed
    from kws_imagebind.encoders import Encoder, load_encoder
    from kws_imagebind.evaluation.evaluate import Evaluation, evaluate
    from kws_imagebind.evaluation.mteb_model import mteb_model
    from kws_imagebind.metrics.intervals import Interval
    from kws_imagebind.readouts.base import Scores
    from kws_imagebind.readouts.enrolment import Enrolment, enrol
    from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
    from kws_imagebind.spotting.detect import detect
    from kws_imagebind.spotting.hits import Hit
    from kws_imagebind.spotting.rank import spot
    from kws_imagebind.spotting.stream import Listener

_HOMES = {
    "AudioError": "audio.signal",
    "load_audio": "audio.files",
    "Dataset": "datasets",
    "Utterance": "datasets",
    "load_dataset": "datasets",
    "Embeddings": "embeddings.embed",
    "embed": "embeddings.embed",
    "Encoder": "encoders",
    "load_encoder": "encoders",
    "Evaluation": "evaluation.evaluate",
    "evaluate": "evaluation.evaluate",
    "Hit": "spotting.hits",
    "Listener": "spotting.stream",
    "mteb_model": "evaluation.mteb_model",
    "detect": "spotting.detect",
    "spot": "spotting.rank",
    "Interval": "metrics.intervals",
    "Scores": "readouts.base",
    "Enrolment": "readouts.enrolment",
    "enrol": "readouts.enrolment",
    "ZeroShotClassifier": "readouts.zero_shot",
}

__all__ = [
    "AudioError",
    "Dataset",
    "Embeddings",
    "Encoder",
    "Enrolment",
    "Evaluation",
    "Hit",
    "Interval",
    "Listener",
    "Scores",
    "Utterance",
    "ZeroShotClassifier",
    "detect",
    "embed",
    "enrol",
    "evaluate",
    "load_audio",
    "load_dataset",
    "load_encoder",
    "mteb_model",
    "spot",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `kws-imagebind --help` does not wait for torch."""
    if name == "__version__":
        return version("kws-imagebind")
    if name not in _HOMES:
        raise AttributeError(f"module 'kws_imagebind' has no attribute '{name}'")
    value = getattr(import_module(f"kws_imagebind.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

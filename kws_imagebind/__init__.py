"""How well does an audio-text model spot spoken keywords it was never trained on?"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kws_imagebind.audio import AudioError, load_audio
    from kws_imagebind.datasets import Dataset, Utterance, load_dataset
    from kws_imagebind.embedding import Embeddings, embed
    from kws_imagebind.encoders import Encoder, load_encoder
    from kws_imagebind.evaluation import Evaluation, evaluate
    from kws_imagebind.spotting import Hit, detect, spot
    from kws_imagebind.statistics import Interval
    from kws_imagebind.zero_shot import Scores, ZeroShotClassifier

_HOMES = {
    "AudioError": "audio",
    "load_audio": "audio",
    "Dataset": "datasets",
    "Utterance": "datasets",
    "load_dataset": "datasets",
    "Embeddings": "embedding",
    "embed": "embedding",
    "Encoder": "encoders",
    "load_encoder": "encoders",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "Hit": "spotting",
    "detect": "spotting",
    "spot": "spotting",
    "Interval": "statistics",
    "Scores": "zero_shot",
    "ZeroShotClassifier": "zero_shot",
}

__all__ = [
    "AudioError",
    "Dataset",
    "Embeddings",
    "Encoder",
    "Evaluation",
    "Hit",
    "Interval",
    "Scores",
    "Utterance",
    "ZeroShotClassifier",
    "detect",
    "embed",
    "evaluate",
    "load_audio",
    "load_dataset",
    "load_encoder",
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

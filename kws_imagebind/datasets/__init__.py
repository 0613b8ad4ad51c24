"""Recordings with their labels: Speech Commands, a folder of words, and the bundled sample."""

from kws_imagebind.datasets.base import Dataset, DatasetError, Utterance
from kws_imagebind.datasets.registry import DATASETS, load_dataset

__all__ = ["DATASETS", "Dataset", "DatasetError", "Utterance", "load_dataset"]

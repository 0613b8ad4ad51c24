"""Speech Commands for a data loader: (waveform, sample rate, label, speaker, utterance), as torchaudio gives them.

`SilenceDataset` and `UnknownDataset` add the two classes that a keyword spotter needs beside its words. Every item is
drawn from the seed and its own index, so it is the same whenever and in whatever order it is asked for.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from kws_imagebind.audio.files import load_audio, load_channels
from kws_imagebind.datasets.base import DatasetError, Utterance
from kws_imagebind.datasets.speech_commands import NOISE, find_corpus, load_speech_commands

Item = tuple[Tensor, int, str, str, int]

WORDS = 35  # of v0.02: an added class is as large as a word, on average
SILENCE_SECONDS = 1  # as long as a clip of a word
VERSION = "v0.02"

_TAKE = re.compile(r"_nohash_(\d+)")


class SpeechCommands(Dataset[Item]):
    """The words of one split.

    Args:
        root: folder that holds `SpeechCommands`.
        subset: "training", "validation", "testing" or None for all.
        download: fetch the corpus if it is not there (2.4 GB).

    Each item is a waveform (1, samples), its rate in hertz, the word, the speaker, and which of the speaker's
    utterances of that word it is.
    """

    def __init__(self, root: str | os.PathLike[str], subset: str | None = None, download: bool = False):
        self.utterances, self.note = load_speech_commands(Path(root), subset or "all", VERSION, download)

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, index: int) -> Item:
        utterance = self.utterances[index]
        return _item(utterance, utterance.label)


class UnknownDataset(Dataset[Item]):
    """Training clips drawn at random and labelled "unknown".

    Args:
        root: folder that holds `SpeechCommands`.
        seed: another one draws other clips.
    """

    def __init__(self, root: str | os.PathLike[str], seed: int = 0):
        self.utterances, _ = load_speech_commands(Path(root), "training", VERSION)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.utterances) // WORDS

    def __getitem__(self, index: int) -> Item:
        return _item(_draw(self, index).choice(self.utterances), "unknown")


class SilenceDataset(Dataset[Item]):
    """Seconds of background noise drawn at random and labelled "silence".

    Args:
        root: folder that holds `SpeechCommands`.
        seed: another one draws other seconds.
    """

    def __init__(self, root: str | os.PathLike[str], seed: int = 0):
        corpus = find_corpus(Path(root), VERSION)
        self.recordings = sorted((corpus / NOISE).glob("*.wav")) if corpus else []
        if not self.recordings:
            raise DatasetError(f"'{root}' has no recording in a folder {NOISE}; unpack Speech Commands there")
        utterances, _ = load_speech_commands(Path(root), "training", VERSION)
        self.size = len(utterances) // WORDS
        self.seed = seed

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Item:
        draw = _draw(self, index)
        waveform, rate = load_channels(draw.choice(self.recordings))
        samples = SILENCE_SECONDS * rate
        start = draw.randrange(max(1, waveform.shape[1] - samples + 1))
        return waveform[:, start : start + samples], rate, "silence", "", 0


def _draw(dataset: UnknownDataset | SilenceDataset, index: int) -> random.Random:
    if not 0 <= index < len(dataset):  # an IndexError is what ends a loop over a data set
        raise IndexError(f"item {index} of {len(dataset)}")
    return random.Random(f"{dataset.seed}:{index}")


def _item(utterance: Utterance, label: str) -> Item:
    waveform, rate = load_channels(utterance.path)
    take = _TAKE.search(utterance.path.name)
    return waveform, rate, label, utterance.speaker or "", int(take[1]) if take else 0


def load_utterance(utterance: Utterance, sample_rate: int) -> Tensor:
    """The waveform (samples,) of a clip, cut from its file where the clip is a part of it.

    Raises:
        AudioError: as `load_audio`.
    """
    return cropped(load_audio(utterance.path, sample_rate), utterance, sample_rate)


def cropped(waveform: Tensor, utterance: Utterance, sample_rate: int) -> Tensor:
    """The clip in the waveform (samples,) of its whole file."""
    if utterance.crop is None:
        return waveform
    start, seconds = utterance.crop
    first = round(start * sample_rate)
    return waveform[first : first + round(seconds * sample_rate)]

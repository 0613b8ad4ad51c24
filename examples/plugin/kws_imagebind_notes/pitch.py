"""An encoder that hears pitch: recordings and the names of notes meet in one space of semitones."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.encoders.base import EncoderError
from kws_imagebind.encoders.cards import Card

NOTES = {"do": 0, "re": 2, "mi": 4, "fa": 5, "sol": 7, "la": 9, "ti": 11}  # semitones above do
DO = 261.63  # Hz
SEMITONES = 24
WIDTH = 0.7  # semitones: how far a note reaches


class PitchEncoder:
    """Everything that `kws_imagebind.encoders.base.Encoder` asks for; the class itself is what is registered."""

    name = "pitch"
    sample_rate = 16_000
    dim = SEMITONES
    fingerprint = "pitch-1"  # to be changed with anything that changes a vector
    default_template = "somebody sings {}"
    card = Card("pitch", licence="MIT", parameters=0, sample_rate=16_000, trained_on=())

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        """(n, dim): the energy of each semitone's band."""
        return F.normalize(torch.stack([self._bands(waveform) for waveform in waveforms]), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """(n, dim): a bump at the first note that a text names."""
        places = torch.tensor([[float(self._note(text))] for text in texts])
        return F.normalize(torch.exp(-((torch.arange(SEMITONES) - places) ** 2) / (2 * WIDTH**2)), dim=-1)

    def _bands(self, waveform: Tensor) -> Tensor:
        power = torch.fft.rfft(F.pad(waveform, (0, max(0, self.sample_rate - len(waveform))))).abs().square()
        hertz = torch.fft.rfftfreq(max(len(waveform), self.sample_rate), 1 / self.sample_rate).clamp_min(1.0)
        semitone = 12 * torch.log2(hertz / DO)
        centres = torch.arange(SEMITONES)[:, None]
        return torch.exp(-((semitone - centres) ** 2) / (2 * WIDTH**2)) @ power + 1e-9

    def _note(self, text: str) -> int:
        named = [word for word in re.findall(r"[a-z]+", text.casefold()) if word in NOTES]
        if not named:
            raise EncoderError(f"'{text}' names no note; the notes are {', '.join(NOTES)}")
        return NOTES[named[0]]

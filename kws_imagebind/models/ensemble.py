"""Several PhoneBinds as one.

The members' unit vectors, one after another and divided by the root of their number, are again unit vectors, whose
cosine is the mean of the members' cosines. So an ensemble is a wider PhoneBind, and whatever takes vectors takes these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from kws_imagebind.audio.mel import MelConfig, mel_filterbank, power_spectrum
from kws_imagebind.files import whole
from kws_imagebind.models.phonebind import PhoneBind, at_full_scale, restored
from kws_imagebind.models.storage import packed
from kws_imagebind.text.phonemes import Pronunciation

MEMBERS = "members"  # the metadata's key


class Ensemble(nn.Module):
    """PhoneBinds that hear the same frames, each in its own way.

    Args:
        members: in the order in which their vectors follow one another; the first one's spelling is the ensemble's.
    """

    def __init__(self, members: Sequence[PhoneBind]) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble without members hears nothing; give at least one")
        front_ends = [member.config.front_end for member in members]
        if len({(each.sample_rate, each.window, each.hop, each.preemphasis) for each in front_ends}) > 1:
            raise ValueError("the members' frames differ; members share sample rate, window, hop and pre-emphasis")
        self.members: list[PhoneBind]
        self.members = nn.ModuleList(members)  # type: ignore[assignment]
        self.dim = sum(member.dim for member in members)
        self.front_ends: tuple[MelConfig, ...] = tuple(dict.fromkeys(member.config.front_end for member in members))

    def mel(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) at 16 kHz -> (batch, mels, frames): those of each front end, one after another.

        Members of equal mel settings share them, and all members share the spectrum.
        """
        power = power_spectrum(waveforms, self.front_ends[0])
        filters = torch.cat([mel_filterbank(front_end) for front_end in self.front_ends]).to(waveforms.device)
        return (power @ filters.T).transpose(1, 2)

    def hear(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """What `mel` gave -> unit vectors (batch, dim), phoneme logits (batch, frames / 3, phonemes + 1)."""
        parts = mel.split([front_end.mels for front_end in self.front_ends], dim=1)
        own = dict(zip(self.front_ends, parts, strict=True))
        heard = [member.hear(own[member.config.front_end]) for member in self.members]
        return self._joined([vectors for vectors, _ in heard]), heard[0][1]

    def encode_audio(self, waveforms: Tensor) -> Tensor:
        """(batch, samples) at 16 kHz -> (batch, dim), unit norm. The gain of a waveform does not matter."""
        return self.hear(self.mel(at_full_scale(waveforms)))[0]

    def encode_text(self, pronunciations: Sequence[Pronunciation]) -> Tensor:
        """Pronunciations -> (batch, dim), unit norm."""
        return self._joined([member.encode_text(pronunciations) for member in self.members])

    def _joined(self, vectors: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(vectors), 1) / len(self.members) ** 0.5


def save_members(members: Sequence[PhoneBind], path: Path, notes: Sequence[Mapping[str, str]]) -> None:
    """Writes several models into one file of safetensors, in 8 bits, whole or not at all.

    The same members and notes give the same bytes.

    Args:
        members: in their order.
        path: where.
        notes: for the metadata, of each member.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for number, member in enumerate(members):
        tensors |= packed(member.state_dict(), "int8", prefix=f"{number}.")
    about = [{"config": asdict(member.config), **own} for member, own in zip(members, notes, strict=True)]
    with whole(path) as part:
        save_file(tensors, part, metadata={MEMBERS: json.dumps(about, sort_keys=True)})
        part.chmod(0o644)  # safetensors keeps its files to their owner


def load_members(path: Path) -> list[PhoneBind]:
    """The models in a file that `save_members` wrote, in float32, ready to encode, in their order.

    Raises:
        ValueError: a tensor is not finite, or belongs to none of the members.
        Exception: the file is missing or damaged, or lacks what a PhoneBind needs.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()[MEMBERS])
        stored: list[dict[str, Tensor]] = [{} for _ in about]
        for name in file.keys():  # noqa: SIM118, no dict
            number, _, own = name.partition(".")
            if not (number.isdigit() and int(number) < len(about)):
                raise ValueError(f"{name} belongs to none of {len(about)} members")
            stored[int(number)][own] = file.get_tensor(name)
    return [restored(each["config"], tensors) for each, tensors in zip(about, stored, strict=True)]

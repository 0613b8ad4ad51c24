"""Random changes of training clips, a batch at a time: speed, time shift, background noise, SpecAugment.

All chance comes from the generator that is passed in, so a batch that is drawn again is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.training.supervised.recipes import Augmentation

SPEEDS = 5  # different ones in a batch


def augment(
    waveforms: Tensor, augmentation: Augmentation, sample_rate: int, noise: Tensor | None, random: torch.Generator
) -> Tensor:
    """Waveforms (B, samples) changed at random.

    Args:
        waveforms: float in [-1, 1].
        augmentation: how much.
        sample_rate: in hertz.
        noise: (samples,) of background noise, at least as long as a waveform; None for none.
        random: what the chance comes from, on the CPU.
    """
    if augmentation.speed:
        waveforms = change_speed(waveforms, augmentation.speed, random)
    if augmentation.shift:
        waveforms = shift(waveforms, round(augmentation.shift * sample_rate), random)
    if augmentation.noise and noise is not None:
        waveforms = waveforms + background(waveforms, noise, augmentation, random)
    return waveforms


def shift(waveforms: Tensor, most: int, random: torch.Generator) -> Tensor:
    """Each waveform (B, samples) earlier or later by up to `most` samples, with silence where nothing is left.

    >>> shift(torch.ones(1, 4), 0, torch.Generator()).tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """
    batch, samples = waveforms.shape
    by = torch.randint(-most, most + 1, (batch, 1), generator=random).to(waveforms.device)
    index = torch.arange(samples, device=waveforms.device) + by
    moved = waveforms.gather(1, index.clamp(0, samples - 1))
    return moved.where((index >= 0) & (index < samples), 0.0)


def background(waveforms: Tensor, noise: Tensor, augmentation: Augmentation, random: torch.Generator) -> Tensor:
    """Noise (B, samples) to be added: of some clips none, of the others a random stretch at a random loudness."""
    batch, samples = waveforms.shape
    start = torch.randint(0, len(noise) - samples + 1, (batch, 1), generator=random)
    loud = torch.rand(batch, 1, generator=random) * augmentation.loudest_noise
    loud = loud.where(torch.rand(batch, 1, generator=random) < augmentation.noise, 0.0)
    return (noise[start + torch.arange(samples)] * loud).to(waveforms.device)


def change_speed(waveforms: Tensor, most: float, random: torch.Generator) -> Tensor:
    """Each waveform (B, samples) faster or slower, pitch included, and cut or padded to its length again."""
    batch, samples = waveforms.shape
    which = torch.randint(0, SPEEDS, (batch,), generator=random)
    speeds = 1 + most * (2 * torch.rand(SPEEDS, generator=random) - 1)
    changed = torch.empty_like(waveforms)
    for index, speed in enumerate(speeds.tolist()):
        rows = (which == index).nonzero()[:, 0].to(waveforms.device)
        if len(rows):
            length = max(1, round(samples / speed))
            played = F.interpolate(waveforms[rows][:, None], size=length, mode="linear")[:, 0]
            missing = samples - length
            before = missing // 2 if missing > 0 else -((-missing) // 2)
            changed[rows] = F.pad(played, (before, missing - before))
    return changed


def mask(spectrograms: Tensor, augmentation: Augmentation, random: torch.Generator) -> Tensor:
    """SpecAugment (Park et al. 2019, arXiv:1904.08779) without warping: bands and frames of each picture become 0.

    Args:
        spectrograms: (B, 1, frequencies, frames), standardised, so that 0 is their mean.
        augmentation: how many masks, how wide at most.
        random: what the chance comes from, on the CPU.
    """
    if not augmentation.frequency_mask and not augmentation.time_mask:
        return spectrograms
    batch, _, bands, frames = spectrograms.shape
    kept = torch.ones(batch, 1, bands, frames, dtype=torch.bool)
    for _ in range(augmentation.masks):
        kept &= ~_stretch(batch, bands, augmentation.frequency_mask, random)[:, None, :, None]
        kept &= ~_stretch(batch, frames, augmentation.time_mask, random)[:, None, None, :]
    return spectrograms * kept.to(spectrograms.device)


def _stretch(batch: int, size: int, most: int, random: torch.Generator) -> Tensor:
    """(batch, size) bool: in each row one stretch of up to `most` places."""
    width = torch.randint(0, min(most, size) + 1, (batch, 1), generator=random)
    start = (torch.rand(batch, 1, generator=random) * (size - width + 1)).long()
    places = torch.arange(size)
    return (places >= start) & (places < start + width)

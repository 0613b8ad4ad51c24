"""What happens to a clean spoken word on its way into a cheap microphone, in the mel-power domain and per batch.

Every effect draws its own strength for every clip. The order is that of the world: the vocal tract, the talker's tempo,
the room, the microphone, the noise and the recorder. All randomness comes from torch's global generator, which the
training loop seeds for every step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.audio.mel import MelConfig, mel_filterbank, power_spectrum
from kws_imagebind.models.phonebind import SAMPLES, features

TRACTS = tuple(round(0.78 + 0.02 * step, 2) for step in range(26))  # vocal-tract warps, 0.78 to 1.28
ROOM = 48  # frames of reverberation: 0.48 s


def uniform(count: int, low: float, high: float) -> Tensor:
    return torch.rand(count) * (high - low) + low


def happens(count: int, probability: float) -> Tensor:
    """1.0 where it happens and 0.0 elsewhere."""
    return (torch.rand(count) < probability).float()


def wander(count: int, length: int, knots: int) -> Tensor:
    """(count, length): smooth random curves of unit variance at their knots."""
    return F.interpolate(torch.randn(count, 1, knots), size=length, mode="linear", align_corners=True)[:, 0]


def gain(decibels: Tensor) -> Tensor:
    """A power ratio from decibels, shaped to scale (batch, mels, frames)."""
    return (10 ** (decibels / 10))[:, None, None]


def place(segment: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An int16 segment somewhere in one second of silence, at times cut at an edge, or spoken higher or lower."""
    clip = segment.astype(np.float32) / 32_768
    if rng.random() < 0.5:  # pitch, formants and tempo together, as on a tape; the tract's warp undoes the formants
        factor = np.exp(rng.uniform(-0.3, 0.3))
        clip = np.interp(np.arange(0, len(clip) - 1, factor), np.arange(len(clip)), clip).astype(np.float32)
    if rng.random() < 0.2:
        cut = int(min(rng.uniform(0, 1_600), 0.2 * len(clip)))
        clip = clip[cut:] if rng.random() < 0.5 else clip[: len(clip) - cut]
    room = SAMPLES - len(clip)
    if room < 0:
        start = int(rng.integers(0, 1 - room))
        return clip[start : start + SAMPLES]
    window = np.zeros(SAMPLES, np.float32)
    start = int(rng.integers(0, room + 1))
    window[start : start + len(clip)] = clip
    return window


def vocal_tract(power: Tensor, config: MelConfig) -> Tensor:
    """Power spectra (batch, frames, bins) -> mel power (batch, mels, frames) of a shorter or longer vocal tract."""
    banks = torch.stack([mel_filterbank(config, warp) for warp in TRACTS])
    return torch.bmm(banks[torch.randint(len(TRACTS), (len(power),))], power.transpose(1, 2))


def tempo(mel: Tensor) -> Tensor:
    """A smooth random time warp around the clip's centre of energy."""
    batch, _, frames = mel.shape
    rate = uniform(batch, -0.3, 0.3).exp()[:, None] * (0.25 * wander(batch, frames, 7)).exp()
    position = rate.cumsum(1)
    loudness = mel.sum(1).sqrt()
    centre = (loudness * torch.arange(frames)).sum(1) / loudness.sum(1).clamp_min(1e-6)
    at_centre = position.gather(1, centre.round().long().clamp(0, frames - 1)[:, None])
    position = position - at_centre + centre[:, None] + uniform(batch, -6, 6)[:, None]
    before = position.floor()
    inside = ((before >= 0) & (before < frames - 1)).float()[:, None]
    share = (position - before)[:, None]
    index = before.long().clamp(0, frames - 2)[:, None].expand_as(mel)
    return (mel.gather(2, index) * (1 - share) + mel.gather(2, index + 1) * share) * inside


def reverberation(mel: Tensor) -> Tensor:
    """Late reverberation as an exponential smear of the power (Polack's model), T60 from 0.08 to 0.9 s."""
    batch, _, frames = mel.shape
    seconds = 0.01 * torch.arange(ROOM)
    t60 = uniform(batch, np.log(0.08), np.log(0.9)).exp()
    tail = (-13.8 * seconds / t60[:, None]).exp()
    tail = tail * 10 ** (-uniform(batch, 0, 14) / 10)[:, None] / tail[:, 1:].sum(1, keepdim=True)
    tail = tail * happens(batch, 0.55)[:, None]
    tail[:, 0] = 1.0  # the direct sound
    delay = torch.arange(frames)[None] - torch.arange(frames)[:, None]  # from frame (row) to frame (column)
    kernel = tail[:, delay.clamp(0, ROOM - 1)] * ((delay >= 0) & (delay < ROOM))
    return torch.bmm(mel, kernel)


def microphone(mel: Tensor) -> Tensor:
    """A random equaliser with a tilt, and a limited band."""
    batch, mels, _ = mel.shape
    band = torch.arange(mels).float()[None]
    curve = wander(batch, mels, 6) * uniform(batch, 0, 1.1)[:, None]
    curve = curve + torch.linspace(-1, 1, mels)[None] * uniform(batch, -1.6, 1.6)[:, None]
    low = (uniform(batch, 0, 14) * happens(batch, 0.5))[:, None]
    high = torch.where(torch.rand(batch) < 0.35, uniform(batch, 40, mels), torch.tensor(float(mels)))[:, None]
    curve = curve - F.relu(low - band) * uniform(batch, 0.1, 0.9)[:, None]
    curve = curve - F.relu(band - high) * uniform(batch, 0.3, 2.0)[:, None]
    return mel * curve.exp()[:, :, None]


def noise(mel: Tensor, loudness: Tensor, probability: float, low: float, high: float) -> Tensor:
    """Coloured, slowly modulated noise at a signal-to-noise ratio between `low` and `high` decibels."""
    batch, mels, frames = mel.shape
    colour = wander(batch, mels, 8) * uniform(batch, 0, 1.5)[:, None]
    colour = (colour + torch.linspace(1, -1, mels)[None] * uniform(batch, -0.5, 2.5)[:, None]).exp()
    swell = (wander(batch, frames, 12) * (uniform(batch, 0, 0.9) ** 2)[:, None]).exp()
    grain = 0.4 - 0.6 * (torch.rand_like(mel) + 1e-6).log()
    sound = colour[:, :, None] * swell[:, None, :] * grain
    level = gain(-uniform(batch, low, high)) * happens(batch, probability)[:, None, None]
    return mel + sound / sound.mean((1, 2), keepdim=True) * loudness * level


def click(mel: Tensor, loudness: Tensor) -> Tensor:
    batch, mels, frames = mel.shape
    when = F.one_hot(torch.randint(frames, (batch,)), frames).float()[:, None]
    sound = wander(batch, mels, 6).exp()[:, :, None] * when
    return mel + sound * loudness * gain(uniform(batch, -15, 5)) * 10 * happens(batch, 0.15)[:, None, None]


def second_talker(mel: Tensor, loudness: Tensor) -> Tensor:
    batch = len(mel)
    other = mel[torch.randperm(batch)].roll(int(torch.randint(-60, 61, ())), 2)
    other = other / other.mean((1, 2), keepdim=True).clamp_min(1e-9)
    return mel + other * loudness * gain(-uniform(batch, 8, 28)) * happens(batch, 0.2)[:, None, None]


def babble(mel: Tensor, loudness: Tensor) -> Tensor:
    """Four talkers of the batch at once, none of whom can be followed."""
    batch, frames = len(mel), mel.shape[2]
    others = torch.stack([mel[torch.randperm(batch)].roll(int(torch.randint(frames, ())), 2) for _ in range(4)]).mean(0)
    others = others / others.mean((1, 2), keepdim=True).clamp_min(1e-9)
    return mel + others * loudness * gain(-uniform(batch, 5, 30)) * happens(batch, 0.15)[:, None, None]


def voice_gate(mel: Tensor) -> Tensor:
    """What a recorder does that opens only for a voice: quiet frames fade, at times but for a hold around loud ones."""
    batch = len(mel)
    level = mel.mean(1)
    hold = F.max_pool1d(level[:, None], 7, stride=1, padding=3)[:, 0]
    level = torch.where(torch.rand(batch, 1) < 0.5, level, hold)
    threshold = level.amax(1, keepdim=True) * 10 ** (-uniform(batch, 12, 45) / 10)[:, None]
    shut = (level < threshold).float() * happens(batch, 0.25)[:, None]
    return mel * (1 - shut * (1 - 10 ** (-uniform(batch, 10, 70) / 10)[:, None]))[:, None]


def codec(mel: Tensor) -> Tensor:
    """What lossy codecs and noise suppressors do: bands far below the loudest of their frame are dropped."""
    masked = mel.amax(1, keepdim=True) * gain(-uniform(len(mel), 22, 50))
    kept = (mel >= masked).float()
    return mel * torch.where(happens(len(mel), 0.25)[:, None, None] > 0, kept, torch.ones(()))


def noise_gate(mel: Tensor) -> Tensor:
    return F.relu(mel - (10 ** -uniform(len(mel), 2, 6) * happens(len(mel), 0.25))[:, None, None])


def masks(x: Tensor, length: int, axis: int, probability: float = 0.5, times: int = 2) -> Tensor:
    """SpecAugment: stretches of one axis set to the mean (Park et al. 2019, arXiv:1904.08779)."""
    batch, size = len(x), x.shape[axis]
    index = torch.arange(size)[None]
    for _ in range(times):
        width = uniform(batch, 0, length)[:, None]
        start = torch.rand(batch, 1) * (size - width)
        hidden = ((index >= start) & (index < start + width)).float() * happens(batch, probability)[:, None]
        x = x * (1 - hidden).unsqueeze(3 - axis)
    return x


def loudest_is_one(mel: Tensor) -> Tensor:
    return mel / mel.amax((1, 2), keepdim=True).clamp_min(1e-9)


def augment(waveforms: Tensor, config: MelConfig, strength: float = 1.0) -> Tensor:
    """Placed waveforms (batch, samples) -> augmented features (batch, mels, frames).

    `strength`, from 0 to 1, is the share of clips that leave the talker's mouth for a room and a microphone.
    """
    batch = len(waveforms)
    drive = torch.where(torch.rand(batch) < 0.2, uniform(batch, 0, 2.5).exp(), torch.tensor(1e-3))[:, None]
    mel = vocal_tract(power_spectrum(torch.tanh(drive * waveforms) / drive, config), config)  # soft clipping first
    spoken = loudest_is_one(tempo(mel))
    mel = loudest_is_one(microphone(loudest_is_one(reverberation(spoken))))
    loudness = mel.mean((1, 2), keepdim=True)
    mel = noise(mel, loudness, 0.85, 0, 45)
    mel = noise(mel, loudness, 0.3, 5, 35)
    mel = babble(second_talker(click(mel, loudness), loudness), loudness)
    mel = codec(voice_gate(noise_gate(mel)))
    mel = torch.where(torch.rand(batch, 1, 1) < strength, mel, spoken)
    x = features(mel, floor=gain(-uniform(batch, 45, 70)))
    x = masks(masks(x, 9, axis=1), 9, axis=2)
    return x + 0.05 * torch.randn_like(x)

"""Recordings as mel spectrograms."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib import image as pictures
from matplotlib.figure import Figure
from torch import Tensor

from kws_imagebind.audio.mel import MelConfig, log_mel
from kws_imagebind.reporting.figures.style import DPI, shorten

HERTZ = (250, 500, 1_000, 2_000, 4_000)  # named beside a spectrogram
SPECTROGRAM = MelConfig(mels=64)
RANGE = 9.0  # of a spectrogram, in nepers below its loudest point: 78 dB


def spectrogram_png(log_mel: Tensor, decibels: float = 70.0) -> bytes:
    """The bare picture of a log-mel spectrogram, one pixel a value, low frequencies at the bottom.

    Args:
        log_mel: (mels, frames), natural logarithms of power.
        decibels: from the loudest value down to what is drawn darkest.
    """
    values = log_mel.numpy()
    loudest = float(values.max())
    buffer = io.BytesIO()
    floor = loudest - decibels * np.log(10) / 10
    pictures.imsave(buffer, values, cmap="cividis", vmin=floor, vmax=loudest, origin="lower", format="png")
    return buffer.getvalue()


def mel_figure(waveforms: Sequence[Tensor], titles: Sequence[str], columns: int = 3) -> Figure:
    """Recordings as mel spectrograms, side by side: time from left to right, pitch upwards, loud is bright.

    Args:
        waveforms: (samples,) each, at 16 kHz, of at least 25 ms.
        titles: of each.
        columns: in one row.

    Raises:
        ValueError: there is not one title for each, or nothing to draw.
    """
    pairs = list(zip(waveforms, titles, strict=True))
    if not pairs:
        raise ValueError("no recording to draw; expected at least one")
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(6.6, 0.45 + 1.75 * rows), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(pairs) :]:
        axes.set_visible(False)
    for index, (axes, (waveform, title)) in enumerate(zip(grid.flat, pairs, strict=False)):
        mel = log_mel(waveform[None].float(), SPECTROGRAM)[0].numpy()
        seconds = len(waveform) / SPECTROGRAM.sample_rate
        axes.imshow(
            mel, origin="lower", aspect="auto", cmap="cividis", vmin=mel.max() - RANGE, vmax=mel.max(),
            extent=(0, seconds, -0.5, SPECTROGRAM.mels - 0.5), interpolation="nearest",
        )  # fmt: skip
        axes.set_title(shorten(title), fontsize=10, weight="bold", loc="left", parse_math=False)
        axes.set_yticks([SPECTROGRAM.band(hertz) for hertz in HERTZ], [f"{hertz:,}" for hertz in HERTZ], fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        if index + columns >= len(pairs):
            axes.set_xlabel("seconds", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("hertz (mel scale)", fontsize=9)
    return figure

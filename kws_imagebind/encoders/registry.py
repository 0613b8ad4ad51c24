"""Encoders by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kws_imagebind.encoders.base import Encoder, EncoderError
from kws_imagebind.registry import did_you_mean


@dataclass(frozen=True)
class EncoderEntry:
    """How an encoder is described in `kws-imagebind list` and loaded."""

    description: str
    load: Callable[..., Encoder]


def _phonebind(**options: Any) -> Encoder:
    from kws_imagebind.encoders.phonebind import PhoneBindEncoder

    return PhoneBindEncoder.from_weights(**options)


def _imagebind(**options: Any) -> Encoder:
    from kws_imagebind.encoders.imagebind.encoder import ImageBindEncoder

    return ImageBindEncoder.from_weights(**options)


ENCODERS = {
    "phonebind": EncoderEntry("hears any English word it can pronounce; bundled, 1.4 M parameters", _phonebind),
    "imagebind": EncoderEntry("Meta's ImageBind; its weights are to be downloaded, CC BY-NC-SA 4.0", _imagebind),
}


def load_encoder(name: str = "phonebind", device: str = "auto", precision: str = "auto", **options: Any) -> Encoder:
    """An encoder, ready to encode; `options` are those of its own class.

    Raises:
        EncoderError: there is none of that name, its weights are missing, or it cannot run as asked.
    """
    if name not in ENCODERS:
        raise EncoderError(f"unknown encoder '{name}'{did_you_mean(name, ENCODERS)}; available: {', '.join(ENCODERS)}")
    return ENCODERS[name].load(device=device, precision=precision, **options)

"""What turns waveforms and texts into unit vectors of one space."""

from kws_imagebind.encoders.base import Encoder, EncoderError
from kws_imagebind.encoders.registry import ENCODERS, as_encoder, load_encoder

__all__ = ["ENCODERS", "Encoder", "EncoderError", "as_encoder", "load_encoder"]

"""Encoders by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from kws_imagebind.encoders.avenet import AVENetEncoder, is_correspondence_run
from kws_imagebind.encoders.base import Encoder, EncoderError, Scorer, check_encoder
from kws_imagebind.encoders.trained import RUN, TrainedNetwork, is_run
from kws_imagebind.registry import Entry, Registry, accepts

ENCODERS = Registry(
    "encoder",
    "kws_imagebind.encoders",
    (
        Entry(
            "phonebind",
            "hears any English word it can pronounce; bundled, 1.4 M parameters",
            "kws_imagebind.encoders.phonebind:PhoneBindEncoder.from_weights",
        ),
        Entry(
            "phonebind-large",
            "phonebind and two more like it, averaged: takes twice as long; bundled",
            "kws_imagebind.encoders.phonebind:PhoneBindLarge.from_weights",
        ),
        Entry(
            "imagebind",
            "Meta's ImageBind; 'kws-imagebind download imagebind' fetches its weights, CC BY-NC-SA 4.0",
            "kws_imagebind.encoders.imagebind.encoder:ImageBindEncoder.from_weights",
        ),
        Entry(
            "clap",
            "clap:CHECKPOINT takes any CLAP of transformers; extra 'transformers'",
            "kws_imagebind.encoders.clap:ClapEncoder.from_checkpoint",
            takes_argument=True,
        ),
        Entry(
            "sentence-transformers",
            "sentence-transformers:CHECKPOINT takes any model with audio and text; extra 'sentence-transformers'",
            "kws_imagebind.encoders.omni:OmniEncoder.from_checkpoint",
            takes_argument=True,
        ),
        Entry(
            "glap",
            "Xiaomi's GLAP, multilingual audio and text; extra 'glap'; glap:FILE takes a checkpoint of your own",
            "kws_imagebind.encoders.glap:GlapEncoder.from_checkpoint",
            takes_argument=True,
        ),
        Entry(
            "mteb",
            "mteb:NAME takes any audio-text model registered in MTEB; extra 'mteb'",
            "kws_imagebind.encoders.mteb:MtebEncoder.from_checkpoint",
            takes_argument=True,
        ),
        Entry(
            "ctc",
            "ctc:CHECKPOINT scores each word by a CTC recogniser's likelihood; extra 'transformers'",
            "kws_imagebind.encoders.ctc:CtcScorer.from_checkpoint",
            takes_argument=True,
        ),
        Entry(
            "whisper",
            "whisper:CHECKPOINT scores each word by the likelihood of Whisper's decoder; extra 'transformers'",
            "kws_imagebind.encoders.whisper:WhisperScorer.from_checkpoint",
            takes_argument=True,
        ),
        Entry(
            "pocketsphinx",
            "scores each word with a classical recogniser and its own English model; extra 'pocketsphinx'",
            "kws_imagebind.encoders.pocketsphinx:PocketSphinx",
        ),
        Entry(
            "avenet",
            "avenet:DIR, a run of 'train avenet': sounds and pictures in one space, no texts",
            "kws_imagebind.encoders.avenet:AVENetEncoder.from_folder",
            takes_argument=True,
        ),
    ),
    EncoderError,
)


def load_encoder(name: str = "phonebind", device: str = "auto", precision: str = "auto", **options: Any) -> Encoder:
    """An encoder, ready to encode, or a `Scorer`, which stands for one where only scores of words are needed.

    Args:
        name: a registered name, which may go on after a colon ("clap:laion/larger_clap_general"), or your own as
            "FILE.py:NAME" or "module:NAME". What the name stands for is an encoder, or what makes one when called.
            The folder that `train` left is an encoder too.
        device: "auto", "cpu", "cuda", "mps".
        precision: "auto", "fp32", "bf16", "fp16", "int8".
        options: those of the encoder's own loader.

    Raises:
        EncoderError: there is none of that name, its weights are missing, or it cannot run as asked.
    """
    if is_run(name):
        return _made(name, partial(TrainedNetwork.from_folder, Path(name)), {"device": device, "precision": precision})
    if is_correspondence_run(name):
        return _made(name, partial(AVENetEncoder.from_folder, name), {"device": device, "precision": precision})
    if Path(name).is_dir() and name not in ENCODERS:
        raise EncoderError(f"'{name}' is a folder without {RUN}, so it holds no finished training; 'train' makes one")
    found = ENCODERS.find(name)
    if found.argument is not None:
        options["checkpoint"] = found.argument
    made = found.thing
    if isinstance(made, type) or not (isinstance(made, Scorer) or hasattr(made, "encode_audio")):
        if not callable(made):
            raise EncoderError(f"encoder '{name}' is {type(made).__name__}; expected an encoder or what makes one")
        made = _made(name, made, {"device": device, "precision": precision, **options})
    return cast(Encoder, made) if isinstance(made, Scorer) else check_encoder(made)


def as_encoder(encoder: Encoder | str | None) -> Encoder:
    """An encoder as it is, the one of a name, or the bundled PhoneBind."""
    return load_encoder(encoder or "phonebind") if encoder is None or isinstance(encoder, str) else encoder


def _made(name: str, make: Callable[..., Any], options: dict[str, Any]) -> Encoder:
    """An encoder from what makes one. A loader need not know the usual options, as long as nobody asks for them."""
    refused = [option for option in options if not accepts(make, option)]
    for option in refused:
        if options[option] != "auto":
            raise EncoderError(f"encoder '{name}' takes no {option}, and '{options[option]}' is given; leave it out")
    return make(**{option: value for option, value in options.items() if option not in refused})

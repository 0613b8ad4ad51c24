"""A microphone, block by block (sounddevice, the extra `listen`)."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws_imagebind.audio.signal import AudioError
from kws_imagebind.registry import to_install

BLOCK = 0.1  # s
STALLED = 3.0  # s without any sound, after which a device is taken to be gone


class MicrophoneError(AudioError):
    """A microphone that is missing, busy or gone; it may come back."""


class MicrophoneMissingError(AudioError):
    """What a microphone needs is not installed."""


@dataclass(frozen=True)
class Device:
    """An input device: its number, its name, and the sample rate it prefers."""

    number: int
    name: str
    rate: int


def _library() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise MicrophoneMissingError(
            f"listening to a microphone needs sounddevice; {to_install('sounddevice', 'listen')}"
        ) from error
    except OSError as error:  # PortAudio itself
        raise MicrophoneMissingError(
            f"sounddevice cannot find PortAudio ({error}); on Debian: apt-get install libportaudio2"
        ) from error
    return sounddevice


def devices() -> list[Device]:
    """The input devices of this machine.

    Raises:
        MicrophoneMissingError: sounddevice or PortAudio is not installed.
    """
    library = _library()
    return [
        Device(number, each["name"], round(each["default_samplerate"]))
        for number, each in enumerate(library.query_devices())
        if each["max_input_channels"] > 0
    ]


def chosen(name: str | None) -> Device:
    """The device of a number or a part of its name; by default the machine's own choice.

    Raises:
        MicrophoneError: there is none, or several.
    """
    found = devices()
    listed = ", ".join(f"{device.number} {device.name}" for device in found) or "none"
    if not found:
        raise MicrophoneError("this machine has no microphone; plug one in")
    if name is None:
        own = _library().default.device[0]
        return next((device for device in found if device.number == own), found[0])
    if name.isdigit():
        some = [device for device in found if device.number == int(name)]
    else:
        some = [device for device in found if name.casefold() in device.name.casefold()]
    if len(some) != 1:
        raise MicrophoneError(f"'{name}' names {len(some) or 'no'} input devices; those here are: {listed}")
    return some[0]


def refresh() -> None:
    """Has PortAudio look for devices again: it knows only those that were there when it started."""
    library = _library()
    library._terminate()
    library._initialize()


def stream(device: Device, block: float = BLOCK) -> Iterator[NDArray[np.float32]]:
    """What a device hears, without end, in blocks (samples,) at its own rate.

    Raises:
        MicrophoneError: it is busy, or gives no sound any more.
    """
    library = _library()
    blocks: queue.Queue[NDArray[np.float32]] = queue.Queue(maxsize=round(60 / block))

    def keep(samples: NDArray[np.float32], _frames: int, _time: Any, _status: Any) -> None:
        if not blocks.full():  # who falls a minute behind loses sound, not memory
            blocks.put_nowait(samples[:, 0].copy())

    try:
        with library.InputStream(
            samplerate=device.rate,
            blocksize=round(block * device.rate),
            device=device.number,
            channels=1,
            dtype="float32",
            callback=keep,
        ):
            while True:
                try:
                    yield blocks.get(timeout=STALLED)
                except queue.Empty:
                    raise MicrophoneError(f"'{device.name}' gives no sound any more; is it unplugged?") from None
    except library.PortAudioError as error:
        raise MicrophoneError(f"'{device.name}' cannot be opened ({error}); is another program using it?") from error

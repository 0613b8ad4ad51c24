"""A microphone for notebooks, in Colab as in Jupyter: the browser records, and the kernel gets a WAV file.

The one file that needs anywidget (extra `notebook`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import anywidget
import traitlets

SCRIPT = Path(__file__).with_name("microphone.js")


class Microphone(anywidget.AnyWidget):
    """A button that records some seconds; the recording is on this machine when the button says so.

    Attributes:
        seconds: how long it records.
        wav: the last recording, 16-bit mono at the browser's own sample rate; empty before the first one.

    Args:
        seconds: how long it records.
    """

    _esm = SCRIPT
    seconds = traitlets.Float(1.5).tag(sync=True)
    wav = traitlets.Bytes(b"").tag(sync=True)

    def __init__(self, seconds: float = 1.5) -> None:
        super().__init__(seconds=seconds)
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def path(self) -> Path | None:
        """The last recording as a file; None before the first one."""
        if not self.wav:
            return None
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="kws-imagebind-")
        path = Path(self._folder.name) / "your recording.wav"
        path.write_bytes(self.wav)
        return path

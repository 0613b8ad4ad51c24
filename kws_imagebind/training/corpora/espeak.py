"""espeak-ng inside this process: five times as fast as a process a word, which for 100,000 words matters.

The functions and constants are those of espeak-ng's public header `speak_lib.h`.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import random
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples come through the callback
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT
_UTF8 = 1  # espeakCHARS_UTF8
_PHONEMES = 0x100  # espeakPHONEMES: what stands in [[ ]] is read as phonemes
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_CHARACTER = 1  # POS_CHARACTER

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


MADE_UP = tuple(f"made{number:03d}" for number in range(200))  # variants that `made_up_variant` describes


def made_up_variant(name: str) -> str:
    """A speaker who is not among espeak-ng's, as a voice file: vocal tract, glottis, breath and stress at random.

    The keys are those of espeak-ng's documentation of voice files; formants are in per cent of the accent's own
    frequency, height and width. Children have the shortest vocal tracts and the highest pitch.
    """
    rng = random.Random(name)
    kind = rng.choice(("man", "man", "woman", "woman", "child"))
    pitch = {"man": rng.uniform(60, 130), "woman": rng.uniform(140, 240), "child": rng.uniform(200, 330)}[kind]
    tract = {"man": rng.uniform(86, 106), "woman": rng.uniform(100, 122), "child": rng.uniform(112, 138)}[kind]
    lines = ["language variant", f"name {name}", f"pitch {pitch:.0f} {pitch * rng.uniform(1.15, 1.7):.0f}"]
    for formant in range(9):
        own = tract * rng.gauss(1, 0.05) if formant else 100
        lines.append(f"formant {formant} {own:.0f} {rng.uniform(55, 130):.0f} {rng.uniform(60, 180):.0f}")
    lines.append(f"flutter {rng.randint(0, 20)}")
    lines.append(f"roughness {rng.choice((0, 0, 1, 2, 3, 5))}")
    lines.append(f"voicing {rng.randint(60, 130)}")
    lines.append(f"consonants {rng.randint(60, 150)} {rng.randint(60, 150)}")
    if rng.random() < 0.5:
        lines.append("breath " + " ".join(str(rng.randint(0, 30)) for _ in range(8)))
        lines.append("breathw " + " ".join(str(rng.randint(100, 400)) for _ in range(8)))
    if rng.random() < 0.5:
        slope = rng.uniform(0.6, 1.6)
        lines.append(
            "tone " + " ".join(f"{hertz} {180 * slope**-step:.0f}" for step, hertz in enumerate((400, 1200, 3000)))
        )
    if rng.random() < 0.2:
        lines.append(f"klatt {rng.randint(1, 5)}")
    lines.append("stressAdd " + " ".join(str(rng.randint(-30, 40)) for _ in range(8)))
    lines.append("stressAmp " + " ".join(str(rng.randint(14, 26)) for _ in range(8)))
    return "\n".join(lines) + "\n"


def _data() -> Path:
    """Where the installed espeak-ng keeps its voices: asking the library for it would start it, which it bears once."""
    told = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True, check=True).stdout
    return Path(told.rsplit("Data at:", 1)[1].strip())


def _with_made_up_variants(data: Path, folder: Path) -> None:
    """`folder` gets espeak-ng's data with the made-up variants beside its own, and English alone: it counts to 350."""
    own = folder / "espeak-ng-data"
    variants, languages = own / "voices" / "!v", own / "lang" / "gmw"
    variants.mkdir(parents=True)
    languages.mkdir(parents=True)
    linked = [entry for entry in data.iterdir() if entry.name not in ("voices", "lang")]
    linked += [*(data / "voices" / "!v").iterdir(), *(data / "lang" / "gmw").glob("en*")]
    for entry in linked:
        (own / entry.relative_to(data)).symlink_to(entry)
    for name in MADE_UP:
        (variants / name).write_text(made_up_variant(name))


class Espeak:
    """One espeak-ng; a process holds at most one."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise RuntimeError("libespeak-ng is not installed; run apt-get install espeak-ng")
        self._library = ctypes.CDLL(name)
        self._folder = tempfile.TemporaryDirectory()
        _with_made_up_variants(_data(), Path(self._folder.name))
        own = self._folder.name.encode()
        self.sample_rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, own, _DONT_EXIT)
        if self.sample_rate <= 0:
            raise RuntimeError("espeak-ng found no voices; run apt-get install espeak-ng-data")
        self._blocks: list[np.ndarray] = []
        self._callback = _Callback(self._collect)  # kept, or it would be freed under the library's feet
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: ctypes._Pointer, count: int, _events: int) -> int:
        if samples and count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(self, text: str, voice: str, speed: int, pitch: int, range: int) -> np.ndarray:
        """float32 samples at `sample_rate`; `speed` in words a minute, `pitch` and `range` from 0 to 100.

        Raises:
            ValueError: there is no such voice.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice '{voice}'")
        for parameter, value in ((_RATE, speed), (_PITCH, pitch), (_RANGE, range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode()
        self._blocks = []
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, _CHARACTER, 0, _UTF8 | _PHONEMES, None, None)
        self._library.espeak_Synchronize()
        if not self._blocks:
            return np.zeros(0, np.float32)
        return np.concatenate(self._blocks).astype(np.float32) / 32_768


@cache
def espeak() -> Espeak:
    """This process's espeak-ng."""
    return Espeak()

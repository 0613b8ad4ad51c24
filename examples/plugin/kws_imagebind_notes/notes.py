"""A data set that makes its own recordings: seven notes by singers who are a little out of tune."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import soundfile

from kws_imagebind.datasets.base import Recordings, Request, Utterance
from kws_imagebind.text.tasks import Task
from kws_imagebind_notes.pitch import DO, NOTES

RATE = 16_000
SINGERS = {"testing": range(6), "validation": range(6, 10)}
TRIAD = Task("triad", ("do", "mi", "sol"))


class Notes:
    """Everything that `kws_imagebind.datasets.base.Source` asks for; with `noise` it can stand in an open-set test."""

    splits = (
        "testing",
        "validation",
    )  # the first one is the default; "validation" lets prompts and thresholds be chosen
    options = ("root",)

    def load(self, request: Request) -> Recordings:
        """The notes of a split, sung into the folder `root` if they are not there yet."""
        split = request.split or self.splits[0]
        clips = [
            Utterance(_sung(_folder(request), note, singer), note, f"singer {singer}", f"{note}/{singer}.wav")
            for note in NOTES
            for singer in SINGERS[split]
        ]
        return Recordings(tuple(clips), tuple(NOTES), split=split, note="synthetic singers")

    def noise(self, request: Request, clips: int) -> tuple[Utterance, ...]:
        """Breath without any note."""
        made = [(_breath(_folder(request), number), f"breath/{number}.wav") for number in range(max(5, clips // 5))]
        return tuple(Utterance(path, "silence", key, key) for path, key in made)


def _folder(request: Request) -> Path:
    return request.root or Path(tempfile.gettempdir()) / "kws-imagebind-notes"


def _sung(folder: Path, note: str, singer: int) -> Path:
    rng = np.random.default_rng([NOTES[note], singer])
    time = np.arange(RATE // 2) / RATE
    hertz = DO * 2 ** ((NOTES[note] + rng.normal(0, 0.4)) / 12)
    tone = sum(np.sin(2 * np.pi * hertz * part * time) / part**2 for part in (1, 2, 3))
    return _written(folder / note / f"{singer}.wav", 0.2 * tone + rng.normal(0, 0.02, len(time)))


def _breath(folder: Path, number: int) -> Path:
    rng = np.random.default_rng(number)
    return _written(folder / "breath" / f"{number}.wav", rng.normal(0, 0.1, RATE // 2))


def _written(path: Path, samples: np.ndarray) -> Path:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples.astype(np.float32), RATE)
    return path

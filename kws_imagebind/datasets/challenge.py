"""The twelve labels of Google's challenge: ten commands, `unknown` for any other word, `silence` for none.

Read from the official test archive where that is at hand, or else derived from the whole corpus by the same recipe: a
tenth as many clips of other words as of the ten, drawn by lot, and as many one-second crops of the background noise.
What is drawn follows from the seed and the split alone. Noise crops and other words also serve as outsiders in an
open-set test, where nothing prompts for them.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path

from kws_imagebind.datasets.base import DatasetError, Utterance
from kws_imagebind.datasets.folder import is_audio
from kws_imagebind.datasets.speech_commands import ARCHIVE_FOLDER, NOISE, URL, load_speech_commands, noise_folder
from kws_imagebind.text.tasks import COMMANDS, SILENCE, UNKNOWN

TWELVE = {"v2-12": "v0.02", "v1-12": "v0.01"}  # task -> version of the corpus
TEST_SET = "speech_commands_test_set_{}"
FOLDERS = {"_silence_": SILENCE, "_unknown_": UNKNOWN}
EXTRA = 10  # per cent of the clips of the ten words: so many of silence and so many of other words
CROP = 1.0  # seconds
SEED = 0


def load_twelve(root: Path, split: str, version: str, download: bool = False) -> tuple[tuple[Utterance, ...], str]:
    """The clips of the twelve labels and a note on where they are from.

    Args:
        root: the folder of the test archive, of the corpus, or one that holds either.
        split: "testing" (the archive is of that) or another, which is derived.
        version: "v0.01" or "v0.02".
        download: fetch the whole corpus if neither is there.

    Raises:
        DatasetError: neither is there, or the corpus lacks its background noise.
    """
    archive = find_test_set(root, version) if split == "testing" else None
    if archive is not None:
        return _archived(archive), f"{TEST_SET.format(version)}, the official archive of the twelve labels"
    try:
        utterances, note = load_speech_commands(root, split, version, download)
    except DatasetError as error:
        raise DatasetError(f"{error}; the 112 MB {URL.format(TEST_SET.format(version))}, unpacked, does too") from error
    words = [utterance for utterance in utterances if utterance.label in COMMANDS]
    if not words:
        raise DatasetError(f"split '{split}' in '{root}' has no clip of the ten commands, from which the rest follows")
    count = math.ceil(len(words) * EXTRA / 100)
    others = [utterance for utterance in utterances if utterance.label not in COMMANDS]
    drawn = sorted(others, key=lambda utterance: _lot(split, utterance.key))[:count]
    unknown = [replace(utterance, label=UNKNOWN) for utterance in sorted(drawn, key=lambda each: each.key)]
    silence = silence_crops(noise_folder(root, version), count, split)
    return (
        (*words, *unknown, *silence),
        f"{note}; {len(unknown):,} of its other words as '{UNKNOWN}' and {len(silence):,} noise crops as '{SILENCE}', "
        f"drawn with seed {SEED}",
    )


def find_test_set(root: Path, version: str) -> Path | None:
    """The unpacked test archive of a version, whether `root` is it or holds it."""
    name = TEST_SET.format(version)
    for candidate in (root, root / name, root / ARCHIVE_FOLDER / name):
        named = candidate.name == name or candidate == root
        if named and all((candidate / folder).is_dir() for folder in FOLDERS):
            return candidate.resolve()
    return None


def silence_crops(noise: Path, count: int, split: str) -> tuple[Utterance, ...]:
    """Crops of one second from the recordings of background noise; each recording counts as one speaker.

    Raises:
        DatasetError: there is no recording of a second or more.
    """
    import soundfile

    recordings = []
    for path in sorted(noise.glob("*.wav")) if noise.is_dir() else []:
        seconds = soundfile.info(path).duration
        if seconds >= CROP:
            recordings.append((path, seconds - CROP))
    if not recordings:
        raise DatasetError(
            f"'{noise}' holds no recording of background noise, from which silence is cut; unpack it there"
        )
    crops: dict[str, Utterance] = {}
    turn = 0
    while len(crops) < count:
        lot = int.from_bytes(_lot(split, f"silence {turn}")[:8])
        path, latest = recordings[lot % len(recordings)]
        start = round((lot // len(recordings)) % 2**32 / 2**32 * latest, 2)
        key = f"{NOISE}/{path.name}#{start:.2f}"
        crops.setdefault(key, Utterance(path, SILENCE, f"{NOISE}/{path.stem}", key, (start, CROP)))
        turn += 1
        if turn > 50 * count + 50:
            raise DatasetError(f"'{noise}' is too short for {count:,} crops of background noise")
    return tuple(crops[key] for key in sorted(crops))


def _archived(archive: Path) -> tuple[Utterance, ...]:
    found = []
    for folder in sorted(entry for entry in archive.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        label = FOLDERS.get(folder.name, folder.name)
        for path in sorted(folder.iterdir()):
            if is_audio(path) and not path.name.startswith("."):
                found.append(Utterance(path, label, _speaker(path.name), f"{folder.name}/{path.name}"))
    return tuple(found)


def _speaker(name: str) -> str:
    """Who speaks a clip of the archive: `WORD_SPEAKER_nohash_N.wav.wav` in `_unknown_`, else `SPEAKER_nohash_N.wav`.

    A clip of silence names nobody and stands for itself.
    """
    before, divider, _ = name.partition("_nohash_")
    return before.rpartition("_")[2] if divider else f"_silence_/{name}"


def _lot(split: str, what: str) -> bytes:
    return hashlib.sha256(f"{SEED}:{split}:{what}".encode()).digest()

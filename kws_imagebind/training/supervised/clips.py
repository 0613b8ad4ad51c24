"""The clips that a network learns from: which ones, and decoded once into a memory map.

Training, validation and testing clips are those of the data set's own splits. Where it has none, speakers are dealt
out, so that no voice is in two of them; where the speakers are unknown, the clips of each word are.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from kws_imagebind.audio.files import decode, load_audio, read_bytes
from kws_imagebind.audio.signal import AudioError
from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.datasets.base import ClipIdentity, Dataset, Utterance, listed
from kws_imagebind.datasets.registry import sibling, splits_of
from kws_imagebind.datasets.speech_commands import NOISE
from kws_imagebind.datasets.waveforms import cropped
from kws_imagebind.files import make_folder, whole
from kws_imagebind.text.tasks import SILENCE
from kws_imagebind.training.supervised.recipes import TrainingError

TRAINING, VALIDATION, TESTING = "training", "validation", "testing"
# Splits that were drawn have other names than the official ones of a corpus, which hold clips by rule.
DRAWN = {TRAINING: "drawn to train", VALIDATION: "drawn to validate", TESTING: "held out"}
SHARE = 0.2  # of the speakers that validate, and as many that test, where a data set has no splits
FEWEST_SPEAKERS = 3  # that can be dealt out
FORMAT = 1  # of the memory map; to be raised with anything on the way from a file to it


@dataclass(frozen=True)
class Splits:
    """Who learns, who chooses and who is reported.

    Attributes:
        training, validation: data sets.
        testing: None where nothing is left to report on.
        note: how the clips were divided.
    """

    training: Dataset
    validation: Dataset
    testing: Dataset | None
    note: str

    @property
    def labels(self) -> tuple[str, ...]:
        return self.training.labels


def split(dataset: Dataset, more: Sequence[Dataset] = (), seed: int = 0, share: float = SHARE) -> Splits:
    """Divides a data set, and adds the clips of others to its training clips.

    Args:
        dataset: any split of a data set that has splits, or one that has none.
        more: further training clips of the same words.
        seed: of the draw of speakers or clips.
        share: of the speakers that validate, and as many that test, where the data set has no splits.

    Raises:
        DatasetError, TrainingError: a word has too few clips.
    """
    if not 0 < share < 0.5:
        raise TrainingError(f"a share of {share:g} for validation; expected more than 0 and less than 0.5")
    found = _official(dataset) or _drawn(dataset, seed, share)
    extra = tuple(each for other in more for each in _added(other))
    if extra:
        training = replace(found.training, utterances=(*found.training.utterances, *extra))
        found = replace(found, training=training, note=f"{found.note}; {len(extra):,} more training clips")
    _check(found)
    return found


def _official(dataset: Dataset) -> Splits | None:
    """The data set's own splits, if it has them."""
    there = splits_of(dataset.origin.name) if dataset.origin else ()
    if not {TRAINING, VALIDATION} <= set(there):
        return None
    testing = sibling(dataset, TESTING) if TESTING in there else None
    reported = [testing] if testing else []
    validation = _without_crops(sibling(dataset, VALIDATION), *reported)
    training = _without_crops(sibling(dataset, TRAINING), validation, *reported)
    return Splits(training, validation, testing, "the data set's own splits")


def _without_crops(dataset: Dataset, *others: Dataset) -> Dataset:
    """Without the crops that another split has too: silence is drawn from the same recordings for each split."""
    taken = {(each.path, each.crop) for other in others for each in other.utterances if each.crop}
    kept = tuple(each for each in dataset.utterances if (each.path, each.crop) not in taken)
    return dataset if len(kept) == len(dataset) else replace(dataset, utterances=kept)


def _drawn(dataset: Dataset, seed: int, share: float) -> Splits:
    speakers = sorted({each.speaker for each in dataset.utterances if each.speaker is not None})
    known = all(each.speaker is not None for each in dataset.utterances)
    if known and len(speakers) >= FEWEST_SPEAKERS:
        roles = _by_speaker(speakers, seed, share)
        counts = Counter(roles.values())
        who = ", ".join(f"{counts[role]:,} for {role}" for role in (TRAINING, VALIDATION, TESTING))
        return _parts(dataset, lambda each: roles[each.speaker or ""], f"speakers drawn with seed {seed}: {who}")
    keys = _by_clip(dataset, seed, share)
    why = "speakers are unknown" if not known else f"there are only {len(speakers)} speakers"
    return _parts(dataset, lambda each: keys[each.key], f"clips drawn with seed {seed}, because {why}")


def _by_speaker(speakers: Sequence[str], seed: int, share: float) -> dict[str, str]:
    order = sorted(speakers, key=lambda speaker: hashlib.sha256(f"{seed}:{speaker}".encode()).digest())
    part = max(1, round(share * len(order)))
    roles = [TESTING] * part + [VALIDATION] * part + [TRAINING] * (len(order) - 2 * part)
    return dict(zip(order, roles, strict=True))


def _by_clip(dataset: Dataset, seed: int, share: float) -> dict[str, str]:
    """The role of each clip by its key; of each word the same shares, at least one for training and validation."""
    words: defaultdict[str, list[str]] = defaultdict(list)
    for utterance in dataset.shuffled(seed):
        words[utterance.label].append(utterance.key)
    roles = {}
    for keys in words.values():
        part = max(1, round(share * len(keys)))
        testing = part if len(keys) >= FEWEST_SPEAKERS else 0
        for index, key in enumerate(keys):
            roles[key] = TESTING if index < testing else VALIDATION if index < testing + part else TRAINING
    return roles


def _parts(dataset: Dataset, role: Callable[[Utterance], str], note: str) -> Splits:
    parts: defaultdict[str, list[Utterance]] = defaultdict(list)
    for utterance in dataset.utterances:
        parts[role(utterance)].append(utterance)
    for name in (TRAINING, VALIDATION):
        if not parts[name]:
            raise TrainingError(
                f"data set '{dataset.name}' has {len(dataset):,} clips, of which none is left for {name}; "
                "training needs at least two clips of each word"
            )
    made = {
        name: replace(dataset, utterances=tuple(each), split=DRAWN[name], origin=None)
        for name, each in parts.items()
        if each
    }
    return Splits(made[TRAINING], made[VALIDATION], made.get(TESTING), note)


def _added(dataset: Dataset) -> Iterable[Utterance]:
    """Utterances under keys that no other data set has."""
    root = dataset.origin.root if dataset.origin and dataset.origin.root else Path(dataset.name)
    return (replace(each, key=f"{root.name}/{each.key}") for each in dataset.utterances)


def _check(splits: Splits) -> None:
    counts = Counter(each.label for each in splits.training.utterances)
    empty = [word for word in splits.labels if not counts[word]]
    if empty:
        raise TrainingError(
            f"no training clip says {listed(empty)}; record some, or leave "
            f"{'it' if len(empty) == 1 else 'them'} out with --keywords"
        )
    used = {(each.path, each.crop) for each in splits.training.utterances}
    for other in (splits.validation, splits.testing):
        shared = sum((each.path, each.crop) in used for each in other.utterances) if other else 0
        if other and shared:
            raise TrainingError(
                f"{shared:,} of the {len(other):,} {other.split} clips are training clips too; name other clips"
            )


@dataclass(frozen=True)
class Clips:
    """Decoded clips.

    Attributes:
        rows: (n, samples) int16 of full scale 32,768, in a memory map; or (n, dim) float32, vectors of an encoder.
        targets: (n,) int64.
        identities: of the n clips, for the guard.
    """

    rows: NDArray[np.int16] | NDArray[np.float32]
    targets: NDArray[np.int64]
    identities: tuple[ClipIdentity, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, index: Sequence[int] | NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Rows in [-1, 1] and targets."""
        rows = torch.from_numpy(np.asarray(self.rows[index]))
        if rows.dtype == torch.int16:
            rows = rows.float() / 32_768
        return rows, torch.from_numpy(self.targets[index])


def decoded(dataset: Dataset, front_end: FrontEnd, cache: Path, progress: bool = False) -> Clips:
    """The clips of a data set in a memory map, which is made if the same files were not decoded before.

    Raises:
        AudioError: a recording cannot be used.
        FileProblem: the map cannot be written.
    """
    name = f"clips-{_key(dataset, front_end)}"
    data, index = cache / f"{name}.npy", cache / f"{name}.json"
    if not (data.is_file() and index.is_file()):
        make_folder(cache)
        contents = _decode(dataset, front_end, data, progress)
        with whole(index) as part:
            part.write_text(json.dumps(contents), encoding="utf-8")
    contents = json.loads(index.read_text(encoding="utf-8"))
    identities = tuple(
        ClipIdentity(content, each.speaker) for content, each in zip(contents, dataset.utterances, strict=True)
    )
    return Clips(np.load(data, mmap_mode="r"), dataset.targets.numpy(), identities)


def _key(dataset: Dataset, front_end: FrontEnd) -> str:
    """Changes with any file that was changed, by its size and time."""
    told = [f"{FORMAT} {front_end.sample_rate} {front_end.samples}"]
    for each in dataset.utterances:
        try:
            status = each.path.stat()
        except OSError as error:
            raise AudioError(f"{each.path}: cannot be read ({error.strerror}); put it back or choose others") from error
        told.append(f"{each.path.resolve()}\0{each.crop}\0{status.st_size}\0{status.st_mtime_ns}")
    return hashlib.sha256("\n".join(told).encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _decode(dataset: Dataset, front_end: FrontEnd, path: Path, progress: bool) -> list[str]:
    """Writes the map; returns the content key of each clip."""

    def one(utterance: Utterance) -> tuple[str, bytes]:
        data, _ = read_bytes(utterance.path)
        waveform = decode(data, utterance.path, front_end.sample_rate)
        clip = front_end.fit([cropped(waveform, utterance, front_end.sample_rate)])[0]
        return _content(data, utterance.crop), (clip.clamp(-1, 1) * 32_767).round().short().numpy().tobytes()

    contents = []
    header = {"descr": "<i2", "fortran_order": False, "shape": (len(dataset), front_end.samples)}
    bar = tqdm(total=len(dataset), unit="clip", desc=f"decoding {dataset.split or dataset.name}", disable=not progress)
    # Written and not mapped, because a full disk ends a write with an error, and a map with a crash.
    with whole(path) as part, part.open("wb") as file, ThreadPoolExecutor(2) as threads, bar:
        np.lib.format.write_array_header_1_0(file, header)
        for content, row in threads.map(one, dataset.utterances):
            file.write(row)
            contents.append(content)
            bar.update()
    return contents


def _content(file: bytes, crop: tuple[float, float] | None) -> str:
    """The content key of a clip, as `embeddings.embed` makes it."""
    digest = hashlib.sha256(file)
    return hashlib.sha256(digest.digest() + f"{crop}".encode()).hexdigest() if crop else digest.hexdigest()


def noise_of(dataset: Dataset, sample_rate: int, seconds: float) -> Tensor | None:
    """(samples,) of the background noise that lies beside a data set's words; None where there is none.

    Only recordings in a folder `_background_noise_` beside the words' folders count.
    """
    folders = {each.path.parent.parent / NOISE for each in dataset.utterances if each.label != SILENCE}
    paths = sorted(path for folder in folders if folder.is_dir() for path in folder.glob("*.wav"))
    heard = [load_audio(path, sample_rate) for path in paths]
    joined = torch.cat(heard) if heard else torch.zeros(0)
    return joined if len(joined) >= round(seconds * sample_rate) else None

"""Folders of videos, and AudioSet's labels for them.

A video becomes moments: a frame and the second of sound around it. Every moment lies on the same grid of 0.04 s, for
negatives as for positives: frames and sounds from other grids give themselves away (Arandjelović and Zisserman 2018,
arXiv:1712.06651, section 3.2). Each video is decoded once, into arrays on disk.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws_imagebind.datasets.base import DatasetError, listed
from kws_imagebind.files import explaining, make_folder, whole
from kws_imagebind.registry import to_install

VIDEO_NAMES = frozenset(".mp4 .mkv .webm .mov .avi .m4v .mpg .mpeg .ogv".split())
GRID = 0.04  # seconds: a frame of 25 a second
SILENT = 1e-3  # root mean square of full scale below which a sound is silence
BLACK = 8.0  # deviation of the pixels, of 255, below which a frame shows nothing
FORMAT = 1  # of the shards; to be raised with anything on the way from a file to them
REASONS = ("broken", "no picture", "no sound", "short", "silent", "black")

# The 50 classes of musical instruments and tools that student implementations of the paper train on.
INSTRUMENTS_AND_TOOLS = tuple(
    "/m/0mkg /m/042v_gx /m/0192l /m/018j2 /m/0bm02 /m/0395lw /m/03w41f /m/0gy1t2s /m/0y64j /m/01xqw /m/02bk07 "
    "/t/dd00005 /m/0f8s22 /m/0l14jd /m/01wy6 /m/0239kh /m/01qbl /m/08j51y /m/01d380 /m/026t6 /m/02hnl /m/02sgy "
    "/m/01s0ps /m/03xq_f /t/dd00004 /m/02p01q /m/0l14j_ /m/0319l /m/0mbct /m/0342h /m/03l9g /m/03qjg /m/03m5k "
    "/m/03p19w /m/05148p4 /t/dd00003 /m/04rzd /m/0dwsp /m/05229 /m/05pd6 /m/05r5c /m/0_ksk /m/023vsd /m/01b82r "
    "/m/06ncr /m/0jtg0 /m/01p970 /m/07gql /m/07n_g /m/026fgl".split()
)


class VideoError(ValueError):
    """A video that cannot be used, with one of `REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class MomentConfig:
    """What is kept of a video.

    Attributes:
        image: height and width of a frame in pixels; it is scaled to cover them, and its middle is cut out.
        sample_rate: of the sound, in hertz.
        seconds: of sound around each frame.
        moments: kept of a video, at most; spread over it.
    """

    image: tuple[int, int] = (224, 224)
    sample_rate: int = 48_000
    seconds: float = 1.005
    moments: int = 10

    @property
    def samples(self) -> int:
        return round(self.seconds * self.sample_rate)


@dataclass(frozen=True)
class Moments:
    """Moments of one video.

    Attributes:
        times: (m,) seconds, multiples of `GRID`; of each frame and of the middle of its sound.
        frames: (m, H, W, 3) uint8.
        sounds: (m, samples) int16 of full scale 32,768.
    """

    times: NDArray[np.float64]
    frames: NDArray[np.uint8]
    sounds: NDArray[np.int16]


@dataclass(frozen=True)
class VideoShards:
    """The moments of many videos, in memory maps.

    Attributes:
        names: of the videos, relative to their folder.
        contents: SHA-256 of each file.
        first: (videos + 1,) where the moments of each begin.
        times, frames, sounds: as in `Moments`, of all.
        left_out: how many videos could not be used, by reason.
        config: that they were made with.
    """

    names: tuple[str, ...]
    contents: tuple[str, ...]
    first: NDArray[np.int64]
    times: NDArray[np.float64]
    frames: NDArray[np.uint8]
    sounds: NDArray[np.int16]
    left_out: Counter[str]
    config: MomentConfig

    def __len__(self) -> int:
        return len(self.names)

    @property
    def note(self) -> str:
        """What a reader of the results should know."""
        out = ", ".join(f"{self.left_out[reason]:,} {reason}" for reason in REASONS if self.left_out[reason])
        return f"{len(self):,} videos" + (f"; {self.left_out.total():,} left out: {out}" if out else "")


class AudioVisualFolder:
    """A folder of videos, searched with its subfolders.

    Args:
        root: the folder.
        config: what is kept of each.

    Raises:
        DatasetError: there is no such folder, or it holds no videos.
    """

    def __init__(self, root: Path, config: MomentConfig | None = None) -> None:
        if not root.is_dir():
            raise DatasetError(f"'{root}' is not a folder; expected a folder of videos")
        self.root, self.config = root, config or MomentConfig()
        self.paths = sorted(path for path in root.rglob("*") if path.is_file() and is_video(path))
        if not self.paths:
            raise DatasetError(f"'{root}' holds no videos; expected files such as MP4, MKV or WebM")

    def decoded(self, cache: Path) -> VideoShards:
        """All videos, decoded now or before.

        Raises:
            DatasetError: PyAV is not installed, or no video can be used.
            FileProblem: nothing can be written.
        """
        _pyav()
        folder = make_folder(cache) / f"videos-{self._key()}"
        if not (folder / "index.json").is_file():
            make_folder(folder)
            self._decode(folder)
        return _opened(folder, self.config)

    def _key(self) -> str:
        told = [f"{FORMAT} {json.dumps(asdict(self.config))}"]
        for path in self.paths:
            status = path.stat()
            told.append(f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}")
        return hashlib.sha256("\n".join(told).encode("utf-8", "surrogateescape")).hexdigest()[:24]

    def _decode(self, folder: Path) -> None:
        """Writes the arrays one video after another, so that only a few are in memory; the index is written last."""
        names, contents, counts, times, left_out = [], [], [], [], Counter[str]()
        with (
            whole(folder / "frames.bin") as frames,
            whole(folder / "sounds.bin") as sounds,
            frames.open("wb") as frame_file,
            sounds.open("wb") as sound_file,
            ThreadPoolExecutor(2) as threads,
        ):
            for path, found in zip(self.paths, threads.map(self._attempt, self.paths), strict=True):
                if isinstance(found, str):
                    left_out[found] += 1
                    continue
                frame_file.write(found.frames.tobytes())
                sound_file.write(found.sounds.tobytes())
                names.append(path.relative_to(self.root).as_posix())
                contents.append(hashlib.sha256(path.read_bytes()).hexdigest())
                counts.append(len(found.times))
                times += found.times.tolist()
        if not names:
            told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(left_out.items()))
            raise DatasetError(f"no video in '{self.root}' can be used: {told}")
        index = {"names": names, "contents": contents, "counts": counts, "times": times, "left_out": left_out}
        with whole(folder / "index.json") as part:
            part.write_text(json.dumps(index), encoding="utf-8")

    def _attempt(self, path: Path) -> Moments | str:
        try:
            return moments_of(path, self.config)
        except VideoError as error:
            return error.reason


def is_video(path: Path) -> bool:
    """Whether a file's name is that of a video."""
    return path.suffix.lower() in VIDEO_NAMES and not path.name.startswith(".")


def _opened(folder: Path, config: MomentConfig) -> VideoShards:
    with explaining(folder / "index.json", "read"):
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    first = np.concatenate([[0], np.cumsum(index["counts"])]).astype(np.int64)
    count = int(first[-1])
    return VideoShards(
        tuple(index["names"]),
        tuple(index["contents"]),
        first,
        np.array(index["times"]),
        np.memmap(folder / "frames.bin", np.uint8, "r", shape=(count, *config.image, 3)),
        np.memmap(folder / "sounds.bin", np.int16, "r", shape=(count, config.samples)),
        Counter(index["left_out"]),
        config,
    )


def _pyav() -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise DatasetError(f"videos need PyAV; {to_install('av', 'video')}") from error
    return av


def moments_of(path: Path, config: MomentConfig) -> Moments:
    """The moments of a video.

    Raises:
        VideoError: it is broken or short, or nothing can be seen or heard in it.
        DatasetError: PyAV is not installed.
    """
    av = _pyav()
    try:
        sound = _sound(av, path, config.sample_rate)
        times = _grid(len(sound) / config.sample_rate, config)
        found = list(_frames(av, path, times, config))
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise error if isinstance(error, VideoError) else VideoError("broken") from error
    if not found:
        raise VideoError("short")
    kept = [(time, frame, _around(sound, time, config)) for time, frame in found]
    heard = [each for each in kept if float(np.sqrt(np.mean(each[2] ** 2))) >= SILENT]
    if not heard:
        raise VideoError("silent")
    seen = [each for each in heard if float(each[1].std()) >= BLACK]
    if not seen:
        raise VideoError("black")
    sounds = np.stack([each[2] for each in seen])
    return Moments(
        np.array([each[0] for each in seen]),
        np.stack([each[1] for each in seen]),
        (sounds.clip(-1, 1) * 32_767).round().astype(np.int16),
    )


def _grid(seconds: float, config: MomentConfig) -> NDArray[np.float64]:
    """Times of moments: multiples of `GRID`, spread over all that have their whole sound around them."""
    half = config.seconds / 2
    first, last = math.ceil(half / GRID - 1e-9), math.floor((seconds - half) / GRID + 1e-9)
    if last < first:
        raise VideoError("short")
    steps = np.unique(np.linspace(first, last, config.moments).round().astype(int))
    return steps * GRID


def _sound(av: Any, path: Path, rate: int) -> NDArray[np.float32]:
    """(samples,) of all the sound, mono."""
    with av.open(str(path)) as file:
        if not file.streams.audio:
            raise VideoError("no sound")
        resampler = av.AudioResampler("flt", "mono", rate)
        parts = [
            part.to_ndarray()[0] for frame in file.decode(file.streams.audio[0]) for part in resampler.resample(frame)
        ]
        parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    if not parts:
        raise VideoError("no sound")
    return np.concatenate(parts)


def _frames(
    av: Any, path: Path, times: NDArray[np.float64], config: MomentConfig
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """The frame that is shown at each time."""
    with av.open(str(path)) as file:
        if not file.streams.video:
            raise VideoError("no picture")
        wanted, shown = list(times), None
        for frame in file.decode(file.streams.video[0]):
            start = float(frame.time or 0.0)
            while wanted and shown is not None and wanted[0] < start - 1e-6:
                yield wanted.pop(0), _fitted(shown, config.image)
            shown = frame
            if not wanted:
                return
        rate = float(file.streams.video[0].average_rate or 25)
        if shown is not None:
            end = float(shown.time or 0.0) + 1 / rate
            yield from ((time, _fitted(shown, config.image)) for time in wanted if time < end)


def _fitted(frame: Any, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3): scaled to cover the size, and the middle of it."""
    scale = max(size[0] / frame.height, size[1] / frame.width)
    height, width = max(size[0], round(frame.height * scale)), max(size[1], round(frame.width * scale))
    picture = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return np.ascontiguousarray(picture[top : top + size[0], left : left + size[1]])


def _around(sound: NDArray[np.float32], time: float, config: MomentConfig) -> NDArray[np.float32]:
    start = min(max(0, round((time - config.seconds / 2) * config.sample_rate)), len(sound) - config.samples)
    return sound[start : start + config.samples]


@dataclass(frozen=True)
class Segment:
    """A line of AudioSet's segment lists."""

    video: str
    start: float
    end: float
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file name, without its ending, that the segment is looked for by.

        >>> Segment("--abc", 30.0, 40.0, ()).name
        '--abc_30.000'
        """
        return f"{self.video}_{self.start:.3f}"


def read_segments(path: Path, classes: Iterable[str] | None = None) -> tuple[Segment, ...]:
    """AudioSet's `*_train_segments.csv` or `eval_segments.csv`.

    Args:
        path: of the file.
        classes: identifiers to keep, such as `INSTRUMENTS_AND_TOOLS`; segments keep only those labels. None keeps all.

    Raises:
        DatasetError: the file is not such a list, or nothing of it is kept.
    """
    chosen, found = None if classes is None else set(classes), []
    with explaining(path, "read"), path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, skipinitialspace=True), 1):
            if not row or row[0].startswith("#"):
                continue
            try:
                video, start, end, labels = row
                names = tuple(each for each in labels.split(",") if chosen is None or each in chosen)
                segment = Segment(video, float(start), float(end), names)
            except ValueError as error:
                raise DatasetError(
                    f"line {number} of '{path}' is not a segment; expected YTID, start, end, \"labels\" as in AudioSet"
                ) from error
            if names:
                found.append(segment)
    if not found:
        raise DatasetError(f"'{path}' holds no segment of the classes that are asked for")
    return tuple(found)


def labels_of(names: Sequence[str], segments: Iterable[Segment]) -> tuple[tuple[str, ...], ...]:
    """The labels of each video, found by `YTID` or `YTID_START` as its file name; () where it is in no list."""
    known: dict[str, tuple[str, ...]] = {}
    for each in segments:
        known.setdefault(each.video, each.labels)
        known[each.name] = each.labels
    return tuple(known.get(Path(name).name.removesuffix(Path(name).suffix), ()) for name in names)


class Ontology:
    """AudioSet's ontology: classes in a tree, some of which have several parents.

    Args:
        entries: the content of `ontology.json`.

    Raises:
        DatasetError: an entry has no id or names no children.
    """

    def __init__(self, entries: Sequence[dict[str, Any]]) -> None:
        try:
            self.names = {str(each["id"]): str(each["name"]) for each in entries}
            pairs = [(str(each["id"]), str(child)) for each in entries for child in each["child_ids"]]
        except (KeyError, TypeError) as error:
            raise DatasetError(f"the ontology lacks {error}; expected AudioSet's ontology.json") from error
        below = {child for _, child in pairs}
        root = [("", name) for name in self.names if name not in below]
        self._index = {name: i for i, name in enumerate(["", *self.names])}
        self._edges = [(self._index[a], self._index[b]) for a, b in [*pairs, *root] if b in self._index]

    @classmethod
    def read(cls, path: Path) -> Ontology:
        """From `ontology.json`.

        Raises:
            DatasetError: it is not an ontology.
            FileProblem: it cannot be read.
        """
        with explaining(path, "read"):
            text = path.read_text(encoding="utf-8")
        try:
            return cls(json.loads(text))
        except ValueError as error:
            raise error if isinstance(error, DatasetError) else DatasetError(f"'{path}' is not JSON") from error

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """(classes + 1, classes + 1) edges between classes, the root being the first."""
        count = len(self._index)
        neighbours: list[set[int]] = [set() for _ in range(count)]
        for one, other in self._edges:
            neighbours[one].add(other)
            neighbours[other].add(one)
        found = np.full((count, count), np.inf)
        for start in range(count):
            found[start, start], reached, steps = 0, {start}, 0
            seen = set(reached)
            while reached:
                steps += 1
                reached = {each for node in reached for each in neighbours[node]} - seen
                seen |= reached
                found[start, list(reached)] = steps
        return found

    def relevance(self, labels: Sequence[Sequence[str]]) -> NDArray[np.float64]:
        """(n, n) of videos to each other: 1 for a common class, less by tree distance, 0 for the farthest classes.

        Of several labels the two nearest count. A video without labels is relevant to none.

        Raises:
            DatasetError: a label is not in the ontology.
        """
        unknown = {each for some in labels for each in some} - set(self._index)
        if unknown:
            raise DatasetError(f"{listed(unknown)} not in the ontology; name the ontology that the labels are of")
        used = sorted({each for some in labels for each in some})
        at = [self._index[each] for each in used]
        between = self.distances[np.ix_(at, at)]
        near = 1 - between / max(1.0, float(between.max(initial=0)))
        has = np.array([[each in some for each in used] for some in labels], dtype=bool).reshape(len(labels), len(used))
        found = np.zeros((len(labels), len(labels)))
        for row, mine in enumerate(has):
            if mine.any():
                best = near[mine].max(0)  # of each class to the nearest of mine
                found[row] = np.where(has, best, 0).max(1, initial=0)
        return found


def class_counts(labels: Sequence[Sequence[str]]) -> Counter[str]:
    """How many videos have each label, the most frequent first when asked by `most_common`."""
    return Counter(each for some in labels for each in some)

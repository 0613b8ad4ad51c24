"""The published list of everything the bundled weights learnt from, so that anyone can look for leaks.

    python -m kws_imagebind.training.corpora.manifest --corpus training/corpus --recordings DIR

writes `weights/training_manifest.tsv.gz`, a line for each word or phrase of each source with its phonemes and the
numbers of speakers and segments, and `weights/training_recordings.tsv.gz`, a line for each recording of a person with
its checksum, source and speaker. The recordings themselves are not published.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kws_imagebind.files import whole
from kws_imagebind.text.phonemes import Pronunciation
from kws_imagebind.training.corpora.alignment import read_manifest as read_recordings
from kws_imagebind.training.corpora.people import may_teach
from kws_imagebind.training.corpora.shards import Corpus

_Key = tuple[str, str, str]  # word, phonemes, source
MANIFEST = Path(__file__).parents[2] / "weights" / "training_manifest.tsv.gz"
RECORDINGS = Path(__file__).parents[2] / "weights" / "training_recordings.tsv.gz"


@dataclass(frozen=True)
class Entry:
    """So many segments of one source, by so many speakers, that say one word or phrase."""

    word: str
    pronunciation: Pronunciation
    source: str
    speakers: int
    segments: int


@dataclass(frozen=True)
class HeardRecording:
    """A file that segments may have been cut from."""

    sha256: str
    source: str
    speaker: str


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    table = csv.writer(text, delimiter="\t", lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    with whole(path) as part:
        part.write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))


def _read(path: Path) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode()), delimiter="\t")


def write_manifest(corpus: Corpus, path: Path = MANIFEST, others: Iterable[Entry] = ()) -> int:
    """Writes the manifest of a corpus; returns its number of lines.

    Args:
        corpus: what a model learnt from.
        path: where.
        others: lines of what other bundled models learnt from. Of a line that both have, the greater counts are
            written, since the corpora of two releases share most of their segments.
    """
    speakers: dict[_Key, list[str]] = {}
    for segment in corpus.segments:
        key = (segment.word, " ".join(segment.pronunciation), segment.source)
        speakers.setdefault(key, []).append(segment.speaker)
    counts = {key: (len(set(by)), len(by)) for key, by in speakers.items()}
    for entry in others:
        key = (entry.word, " ".join(entry.pronunciation), entry.source)
        known = counts.get(key, (0, 0))
        counts[key] = max(known[0], entry.speakers), max(known[1], entry.segments)
    rows = [(*key, *both) for key, both in sorted(counts.items())]
    _write(path, ("word", "phonemes", "source", "speakers", "segments"), rows)
    return len(rows)


def read_manifest(path: Path = MANIFEST) -> Iterator[Entry]:
    """The lines of a manifest."""
    for row in _read(path):
        pronunciation = tuple(row["phonemes"].split())
        yield Entry(row["word"], pronunciation, row["source"], int(row["speakers"]), int(row["segments"]))


def write_recordings(folder: Path, path: Path = RECORDINGS) -> int:
    """Writes the checksums of all recordings that `alignment` may cut up; returns their number."""
    recordings = read_recordings(folder)
    heard = {
        recording.path: recording for recording in recordings if may_teach(recording.collection, recording.speaker)
    }
    rows = sorted(
        (recording.source, recording.speaker, hashlib.sha256(file.read_bytes()).hexdigest())
        for file, recording in heard.items()
    )
    _write(path, ("source", "speaker", "sha256"), rows)
    return len(rows)


def published_recordings(path: Path = RECORDINGS) -> Iterator[HeardRecording]:
    """The lines that `write_recordings` wrote."""
    for row in _read(path):
        yield HeardRecording(row["sha256"], row["source"], row["speaker"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("training/corpus"))
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--others", type=Path, nargs="+", default=[], help="manifests of other bundled weights, to add")
    arguments = parser.parse_args()
    corpus = Corpus(arguments.corpus.glob("*.tsv"))
    others = [entry for path in arguments.others for entry in read_manifest(path)]
    lines, files = write_manifest(corpus, others=others), write_recordings(arguments.recordings)
    size = (MANIFEST.stat().st_size + RECORDINGS.stat().st_size) / 1e6
    print(f"{len(corpus):,} segments in {lines:,} lines, {files:,} recordings, {size:.2f} MB")


if __name__ == "__main__":
    main()

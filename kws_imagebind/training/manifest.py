"""The published list of everything the bundled weights learnt from, so that anyone can look for leaks.

    python -m kws_imagebind.training.manifest --corpus training/corpus

writes `weights/training_manifest.tsv.gz`: a line for each word or phrase of each source with its phonemes and the
number of segments. Recordings themselves are not published.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kws_imagebind.files import whole
from kws_imagebind.phonemes import Pronunciation
from kws_imagebind.training.corpus import Corpus

MANIFEST = Path(__file__).parents[1] / "weights" / "training_manifest.tsv.gz"
_COLUMNS = ("word", "phonemes", "source", "segments")


@dataclass(frozen=True)
class Entry:
    """So many segments of one source that say one word or phrase."""

    word: str
    pronunciation: Pronunciation
    source: str
    segments: int


def write_manifest(corpus: Corpus, path: Path = MANIFEST) -> int:
    """Writes the manifest; returns its number of lines."""
    counted = Counter((segment.word, " ".join(segment.pronunciation), segment.source) for segment in corpus.segments)
    text = io.StringIO()
    rows = csv.writer(text, delimiter="\t", lineterminator="\n")
    rows.writerow(_COLUMNS)
    rows.writerows((*key, count) for key, count in sorted(counted.items()))
    with whole(path) as part:
        part.write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))
    return len(counted)


def read_manifest(path: Path = MANIFEST) -> Iterator[Entry]:
    """The lines of a manifest."""
    text = io.StringIO(gzip.decompress(path.read_bytes()).decode())
    for row in csv.DictReader(text, delimiter="\t"):
        yield Entry(row["word"], tuple(row["phonemes"].split()), row["source"], int(row["segments"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("training/corpus"))
    arguments = parser.parse_args()
    corpus = Corpus(arguments.corpus.glob("*.tsv"))
    lines = write_manifest(corpus)
    print(f"{len(corpus):,} segments in {lines:,} lines, {MANIFEST.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

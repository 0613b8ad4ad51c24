"""How well words are found in running speech.

    python -m benchmarks.search --data ../shared/data

LibriSpeech's sentences of `other_words` are joined into two long recordings of different speakers. The queries are the
words of Speech Commands that are said in them, none of which PhoneBind learnt (other words of these recordings it did).
The first recording chooses the threshold, the second is reported. A place that is found is right if the sentence it
lies in holds the word; a sentence counts once. Chance is the share of sentences that hold the word.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

import kws_imagebind as kws
from kws_imagebind.encoders.base import Encoder
from kws_imagebind.metrics.intervals import Interval, proportion_of_sums
from kws_imagebind.metrics.retrieval import by_group, retrieval
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.search import HOP, find, index_recordings
from kws_imagebind.text.tasks import task

SOURCE = "librispeech_251spk"
PAUSE = 0.5  # s between sentences
RATE = 16_000


@dataclass(frozen=True)
class Running:
    """A long recording of sentences.

    Attributes:
        path: of the recording.
        starts: (sentences + 1,) seconds where each begins, and where the last ends.
        words: of each sentence.
        speakers: of each sentence.
    """

    path: Path
    starts: NDArray[np.float64]
    words: tuple[frozenset[str], ...]
    speakers: tuple[str, ...] = ()


def join(rows: list[dict[str, str]], root: Path, path: Path) -> Running:
    """Writes sentences one after another."""
    parts, starts, words = [], [0.0], []
    for row in rows:
        waveform = kws.load_audio(root / row["path"], RATE).numpy()
        parts += [waveform, np.zeros(round(PAUSE * RATE), np.float32)]
        starts.append(starts[-1] + sum(len(part) for part in parts[-2:]) / RATE)
        words.append(frozenset(row["transcript"].split()))
    soundfile.write(path, np.concatenate(parts), RATE, subtype="PCM_16")
    return Running(path, np.array(starts), tuple(words), tuple(row["speaker"] for row in rows))


def sentence_scores(
    running: Running, encoder: Encoder, hop: float, queries: list[str], window: float | None = None
) -> NDArray[np.float64]:
    """(queries, sentences): the score of the best place in each sentence; -1 where none was found."""
    index = index_recordings(running.path, encoder, hop=hop, window=window)
    scores = np.full((len(queries), len(running.words)), -1.0)
    for row, word in enumerate(queries):
        vectors = ZeroShotClassifier(encoder, [word]).weights.numpy()
        for hit in find(index, vectors, len(index)):
            middle = hit.start + (hit.seconds or 0.0) / 2
            sentence = min(int(np.searchsorted(running.starts, middle, side="right")) - 1, len(running.words) - 1)
            scores[row, sentence] = max(scores[row, sentence], hit.score)
    return scores


def relevance(running: Running, queries: list[str]) -> NDArray[np.bool_]:
    return np.array([[word in words for words in running.words] for word in queries])


def best_threshold(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The score from which F1 over all words is highest."""
    order = np.argsort(-scores.ravel())
    hits = np.cumsum(right.ravel()[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + right.sum())
    return float(scores.ravel()[order][int(f1.argmax())])


def shares(won: NDArray[np.bool_], total: NDArray[np.bool_], speakers: Sequence[str]) -> Interval:
    """The share of some (queries, sentences) that are won, with its interval over the speakers of the sentences."""
    names = sorted(set(speakers))
    whose = np.array([names.index(speaker) for speaker in speakers])
    sums = [np.bincount(whose, each.sum(0), len(names)) for each in (won, total)]
    return proportion_of_sums(*sums)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds other_words")
    parser.add_argument("--hop", type=float, default=HOP, help="seconds between windows")
    parser.add_argument("--window", type=float, help="seconds of a window; by default the encoder's own")
    arguments = parser.parse_args()
    root = arguments.data / "other_words"
    with (root / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["source"] == SOURCE]
    rows.sort(key=lambda row: row["path"])
    speakers = sorted({row["speaker"] for row in rows})
    first = set(speakers[: len(speakers) // 2])
    encoder = kws.load_encoder("phonebind")
    threshold = None
    with tempfile.TemporaryDirectory() as folder:
        for name, inside in (("chooses", True), ("reported", False)):
            chosen = [row for row in rows if (row["speaker"] in first) == inside]
            running = join(chosen, root, Path(folder) / f"{name}.wav")
            queries = [word for word in task("v2-35").keywords if any(word in words for words in running.words)]
            scores, right = (
                sentence_scores(running, encoder, arguments.hop, queries, arguments.window),
                relevance(running, queries),
            )
            threshold = best_threshold(scores, right) if threshold is None else threshold
            tell(name, running, queries, scores, right, threshold)


def tell(
    name: str,
    running: Running,
    queries: list[str],
    scores: NDArray[np.float64],
    right: NDArray[np.bool_],
    threshold: float,
) -> None:
    said, found = scores >= threshold, retrieval(scores, right)
    intervals, chance = by_group(found, queries), found.mean_chance()
    print(
        f"{name}: {running.starts[-1] / 60:.1f} min, {len(running.words)} sentences, {len(queries)} words, "
        f"{int(right.sum())} sentences to be found (a sentence holds a word by chance in {100 * right.mean():.1f} %)"
    )
    precision = shares(said & right, said, running.speakers)
    recall = shares(said & right, right, running.speakers)
    print(f"  threshold {threshold:.3f}: precision {precision} places, recall {recall} sentences")
    for measure in ("hit_rate@1", "hit_rate@5", "map", "ndcg@30"):
        print(f"  {measure:<11} {intervals[measure]} words; chance {100 * chance[measure]:.1f} %")


if __name__ == "__main__":
    main()

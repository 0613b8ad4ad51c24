"""What a person's own examples gain on their other recordings.

    python -m benchmarks.enrolment --data ../shared/data --split testing

Speech Commands: whoever said a word more than K times enrols K recordings of each such word; the others of these words
are reported, among all words of the task that the clips hold. Which recordings are enrolled is drawn several times.
Accuracy is the share of the reported clips whose own word scores most, and has limits by speaker. For detection, a
clip is accepted where its best enrolled word reaches the threshold: misses of the reported clips, and false alarms of
clips of words that this person did not enrol, by this person and by others. The text alone is measured on the same
clips.

With --wake-words DIR (a folder with a manifest.tsv as that of `other_words`) it also takes people who recorded a wake
word of their own many times.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import kws_imagebind as kws
from kws_imagebind.encoders.base import Encoder
from kws_imagebind.encoders.confidence import THRESHOLD
from kws_imagebind.metrics.crossed import crossed_interval
from kws_imagebind.metrics.intervals import proportion_by_speaker
from kws_imagebind.metrics.paired import compare_paired
from kws_imagebind.readouts.enrolment import HOLD, EnrolledWord, Enrolment, background_of
from kws_imagebind.readouts.fillers import filler_vectors
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.windows import nearest

DRAWS = 5
STRANGERS = 100  # clips of other people, a speaker and draw


@dataclass(frozen=True)
class Clips:
    """Vectors (n, dim) of clips, with their words and speakers."""

    features: Tensor
    words: NDArray[np.str_]
    speakers: NDArray[np.str_]

    def said(self, more_than: int) -> dict[str, dict[str, NDArray[np.int64]]]:
        """The clips of each speaker and word that was said more than so many times."""
        found: dict[str, dict[str, NDArray[np.int64]]] = defaultdict(dict)
        for speaker in np.unique(self.speakers):
            for word in np.unique(self.words[self.speakers == speaker]):
                rows = np.flatnonzero((self.speakers == speaker) & (self.words == word))
                if len(rows) > more_than:
                    found[str(speaker)][str(word)] = rows
        return found


@dataclass
class Outcome:
    """What was found of the reported clips and of clips of other words; each list is of one draw."""

    hits: list[list[bool]]
    missed: list[list[bool]]
    speakers: list[str]
    alarms: list[bool]
    tempted: list[str]


Background = tuple[Tensor, tuple[str, ...]]  # vectors of other clips, and their words


def enrolled(
    text: ZeroShotClassifier, examples: Mapping[str, Tensor], encoder: Encoder, background: Background, hold: float
) -> Enrolment:
    """The words of a classifier, some with examples."""
    none = torch.zeros(0, text.weights.shape[1])
    vectors, said = background
    words = tuple(
        EnrolledWord(label, text.weights[text.owners == index], examples.get(label, none)).normalised(
            vectors[[each != label for each in said]]
        )
        for index, label in enumerate(text.labels)
    )
    return Enrolment(words, encoder.name, encoder.fingerprint, hold)


def measure(
    clips: Clips, shots: int, encoder: Encoder, text: ZeroShotClassifier, with_audio: bool, draws: int, hold: float
) -> Outcome:
    """The reported clips and those of other words, with `shots` examples or by the text alone."""
    fillers, confidence = filler_vectors(encoder, text), encoder.confidence()  # type: ignore[attr-defined]
    background = background_of(encoder)
    column = {label: index for index, label in enumerate(text.labels)}
    outcome = Outcome([], [], [], [], [])

    def sure(scores: Tensor, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (confidence(scores, nearest(clips.features[rows], fillers)) >= THRESHOLD).numpy()

    for draw in range(draws):
        rng = np.random.default_rng([draw, shots])
        hits, missed, outcome.speakers = [], [], []
        for speaker, own in clips.said(shots).items():
            mixed = {word: rng.permutation(rows) for word, rows in own.items()}
            examples = {word: clips.features[rows[:shots]] for word, rows in mixed.items()} if with_audio else {}
            words = enrolled(text, examples, encoder, background, hold)
            rest = np.concatenate([rows[shots:] for rows in mixed.values()])
            targets = torch.tensor([column[word] for word in clips.words[rest]])
            values = words(clips.features[rest]).values
            hits += (values.argmax(1) == targets).tolist()
            missed += (~sure(values.gather(1, targets[:, None])[:, 0], rest)).tolist()
            outcome.speakers += [speaker] * len(rest)
            others = np.flatnonzero(~np.isin(clips.words, list(own)))
            strange = others[clips.speakers[others] != speaker]
            others = np.concatenate([
                others[clips.speakers[others] == speaker],
                rng.choice(strange, min(STRANGERS, len(strange)), replace=False),
            ])  # fmt: skip
            best = words(clips.features[others]).values[:, [column[word] for word in own]].amax(1)
            outcome.alarms += sure(best, others).tolist()
            outcome.tempted += [speaker] * len(others)
        outcome.hits.append(hits)
        outcome.missed.append(missed)
    return outcome


def report(clips: Clips, encoder: Encoder, labels: Sequence[str], shots: int, draws: int, hold: float) -> None:
    text = ZeroShotClassifier(encoder, labels)
    groups = clips.said(shots)
    words = sum(len(own) for own in groups.values())
    print(f"\n{shots} examples a word: {words} words of {len(groups)} speakers, {draws} draws")
    found = {}
    for name, with_audio in (("text alone", False), ("enrolled", True)):
        found[name] = one = measure(clips, shots, encoder, text, with_audio, draws, hold)
        alarms = proportion_by_speaker(one.alarms, one.tempted)
        print(
            f"{name:<12} accuracy {crossed_interval(one.hits, one.speakers)}; missed "
            f"{crossed_interval(one.missed, one.speakers)}; false alarms {alarms} of clips of other words"
        )
    pairs = [np.array(found[name].hits).ravel() for name in ("enrolled", "text alone")]
    gain = compare_paired(*pairs, speakers=found["enrolled"].speakers * draws)
    print(f"gain over the text: {gain.difference_text}, all draws together, by speaker")


def speech_commands(root: Path, split: str, encoder: Encoder, cache: Path | None) -> Clips:
    audio = kws.embed(encoder, kws.load_dataset("speech-commands", root=root, split=split, task="v2-35"), cache=cache)
    return Clips(
        audio.features,
        np.array([each.label for each in audio.utterances]),
        np.array([each.speaker for each in audio.utterances]),
    )


def wake_words(root: Path, encoder: Encoder) -> Clips:
    """What people recorded who gave wake words of their own; PhoneBind was trained on two of them (docs/vectors.md)."""
    with (root / "manifest.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["source"] == "ovos" and row["speaker"]]
    waveforms = [kws.load_audio(root / row["path"], encoder.sample_rate) for row in rows]
    features = torch.cat([encoder.encode_audio(waveforms[at : at + 64]) for at in range(0, len(rows), 64)])
    return Clips(features, np.array([row["transcript"] for row in rows]), np.array([row["speaker"] for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="holds Speech Commands")
    parser.add_argument("--split", default="validation", help="testing clips report, they never choose")
    parser.add_argument("--shots", default="1,3,4")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--hold", type=float, default=HOLD, help="weight of the text, in examples")
    parser.add_argument("--wake-words", type=Path, metavar="DIR")
    parser.add_argument("--cache", type=Path, default=Path(".cache"))
    arguments = parser.parse_args()
    encoder = kws.load_encoder("phonebind")
    clips = speech_commands(arguments.data, arguments.split, encoder, arguments.cache)
    labels = sorted(set(clips.words.tolist()))
    print(f"Speech Commands, {arguments.split}: {len(labels)} words, chance {100 / len(labels):.1f} %")
    for shots in map(int, arguments.shots.split(",")):
        report(clips, encoder, labels, shots, arguments.draws, arguments.hold)
    if arguments.wake_words:
        clips = wake_words(arguments.wake_words, encoder)
        labels = sorted(set(clips.words.tolist()))
        print(f"\nWake words of their own: {len(labels)} words and phrases of {len(set(clips.speakers))} people")
        for shots in (1, 3, 5):
            report(clips, encoder, labels, shots, arguments.draws, arguments.hold)


if __name__ == "__main__":
    main()

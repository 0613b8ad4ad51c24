"""What a data set holds: clips and speakers of each word, before anything is measured."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from kws_imagebind.datasets import Dataset


@dataclass(frozen=True)
class WordCount:
    """One word's part of a data set."""

    word: str
    clips: int
    speakers: int


@dataclass(frozen=True)
class Description:
    """The class distribution of a data set. `str()` gives the table.

    Attributes:
        words: every keyword in the data set's order, those without clips included.
        speakers: people in the whole data set; 0 if some clip does not say who spoke.
        most_of_one: clips of the speaker with the most.
        title: what is described.
        note: what a reader should know of it.
    """

    words: tuple[WordCount, ...]
    speakers: int
    most_of_one: int
    title: str
    note: str

    @property
    def clips(self) -> int:
        return sum(each.clips for each in self.words)

    def as_dict(self) -> dict[str, Any]:
        return {
            "data": self.title,
            "note": self.note,
            "clips": self.clips,
            "speakers": self.speakers,
            "most_of_one_speaker": self.most_of_one,
            "words": {each.word: {"clips": each.clips, "speakers": each.speakers} for each in self.words},
        }

    def __str__(self) -> str:
        width = max(len("word"), *(len(each.word) for each in self.words))
        lines = [f"{'word':<{width}}   clips  speakers   share"]
        for each in self.words:
            share = 100 * each.clips / self.clips
            speakers = f"{each.speakers:,}" if self.speakers else "unknown"
            lines.append(f"{each.word:<{width}}  {each.clips:6,}  {speakers:>8}  {share:5.1f} %")
        sizes = [each.clips for each in self.words if each.clips]
        people = (
            f"{self.speakers:,} speakers, at most {self.most_of_one:,} clips of one"
            if self.speakers
            else "speakers unknown"
        )
        lines += [
            "",
            f"{self.title}; {self.note}".rstrip("; "),
            f"{self.clips:,} clips of {len(sizes):,} words, {min(sizes):,} to {max(sizes):,} a word; {people}",
            f"always saying '{max(self.words, key=lambda each: each.clips).word}' would be right for "
            f"{100 * max(sizes) / self.clips:.1f} %",
        ]
        return "\n".join(lines)


def describe(dataset: Dataset) -> Description:
    """Counts the clips and speakers of each word of a data set."""
    clips = Counter(utterance.label for utterance in dataset.utterances)
    people: dict[str, set[str]] = {}
    for utterance in dataset.utterances:
        if utterance.speaker is not None:
            people.setdefault(utterance.label, set()).add(utterance.speaker)
    speakers = Counter(utterance.speaker for utterance in dataset.utterances)
    known = None not in speakers
    split = f" ({dataset.split})" if dataset.split else ""
    return Description(
        words=tuple(WordCount(word, clips[word], len(people.get(word, ()))) for word in dataset.labels),
        speakers=len(speakers) if known else 0,
        most_of_one=max(speakers.values()) if known else 0,
        title=f"{dataset.name}{split}, task {dataset.task}",
        note=dataset.note,
    )

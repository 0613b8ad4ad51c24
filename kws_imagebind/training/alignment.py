"""Real speech of other words, cut into words: the second half of what PhoneBind learns from.

    python -m kws_imagebind.training.alignment --recordings DIR --model training/aligner/phonebind.safetensors

reads `manifest.tsv` (path, kind, speaker, transcript, flagged, source) beside the recordings. Isolated words are taken
as they are; sentences are cut into words and pairs of words by forced alignment (CTC segmentation, arXiv:2007.09127)
with the spelling of a first PhoneBind that has learnt from synthetic speech alone. Nothing that holds one of the 35
words, a homophone or an inflection is kept, whether the manifest flags it or `vocabulary.is_excluded` does.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from kws_imagebind.audio import load_audio, mel_power
from kws_imagebind.models.phonebind import BLANK, PHONEME_INDEX, PhoneBind, features, load
from kws_imagebind.phonemes import Pronunciation, lookup, without_stress
from kws_imagebind.training.corpus import SAMPLE_RATE, Segment, condition, is_written, write_shard
from kws_imagebind.training.vocabulary import is_excluded

# Wake words that no dictionary has.
NAMES = {
    "snowboy": without_stress("S N OW B OY"),
    "hadouken": without_stress("HH AH D UW K EH N"),
    "dracarys": without_stress("D R AH K AA R IH S"),
    "fenrir": without_stress("F EH N R IH R"),
}
FRAME = 480  # samples between two spellings of the audio tower: three hops of 10 ms
BEFORE, AFTER = 1_000, 1_200  # samples kept around a word, since CTC marks the middle of a phoneme
CONFIDENCE = 0.18  # least mean probability of a word's phonemes
PHONEMES_PER_SEGMENT = (3, 10)  # the shortest words of a sentence are swallowed more often than spoken
LONGEST_SENTENCE = 16.5  # s


@dataclass(frozen=True)
class Recording:
    """A line of the manifest."""

    path: Path
    kind: str  # "word" or "sentence"
    speaker: str
    words: tuple[str, ...]
    flagged: frozenset[str]
    source: str


@dataclass(frozen=True)
class AlignedWord:
    """Where a word lies in its recording, in samples, and how sure the model is of it."""

    word: str
    pronunciation: Pronunciation
    start: int
    end: int
    confidence: float


def read_manifest(folder: Path) -> list[Recording]:
    """The recordings whose transcript is the whole of what is said."""
    recordings = []
    with (folder / "manifest.tsv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if "|" in row["transcript"] or row["source"] == "picovoice_s2i":
                continue  # slot values, not the sentence
            recordings.append(
                Recording(
                    folder / row["path"],
                    row["kind"],
                    row["speaker"] or row["path"].rsplit(".", 1)[0].split("/", 1)[1],
                    tuple(re.findall(r"[a-z']+", row["transcript"].lower())),
                    frozenset(row["flagged"].split()),
                    row["source"],
                )
            )
    return recordings


def pronounce(word: str) -> Pronunciation | None:
    """The usual pronunciation of a word, or None if nobody has written one down."""
    if word in NAMES:
        return NAMES[word]
    known = lookup(word)
    return known[0] if known else None


def allowed(words: tuple[str, ...], recording: Recording) -> bool:
    """Whether a segment of these words may be trained on."""
    return not any(word in recording.flagged or is_excluded(word) for word in words)


@torch.inference_mode()
def align(model: PhoneBind, waveform: Tensor, words: list[tuple[str, Pronunciation]]) -> list[AlignedWord]:
    """The words of a sentence in their places; empty if the sentence is too fast to hold its phonemes."""
    from torchaudio.functional import forced_align, merge_tokens

    mel = mel_power(waveform[None] / waveform.abs().max().clamp_min(1e-5), model.config.front_end)
    spelling = model.audio(features(mel))[1].log_softmax(-1)
    targets = torch.tensor([[PHONEME_INDEX[phoneme] for _, said in words for phoneme in said]])
    repeats = int((targets[0, 1:] == targets[0, :-1]).sum())
    if spelling.shape[1] <= targets.shape[1] + repeats:
        return []
    path, scores = forced_align(spelling, targets, blank=BLANK)
    spans = iter(merge_tokens(path[0], scores[0].exp()))
    aligned = []
    for word, said in words:
        own = [next(spans) for _ in said]
        start, end = max(0, own[0].start * FRAME - BEFORE), own[-1].end * FRAME + AFTER
        confidence = float(np.mean([span.score for span in own]))
        aligned.append(AlignedWord(word, said, start, min(end, len(waveform)), confidence))
    return aligned


def segments(recording: Recording, model: PhoneBind) -> Iterator[Segment]:
    """What can be learnt from one recording: the word itself, or the words and pairs of words of a sentence."""
    said = [(word, pronounce(word)) for word in recording.words]
    known = [(word, pronunciation) for word, pronunciation in said if pronunciation is not None]
    if not known or len(known) < len(said):
        return
    waveform = load_audio(recording.path, SAMPLE_RATE)
    if recording.kind == "word":
        joined = tuple(phoneme for _, pronunciation in known for phoneme in pronunciation)
        whole = list(_keep(recording, waveform, recording.words, joined))
        yield from whole or _aligned(recording, waveform, model, [(" ".join(recording.words), joined)])
    elif len(waveform) <= LONGEST_SENTENCE * SAMPLE_RATE:
        yield from _aligned(recording, waveform, model, known)


def _aligned(
    recording: Recording, waveform: Tensor, model: PhoneBind, words: list[tuple[str, Pronunciation]]
) -> Iterator[Segment]:
    """Each word that the model is sure of, and each pair of such words."""
    aligned = align(model, waveform, words)
    for group in [[one] for one in aligned] + [list(pair) for pair in pairwise(aligned)]:
        if min(word.confidence for word in group) >= CONFIDENCE:
            joined = tuple(phoneme for word in group for phoneme in word.pronunciation)
            part = waveform[group[0].start : group[-1].end]
            yield from _keep(recording, part, tuple(" ".join(word.word for word in group).split()), joined)


def _keep(recording: Recording, part: Tensor, words: tuple[str, ...], said: Pronunciation) -> Iterator[Segment]:
    shortest, longest = PHONEMES_PER_SEGMENT
    if shortest <= len(said) <= longest and allowed(words, recording):
        audio = condition(part.numpy())
        if audio is not None:
            yield Segment(audio, recording.source, recording.speaker, " ".join(words), said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="weights of a PhoneBind trained on synthetic speech")
    parser.add_argument("--corpus", type=Path, default=Path("training/corpus"))
    arguments = parser.parse_args()
    model = load(arguments.model)
    by_source: dict[str, list[Recording]] = {}
    for recording in read_manifest(arguments.recordings):
        by_source.setdefault(recording.source, []).append(recording)
    for source, recordings in by_source.items():
        name = f"real-{source}"
        if is_written(arguments.corpus, name):
            continue
        found = [
            segment
            for recording in tqdm(recordings, desc=source, unit="file")
            for segment in segments(recording, model)
        ]
        write_shard(arguments.corpus, name, found)
        print(f"{source}: {len(found):,} segments of {len(recordings):,} recordings", flush=True)


if __name__ == "__main__":
    main()

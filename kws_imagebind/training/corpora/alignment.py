"""Real speech of other words, cut into words: the second half of what PhoneBind learns from.

    python -m kws_imagebind.training.corpora.alignment --recordings DIR --model training/aligner/phonebind.safetensors

reads `manifest.tsv` (path, kind, speaker, transcript, flagged, source) beside the recordings. Isolated words are taken
as they are; sentences are cut into words and runs of words by forced alignment (CTC segmentation, arXiv:2007.09127)
with the spelling of an earlier PhoneBind, and of a sentence whose transcript is incomplete the known words are found
between wildcards. Of several pronunciations a word gets the one that it sounds like. Nothing that holds one of the 35
words, a homophone or an inflection is kept, whether the manifest flags it or `vocabulary.is_excluded` does.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from kws_imagebind.audio.files import load_audio
from kws_imagebind.audio.mel import mel_power
from kws_imagebind.audio.signal import fit
from kws_imagebind.models.letter_to_sound import LetterToSound
from kws_imagebind.models.phonebind import BLANK, PHONEME_INDEX, SAMPLES, PhoneBind, features, load
from kws_imagebind.text.phonemes import Pronunciation, combine, lookup, without_stress
from kws_imagebind.training.corpora.people import may_teach
from kws_imagebind.training.corpora.shards import SAMPLE_RATE, Segment, condition, is_written, write_shard
from kws_imagebind.training.corpora.vocabulary import excluded_pronunciations, is_excluded

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
FOUND = 0.4  # the same, of a word between wildcards, which might not be there at all
RESEMBLANCE = 0.15  # least cosine between a segment and its pronunciation: less is another word
PHONEMES_PER_SEGMENT = (2, 13)
SURE = (
    3  # phonemes; shorter words of a sentence are swallowed more often than spoken, and must resemble themselves more
)
RUN = 3  # words, at most, of one segment
LONGEST_SENTENCE = 24.0  # s


@dataclass(frozen=True)
class Recording:
    """A line of the manifest."""

    path: Path
    kind: str  # "word" or "sentence"
    speaker: str
    words: tuple[str, ...]
    flagged: frozenset[str]
    source: str
    whole: bool = True  # whether `words` are all that is said
    collection: str = ""  # the folder beside the manifest that it lies in


@dataclass(frozen=True)
class AlignedWord:
    """Where a word lies in its recording, in samples, and how sure the model is of it."""

    word: str
    pronunciation: Pronunciation
    start: int
    end: int
    confidence: float


def read_manifest(folder: Path) -> list[Recording]:
    """The recordings of a folder; of the coffee-machine commands only the slots' values are written down."""
    recordings = []
    with (folder / "manifest.tsv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            whole = row["source"] != "picovoice_s2i" and "|" not in row["transcript"]
            flagged = frozenset(row["flagged"].split())
            speaker = row["speaker"] or row["path"].rsplit(".", 1)[0].split("/", 1)[-1]
            parts = [row["transcript"]] if whole else row["transcript"].split("|")
            for part in parts:
                words = tuple(re.findall(r"[a-z']+", part.lower()))
                path = folder / row["path"]
                collection = Path(row["path"]).parts[0]
                recordings.append(
                    Recording(path, row["kind"], speaker, words, flagged, row["source"], whole, collection)
                )
    return recordings


@cache
def _letter_to_sound() -> LetterToSound:
    return LetterToSound.load()


def pronounce(word: str) -> Pronunciation:
    """The usual pronunciation of a word; one that no dictionary has is read by its letters."""
    if word in NAMES:
        return NAMES[word]
    known = lookup(word)
    return known[0] if known else _letter_to_sound().pronounce(word.replace("'", ""))


def allowed(words: tuple[str, ...], recording: Recording) -> bool:
    """Whether a segment of these words may be trained on."""
    return not any(word in recording.flagged or is_excluded(word) for word in words)


@torch.inference_mode()
def align(
    model: PhoneBind, waveform: Tensor, words: list[tuple[str, Pronunciation]], whole: bool = True
) -> list[AlignedWord]:
    """The words of a sentence in their places; empty if the sentence is too fast to hold its phonemes.

    Where `words` are not the whole of what is said, a wildcard before and after them takes the rest.
    """
    from torchaudio.functional import forced_align, merge_tokens

    mel = mel_power(waveform[None] / waveform.abs().max().clamp_min(1e-5), model.config.front_end)
    spelling = model.audio(features(mel))[1].log_softmax(-1)
    phonemes = [PHONEME_INDEX[phoneme] for _, said in words for phoneme in said]
    if not whole:
        anything = spelling.shape[-1]  # nearly as likely as whatever is likeliest
        spelling = torch.cat([spelling, spelling.amax(-1, keepdim=True) - 0.1], -1)
        phonemes = [anything, *phonemes, anything]
    targets = torch.tensor([phonemes])
    repeats = int((targets[0, 1:] == targets[0, :-1]).sum())
    if spelling.shape[1] <= targets.shape[1] + repeats:
        return []
    path, scores = forced_align(spelling, targets, blank=BLANK)
    spans = iter(merge_tokens(path[0], scores[0].exp()))
    if not whole:
        next(spans)
    aligned = []
    for word, said in words:
        own = [next(spans) for _ in said]
        start, end = max(0, own[0].start * FRAME - BEFORE), own[-1].end * FRAME + AFTER
        confidence = float(np.mean([span.score for span in own]))
        aligned.append(AlignedWord(word, said, start, min(end, len(waveform)), confidence))
    return aligned


@dataclass(frozen=True)
class Cut:
    """A stretch of a recording that may become a segment, with every pronunciation that its words may have."""

    audio: np.ndarray
    words: tuple[str, ...]
    readings: tuple[Pronunciation, ...]


def segments(recording: Recording, model: PhoneBind) -> list[Segment]:
    """What can be learnt from one recording: the word itself, or the words and short runs of words of a sentence."""
    words = [(word, pronounce(word)) for word in recording.words if word.strip("'")]
    if not words:
        return []
    waveform = load_audio(recording.path, SAMPLE_RATE)
    cuts: list[Cut] = []
    if recording.kind == "word":
        joined = tuple(phoneme for _, pronunciation in words for phoneme in pronunciation)
        cuts = list(_cut(recording, waveform, recording.words, [joined]))
        cuts = cuts or list(_runs(recording, waveform, model, [(" ".join(recording.words), joined)]))
    if len(words) > 1 or recording.kind != "word":
        cuts += _runs(recording, waveform, model, words)
    return _settle(recording, cuts, model)


def _runs(
    recording: Recording, waveform: Tensor, model: PhoneBind, words: list[tuple[str, Pronunciation]]
) -> Iterator[Cut]:
    """Each word that the model is sure of, and each short run of such words."""
    if len(waveform) > LONGEST_SENTENCE * SAMPLE_RATE:
        return
    aligned = align(model, waveform, words, recording.whole)
    for length in range(1, RUN + 1):
        for first in range(len(aligned) - length + 1):
            group = aligned[first : first + length]
            if min(word.confidence for word in group) >= (CONFIDENCE if recording.whole else FOUND):
                part = waveform[group[0].start : group[-1].end]
                spoken = tuple(" ".join(word.word for word in group).split())
                yield from _cut(recording, part, spoken, _readings(group))


def _readings(group: list[AlignedWord]) -> list[Pronunciation]:
    """Every pronunciation that a run of words may have."""
    choices = [tuple(dict.fromkeys((word.pronunciation, *lookup(word.word)))) for word in group]
    return list(combine(choices, " ".join(word.word for word in group)))


def _cut(recording: Recording, part: Tensor, words: tuple[str, ...], readings: list[Pronunciation]) -> Iterator[Cut]:
    """A stretch, if it may be learnt from and is as long as a segment is."""
    shortest, longest = PHONEMES_PER_SEGMENT
    usable = tuple(said for said in readings if said not in excluded_pronunciations())
    if usable and shortest <= len(readings[0]) <= longest and allowed(words, recording):
        audio = condition(part.numpy())
        if audio is not None:
            yield Cut(audio, words, usable)


@torch.inference_mode()
def _settle(recording: Recording, cuts: list[Cut], model: PhoneBind) -> list[Segment]:
    """Each cut with the reading that it sounds most like, if it sounds like any."""
    if not cuts:
        return []
    waveforms = [fit(torch.from_numpy(cut.audio).float() / 32_768, SAMPLES) for cut in cuts]
    heard = model.encode_audio(torch.stack(waveforms))
    read = model.encode_text([said for cut in cuts for said in cut.readings]).split([len(c.readings) for c in cuts])
    kept = []
    for cut, audio, readings in zip(cuts, heard, read, strict=True):
        alike = readings @ audio
        said = cut.readings[int(alike.argmax())]
        if float(alike.max()) >= (RESEMBLANCE if len(said) >= SURE else 2 * RESEMBLANCE):
            kept.append(Segment(cut.audio, recording.source, recording.speaker, " ".join(cut.words), said))
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="weights of a PhoneBind trained on synthetic speech")
    parser.add_argument("--corpus", type=Path, default=Path("training/corpus"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a sentence at a time is too little for more
    model = load(arguments.model)
    by_source: dict[str, list[Recording]] = {}
    for recording in read_manifest(arguments.recordings):
        if may_teach(recording.collection, recording.speaker):
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

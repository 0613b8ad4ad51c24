"""How well words are found in long recordings, and what else is taken for them.

    python -m benchmarks.spotting --data ../shared/data

Three recordings, whose content is known, with the ten command words as keywords:

- words: the validation clips of Speech Commands one after another, with pauses, in background noise. Found, taken for
  another keyword, false alarms at the other words and in the pauses, and how far the times are off.
- noise: its recordings of background noise, alone.
- speech: sentences without any of the keywords, by synthetic voices that training never hears (needs espeak-ng).

Then each clip alone: AUROC of the keywords' clips against those of other words and against crops of the noise. The
confidence was fitted on validation and training clips; with --refit, on training clips alone.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import kws_imagebind as kws
from kws_imagebind.audio.resample import resample
from kws_imagebind.datasets.registry import load_dataset, outsiders
from kws_imagebind.datasets.waveforms import load_utterance
from kws_imagebind.encoders.confidence import THRESHOLD
from kws_imagebind.encoders.phonebind import PhoneBindEncoder
from kws_imagebind.metrics.roc import auroc_interval
from kws_imagebind.spotting.detect import Detector
from kws_imagebind.spotting.hits import Hit
from kws_imagebind.text.fillers import FILLERS
from kws_imagebind.text.phonemes import lookup
from kws_imagebind.text.tasks import COMMANDS, SILENCE
from kws_imagebind.training.corpora.shards import SAMPLE_RATE
from kws_imagebind.training.corpora.soundscape import Soundscape, compose
from kws_imagebind.training.corpora.synthesis import VALIDATION_VOICES
from kws_imagebind.training.phonebind.confidence import clips, fit, gather, noises

TOLERANCE = 0.3  # s that the middle of a hit may lie outside the word
THRESHOLDS = (0.2, 0.5, 0.8, 0.9, 0.95)
SENTENCES = 60  # of each voice
README = Path(__file__).parents[1] / "README.md"


@dataclass(frozen=True)
class Tally:
    """What the hits in a soundscape are.

    Attributes:
        found: keywords found; `asked` keywords are said.
        confused: hits at a keyword that name another keyword.
        at_words: hits at a word that is no keyword, of which there are `others`.
        in_pauses: hits where nothing is said.
        errors: (found, 2) seconds that start and end of what was found are late.
    """

    found: int
    asked: int
    confused: int
    at_words: int
    others: int
    in_pauses: int
    errors: NDArray[np.float64]


def tally(hits: list[Hit], scene: Soundscape) -> Tally:
    """Each word is found once at most; a second hit on it is in nobody's place."""
    left = list(scene.said)
    found, confused, at_words, in_pauses, errors = 0, 0, 0, 0, []
    for hit in sorted(hits, key=lambda each: -each.score):
        near = [said for said in left if said.is_at((hit.start + hit.end) / 2, TOLERANCE)]
        own = [said for said in near if said.word == hit.word]
        if own:
            found += 1
            errors.append((hit.start - own[0].start, hit.end - own[0].end))
            left.remove(own[0])
        elif any(said.word in COMMANDS for said in near):
            confused += 1
        elif near:
            at_words += 1
        else:
            in_pauses += 1
    asked = sum(said.word in COMMANDS for said in scene.said)
    return Tally(found, asked, confused, at_words, len(scene.said) - asked, in_pauses, np.array(errors).reshape(-1, 2))


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of this project's README and of filler words, without any word that sounds like a keyword."""
    forbidden = {said for word in COMMANDS for said in lookup(word)}
    rng = random.Random(seed)
    prose = [word.lower() for word in re.findall(r"[A-Za-z]+", README.read_text(encoding="utf-8"))]
    plain = [word for word in prose if lookup(word) and not forbidden & set(lookup(word))]
    found = []
    for _ in range(count):
        place = rng.randrange(len(plain) - 9)
        found.append(" ".join([*plain[place : place + 9], rng.choice(FILLERS)]) + ".")
    return found


def running_speech() -> list[Tensor]:
    """Sentences by each validation voice, with its own pauses, at 16 kHz."""
    from kws_imagebind.training.corpora.espeak import espeak

    spoken = []
    for number, voice in enumerate(VALIDATION_VOICES):
        for text in sentences(SENTENCES, seed=number):
            samples = espeak().speak(text, voice.name, speed=150, pitch=50, range=50)
            waveform = torch.from_numpy(samples)
            spoken.append(resample(waveform, espeak().sample_rate, SAMPLE_RATE))
            spoken.append(torch.zeros(SAMPLE_RATE // 2))
    return spoken


def per_hour(count: int, seconds: float) -> str:
    """With the upper limit of 95 % where there was none (the rule of three)."""
    hours = seconds / 3600
    return f"{count / hours:.0f}" if count else f"0 (below {3 / hours:.0f})"


def on_words(detector: Detector, scene: Soundscape) -> None:
    start = time.perf_counter()
    heard = detector.listen_to([torch.from_numpy(scene.samples)])
    speed = scene.seconds / (time.perf_counter() - start)
    pauses = scene.seconds - sum(said.end - said.start for said in scene.said)
    print(f"words: {scene.seconds / 60:.1f} minutes, heard {speed:.0f} times as fast as they last")
    print("  threshold  found              confused  alarms at other words  alarms in an hour of pauses")
    for threshold in THRESHOLDS:
        detector.thresholds = dict.fromkeys(detector.thresholds, threshold)
        counts = tally(detector.hits(heard), scene)
        found, false = 100 * counts.found / counts.asked, 100 * counts.at_words / counts.others
        print(
            f"  {threshold:9.2f}  {found:5.1f} % of {counts.asked:4}   {counts.confused:8}  "
            f"{counts.at_words:6} of {counts.others:4} ({false:.1f} %)    {per_hour(counts.in_pauses, pauses)}"
        )
        if threshold == THRESHOLD:
            late = counts.errors
    off = np.abs(late)
    for name, column in (("start", 0), ("end", 1)):
        middle, tenth = np.median(off[:, column]), np.quantile(off[:, column], 0.9)
        print(
            f"  {name}: off by {middle:.2f} s in the median, {tenth:.2f} s for one in ten, "
            f"{np.median(late[:, column]):+.2f} s late in the median (n = {len(off)}, threshold {THRESHOLD})"
        )


def on_others(name: str, detector: Detector, waveforms: list[Tensor]) -> None:
    heard = [detector.listen_to([waveform]) for waveform in waveforms]
    seconds = sum(each.seconds for each in heard)
    print(f"{name}: {seconds / 60:.1f} minutes; false alarms in an hour")
    for threshold in THRESHOLDS:
        detector.thresholds = dict.fromkeys(detector.thresholds, threshold)
        hits = [hit for each in heard for hit in detector.hits(each)]
        words = ", ".join(sorted({hit.word for hit in hits}))
        print(f"  {threshold:9.2f}  {per_hour(len(hits), seconds)}  {words}")


def on_clips(detector: Detector, root: Path) -> None:
    known = [utterance for utterance in clips(root, "validation") if utterance.label in COMMANDS]
    outside = outsiders(load_dataset("speech-commands", root=root, split="validation", task="v2-10")).utterances
    scores, kinds, speakers = [], [], []
    for utterance in (*known, *outside):
        waveform = load_utterance(utterance, SAMPLE_RATE)
        scores.append(float(detector.scores(detector.listen_to([waveform])).max()))
        kinds.append("in" if utterance.label in COMMANDS else "noise" if utterance.label == SILENCE else "other words")
        speakers.append(utterance.speaker)
    values, said = np.array(scores), np.array(kinds)
    for kind in ("other words", "noise"):
        chosen = (said == "in") | (said == kind)
        who = [speaker for speaker, kept in zip(speakers, chosen, strict=True) if kept]
        area = auroc_interval(values[chosen], said[chosen] == "in", who)
        taken, false = (100 * (values[said == each] >= THRESHOLD).mean() for each in ("in", kind))
        print(
            f"clips against {kind}: AUROC {area.estimate:.3f} [{area.low:.3f}, {area.high:.3f}], "
            f"{(said == 'in').sum()} in and {(said == kind).sum()} out; "
            f"at {THRESHOLD} {taken:.1f} % and {false:.1f} % are accepted"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--refit", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    encoder = PhoneBindEncoder.from_weights(device="cpu")
    if arguments.refit:
        numbers = fit(gather(encoder, arguments.data, ["training"]))
        encoder.confidence = lambda: numbers  # type: ignore[method-assign]
    print(encoder.confidence())
    detector = Detector(encoder, kws.ZeroShotClassifier(encoder, COMMANDS))
    on_words(detector, compose(clips(arguments.data, "validation"), noises(arguments.data)))
    on_others("noise", detector, [torch.from_numpy(noise) for noise in noises(arguments.data)])
    on_clips(detector, arguments.data)
    on_others("speech", detector, [torch.cat(running_speech())])


if __name__ == "__main__":
    main()

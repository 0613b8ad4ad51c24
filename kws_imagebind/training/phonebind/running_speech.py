"""What PhoneBind's cosines and spellings are worth in running speech: the numbers of `SpeechConfidence`.

    python -m kws_imagebind.training.phonebind.running_speech --speech DIR --data DIR

--speech is a folder of recordings with a `manifest.tsv`, as `training.corpora.alignment` reads it; only the half of the
people that chooses is heard (`training.corpora.running_speech`). --data holds Speech Commands, whose validation and
training clips, one after another, are words said alone. The keywords are a hundred words of the sentences and the ten
commands, each asked for by itself. The numbers are added to `phonebind.confidence.json`; its others stay as they are.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.encoders.confidence import LONG, SUFFIX, SpeechConfidence
from kws_imagebind.encoders.phonebind import WEIGHTS, PhoneBindEncoder
from kws_imagebind.files import whole
from kws_imagebind.readouts.fillers import filler_vectors
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.spelling import Speller
from kws_imagebind.spotting.windows import BATCH, FAINTEST, HOP, columns, decibels, smooth
from kws_imagebind.text.phonemes import VOWELS, lookup
from kws_imagebind.text.tasks import COMMANDS
from kws_imagebind.training.corpora.alignment import Recording
from kws_imagebind.training.corpora.running_speech import KEYWORDS, Samples, Scene, scenes, sentences, with_noise
from kws_imagebind.training.corpora.shards import SAMPLE_RATE
from kws_imagebind.training.corpora.soundscape import Soundscape, compose
from kws_imagebind.training.corpora.vocabulary import is_excluded
from kws_imagebind.training.phonebind.confidence import SPLITS, TOLERANCE, clips, noises

SOURCES = ("librispeech_251spk", "speechocean762", "alphanumeric_duke")
APART = 5  # windows to either side, of which a candidate is the best
# False alarms of a keyword in an hour of running speech where the score is a half, for keywords of so many phonemes:
# few, for a long one; more for a short one, which would be missed too often.
AN_HOUR = (((1, 5), 2.0), ((7, 99), 0.5))

# Keywords drawn from the sentences: of so many syllables (3 stands for more, too), said so often at least, so many.
DRAWN = ((1, 4, 30), (2, 3, 35), (3, 1, 35))

# What the examples weigh together. What should be accepted is said in sentences or alone.
SHARES = {"said": 0.1, "alone": 0.4, "speech": 0.4, "word": 0.05, "pause": 0.05}


@dataclass(frozen=True)
class Windows:
    """A recording's windows, before any keyword is asked for: (n, dim), (n, times, symbols) in float16, (n,) dB."""

    vectors: Tensor
    spellings: Tensor
    levels: NDArray[np.float32]


@dataclass(frozen=True)
class Examples:
    """Places where a keyword scores more than around.

    Attributes:
        features: (n, 5) what `SpeechConfidence` weighs, in its order.
        kinds: (n,) of `SHARES`.
        hours: of running speech.
    """

    features: NDArray[np.float64]
    kinds: NDArray[np.str_]
    hours: float


@torch.inference_mode()
def windows(encoder: PhoneBindEncoder, samples: Samples) -> Windows:
    """A whole recording's windows, the same as `spotting.windows.Ear` hears."""
    sound, hop, size = torch.from_numpy(samples), round(HOP * SAMPLE_RATE), round(encoder.window * SAMPLE_RATE)
    count = len(sound) // hop + 1
    padded = torch.cat([torch.zeros(size // 2), sound, torch.zeros(size + hop)])
    levels = decibels(padded.unfold(0, hop, hop).var(1)).unfold(0, size // hop, 1).amax(1)[:count]
    frames = encoder.mel(padded).unfold(0, encoder.front_end.frames(size), hop // encoder.front_end.hop)
    vectors, spellings = [], []
    for batch in frames[:count].transpose(1, 2).split(BATCH):
        vector, spelling = encoder.encode_mel(batch)
        vectors.append(vector)
        spellings.append(spelling.half())
    return Windows(torch.cat(vectors), torch.cat(spellings), levels.numpy())


class Asked:
    """Keywords that recordings are asked for, each by itself."""

    def __init__(self, encoder: PhoneBindEncoder, keywords: Sequence[str]) -> None:
        self.readout = ZeroShotClassifier(encoder, keywords)
        self.keywords = self.readout.labels
        self._fillers = filler_vectors(encoder, self.readout)
        self._speller = Speller([encoder.pronunciations(text) for text in self.readout.spoken])
        self.phonemes = self._speller.phonemes.double()

    @torch.inference_mode()
    def features(self, heard: Windows) -> NDArray[np.float64]:
        """(windows, keywords, 5) what `SpeechConfidence` weighs, in its order."""
        parts = zip(heard.vectors.split(512), heard.spellings.split(512), strict=True)
        raw = [columns(v, s.float(), self.readout, self._fillers, self._speller) for v, s in parts]
        means = smooth(torch.cat(raw)).double()
        words = len(self.keywords)
        cosines, spelled = means[:, :words], means[:, words + 2 :]
        others = [means[:, words + place, None].expand(-1, words) for place in (0, 1)]
        return torch.stack([cosines, *others, spelled, self.phonemes.expand(len(means), -1)], 2).numpy()


def score(numbers: SpeechConfidence, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 5) -> (...): numbers from 0 to 1."""
    return numbers(*(torch.from_numpy(features[..., place]) for place in range(5))).numpy()


def peaks(scores: NDArray[np.float64], apart: int = APART) -> NDArray[np.intp]:
    """Places that score at least as much as those around.

    >>> peaks(np.array([0.1, 0.5, 0.2, 0.3]), apart=1).tolist()
    [1, 3]
    """
    padded = np.pad(scores, apart, constant_values=-np.inf)
    return np.flatnonzero(scores >= np.lib.stride_tricks.sliding_window_view(padded, 2 * apart + 1).max(1))


# Finds candidates before the numbers are fitted, by about what they come to.
FIRST = SpeechConfidence(20.0, -10.0, 0.0, -1.5, 0.0, 0.0)


def of_speech(asked: Asked, heard: Windows, scene: Scene) -> Examples:
    """The best place of each sentence that holds a keyword, and every candidate where none is said."""
    features, kept, kinds = asked.features(heard), [], []
    for number, keyword in enumerate(asked.keywords):
        own = features[:, number]
        places = peaks(score(FIRST, own))
        places = places[heard.levels[places] > FAINTEST]
        free = np.ones(len(places), dtype=bool)
        for span in scene.spans:
            if not (span.holds(keyword) or span.resembles(keyword)):
                continue
            inside = (places * HOP > span.start - TOLERANCE) & (places * HOP < span.end + TOLERANCE)
            free &= ~inside
            if span.holds(keyword) and inside.any():
                best = places[inside][score(FIRST, own[places[inside]]).argmax()]
                kept.append(own[best])
                kinds.append("said")
        kept += list(own[places[free]])
        kinds += ["speech"] * int(free.sum())
    return Examples(np.array(kept), np.array(kinds), scene.seconds / 3600)


def of_words(asked: Asked, heard: Windows, scene: Soundscape) -> Examples:
    """The same of words said alone: the keyword's, other words', pauses."""
    features, kept, kinds = asked.features(heard), [], []
    for number, keyword in enumerate(asked.keywords):
        own = features[:, number]
        for place in peaks(score(FIRST, own)):
            if heard.levels[place] > FAINTEST:
                near = {said.word for said in scene.said if said.is_at(place * HOP, TOLERANCE)}
                kept.append(own[place])
                kinds.append("alone" if keyword in near else "word" if near else "pause")
    return Examples(np.array(kept), np.array(kinds), 0.0)


def joined(parts: Sequence[Examples]) -> Examples:
    """All of them."""
    features = np.concatenate([part.features for part in parts])
    return Examples(features, np.concatenate([part.kinds for part in parts]), sum(part.hours for part in parts))


def fit(found: Examples, clean: Examples, phonemes: NDArray[np.float64]) -> SpeechConfidence:
    """Logistic regression of "was it said?", moved so that a half is `AN_HOUR` false alarms in clean speech.

    Args:
        found: all examples.
        clean: those of clean running speech.
        phonemes: (keywords,) of the keywords that clean speech was asked for.
    """
    from sklearn.linear_model import LogisticRegression

    weight = np.zeros(len(found.kinds))
    for kind, part in SHARES.items():
        weight[found.kinds == kind] = part / max(1, (found.kinds == kind).sum())
    inputs = found.features[:, :4].copy()
    inputs[:, 3] /= found.features[:, 4]
    middle, width = inputs.mean(0), inputs.std(0)
    said = np.isin(found.kinds, ("said", "alone"))
    model = LogisticRegression(C=1e3, max_iter=1_000).fit((inputs - middle) / width, said, weight * len(weight))
    keyword, fillers, spread, spelling = (round(slope, 4) for slope in (model.coef_[0] / width).tolist())
    numbers = SpeechConfidence(keyword, fillers, spread, spelling, 0.0, 0.0)
    (short, low), (long, high) = (_limit(numbers, clean, phonemes, *each) for each in AN_HOUR)
    slope = (high - low) / (long - short)
    return replace(numbers, phonemes=round(-slope, 4), bias=round(slope * short - low, 4))


def _limit(
    numbers: SpeechConfidence, clean: Examples, phonemes: NDArray[np.float64], among: tuple[int, int], rate: float
) -> tuple[float, float]:
    """Of keywords of so many phonemes: how many they have in the mean, and the logit with so many false alarms."""
    own = (phonemes >= among[0]) & (phonemes <= among[1])
    wrong = clean.features[clean.kinds == "speech"]
    wrong = wrong[(wrong[:, 4] >= among[0]) & (wrong[:, 4] <= among[1])]
    scores = np.sort(score(numbers, wrong))[::-1]
    limit = float(scores[int(rate * clean.hours * own.sum())])
    return float(np.minimum(phonemes[own], LONG).mean()), float(np.log(limit / (1 - limit)))


def drawn(spoken: Counter[str], seed: int = 0) -> list[str]:
    """Keywords of each length, of the words that sentences hold."""
    rng, chosen = random.Random(seed), []
    for syllables, least, count in DRAWN:
        pool = [
            word
            for word, times in sorted(spoken.items())
            if times >= least and _syllables(word) == syllables and not is_excluded(word)
        ]
        often = sorted(pool, key=lambda word: -spoken[word])[: 3 * count]
        chosen += rng.sample(often, min(count, len(often)))
    return chosen


def _syllables(word: str) -> int:
    said = lookup(word)
    return min(3, sum(phoneme in VOWELS for phoneme in said[0])) if said and len(said[0]) >= 3 else 0


def gather(
    encoder: PhoneBindEncoder, asked: Asked, recordings: Sequence[Recording], data: Path, limit: int
) -> Iterator[tuple[str, Examples]]:
    """Examples of each kind of recording: "clean", "noise" and "alone"."""
    # The other half of the noises is for reports.
    loud = noises(data)[:3]
    for number, scene in enumerate(scenes(recordings, seed=5)):
        if number >= limit:
            break
        yield "clean", of_speech(asked, windows(encoder, scene.samples), scene)
        if number % 3 == 0:
            noisy = with_noise(scene, loud, 10.0 if number % 2 else 20.0, seed=number)
            yield "noise", of_speech(asked, windows(encoder, noisy.samples), noisy)
        print(f"{number + 1} scenes of ten minutes", flush=True)
    commands = Asked(encoder, COMMANDS)
    for split in SPLITS:
        alone = compose(clips(data, split), noises(data)[:3])
        yield "alone", of_words(commands, windows(encoder, alone.samples), alone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=9, help="ten minutes each (default 9)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = PhoneBindEncoder.from_weights(arguments.weights, device="cpu")
    parts: dict[str, list[Examples]] = {}
    recordings = sentences(arguments.speech, "choose", SOURCES)
    reported = set(" ".join(KEYWORDS).split())
    spoken = Counter(word for recording in recordings for word in set(recording.words) - reported)
    asked = Asked(encoder, [*drawn(spoken), *COMMANDS])
    for kind, found in gather(encoder, asked, recordings, arguments.data, arguments.scenes):
        parts.setdefault(kind, []).append(found)
    every = joined([part for group in parts.values() for part in group])
    numbers = fit(every, joined(parts["clean"]), asked.phonemes.numpy())
    path = arguments.weights.with_suffix(SUFFIX)
    counts = ", ".join(f"{int((every.kinds == kind).sum()):,} of kind {kind}" for kind in SHARES)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["speech"] = {
        **asdict(numbers),
        "made_by": "python -m kws_imagebind.training.phonebind.running_speech",
        "examples": counts,
    }
    with whole(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"{numbers} of {counts}, in {path}")


if __name__ == "__main__":
    main()

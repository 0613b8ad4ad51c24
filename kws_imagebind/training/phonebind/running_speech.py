"""What PhoneBind's cosines and spellings are worth in running speech: the numbers of `SpeechConfidence`.

    python -m kws_imagebind.training.phonebind.running_speech --speech DIR --data DIR

--speech is a folder of recordings with a `manifest.tsv`, as `training.corpora.alignment` reads it; only the half of the
people that chooses is heard (`training.corpora.running_speech`). --data holds Speech Commands, whose validation and
training clips, one after another, are words said alone. The keywords of the sentences are a hundred of their words and
the ten commands, those of words said alone its 35 words, each asked for by itself. The numbers are added to
`phonebind.confidence.json`; its others stay as they are. Ten minutes of one core, or less; a table says what they find.
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

from kws_imagebind.encoders.confidence import LONG, QUIET, SpeechConfidence, Weighing, remedy
from kws_imagebind.encoders.phonebind import PhoneBindEncoder
from kws_imagebind.files import whole
from kws_imagebind.readouts.fillers import filler_vectors
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.spelling import Speller
from kws_imagebind.spotting.windows import BATCH, FAINTEST, HOP, apart, columns, decibels, smooth
from kws_imagebind.text.phonemes import VOWELS, lookup
from kws_imagebind.text.tasks import COMMANDS, SPEECH_COMMANDS_WORDS
from kws_imagebind.training.corpora.alignment import Recording
from kws_imagebind.training.corpora.running_speech import KEYWORDS, Samples, Scene, scenes, sentences, with_noise
from kws_imagebind.training.corpora.shards import SAMPLE_RATE
from kws_imagebind.training.corpora.soundscape import Soundscape, compose
from kws_imagebind.training.corpora.vocabulary import is_excluded
from kws_imagebind.training.phonebind.confidence import (
    SPLITS,
    TOLERANCE,
    add_encoder_options,
    chosen_encoder,
    clips,
    noises,
)

SOURCES = ("librispeech_251spk", "speechocean762", "alphanumeric_duke")
APART = 5  # windows to either side, of which a candidate is the best
# False alarms of a keyword in an hour of clean running speech where the score is a half, for keywords of so many
# phonemes: few, for a long one; more for a short one, which would be missed too often.
AN_HOUR = {"within": (((1, 5), 1.3), ((7, 99), 0.18)), "alone": (((1, 5), 1.7), ((7, 99), 0.11))}

# Keywords drawn from the sentences: of so many syllables (3 stands for more, too), said so often at least, so many.
DRAWN = ((1, 4, 30), (2, 3, 35), (3, 1, 35))

# What the examples of each kind weigh together, where a word lies within speech and where it is said alone.
SHARES = {"within": {"said": 0.5, "speech": 0.5}, "alone": {"alone": 0.5, "word": 0.4, "pause": 0.1}}
KINDS = [kind for shares in SHARES.values() for kind in shares]

NOISE = 10.0  # dB below the speech, in every third scene once more
FEATURES = 6  # that `SpeechConfidence` weighs


@dataclass(frozen=True)
class Windows:
    """A recording's windows, before any keyword is asked for.

    Attributes:
        vectors: (n, dim).
        spellings: (n, times, symbols) in float16.
        levels: (n,) dB of the loudest tenth of a second.
        apart: (n,) dB, as `spotting.windows.apart`.
    """

    vectors: Tensor
    spellings: Tensor
    levels: NDArray[np.float32]
    apart: Tensor


@dataclass(frozen=True)
class Examples:
    """Places where a keyword scores more than around.

    Attributes:
        features: (n, 6) what `SpeechConfidence` weighs, in its order.
        kinds: (n,) of `KINDS`.
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
    levels = decibels(padded.unfold(0, hop, hop).var(1)).unfold(0, size // hop, 1)[:count]
    frames = encoder.mel(padded).unfold(0, encoder.front_end.frames(size), hop // encoder.front_end.hop)
    vectors, spellings = [], []
    for batch in frames[:count].transpose(1, 2).split(BATCH):
        vector, spelling = encoder.encode_mel(batch)
        vectors.append(vector)
        spellings.append(spelling.half())
    return Windows(torch.cat(vectors), torch.cat(spellings), levels.amax(1).numpy(), apart(levels))


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
        """(windows, keywords, 6) what `SpeechConfidence` weighs, in its order."""
        parts = zip(heard.vectors.split(512), heard.spellings.split(512), strict=True)
        raw = [columns(v, s.float(), self.readout, self._fillers, self._speller) for v, s in parts]
        means = smooth(torch.cat(raw)).double()
        words = len(self.keywords)
        cosines, spelled = means[:, :words], means[:, words + 2 :]
        others = [means[:, words + place, None].expand(-1, words) for place in (0, 1)]
        stood_out = heard.apart.double()[:, None].expand(-1, words)
        return torch.stack([cosines, *others, spelled, self.phonemes.expand(len(means), -1), stood_out], 2).numpy()


def score(numbers: SpeechConfidence, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 6) -> (...): numbers from 0 to 1."""
    return numbers(*(torch.from_numpy(features[..., place]) for place in range(FEATURES))).numpy()


def weigh(numbers: Weighing, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., 6) -> (...): logits."""
    return numbers(*(torch.from_numpy(features[..., place]) for place in range(FEATURES - 1))).numpy()


def peaks(scores: NDArray[np.float64], apart: int = APART) -> NDArray[np.intp]:
    """Places that score at least as much as those around.

    >>> peaks(np.array([0.1, 0.5, 0.2, 0.3]), apart=1).tolist()
    [1, 3]
    """
    padded = np.pad(scores, apart, constant_values=-np.inf)
    return np.flatnonzero(scores >= np.lib.stride_tricks.sliding_window_view(padded, 2 * apart + 1).max(1))


# Finds candidates before the numbers are fitted, by about what they come to.
FIRST = Weighing(20.0, -10.0, 0.0, 3.0, 0.0, 0.0)


def of_speech(asked: Asked, heard: Windows, scene: Scene) -> Examples:
    """The best place of each sentence that holds a keyword, and every candidate where none is said."""
    features, kept, kinds = asked.features(heard), [], []
    for number, keyword in enumerate(asked.keywords):
        own = features[:, number]
        places = peaks(weigh(FIRST, own))
        places = places[heard.levels[places] > FAINTEST]
        free = np.ones(len(places), dtype=bool)
        for span in scene.spans:
            if not (span.holds(keyword) or span.resembles(keyword)):
                continue
            inside = (places * HOP > span.start - TOLERANCE) & (places * HOP < span.end + TOLERANCE)
            free &= ~inside
            if span.holds(keyword) and inside.any():
                best = places[inside][weigh(FIRST, own[places[inside]]).argmax()]
                kept.append(own[best])
                kinds.append("said")
        kept += list(own[places[free]])
        kinds += ["speech"] * int(free.sum())
    return Examples(np.array(kept), np.array(kinds), scene.seconds / 3600)


def of_words(asked: Asked, heard: Windows, scene: Soundscape) -> Examples:
    """The best place of each word said alone, for its own keyword, and every candidate at other words and in pauses."""
    features, kept, kinds = asked.features(heard), [], []
    for number, keyword in enumerate(asked.keywords):
        own = features[:, number]
        places = peaks(weigh(FIRST, own))
        places = places[heard.levels[places] > FAINTEST]
        at_word, free = np.zeros(len(places), dtype=bool), np.ones(len(places), dtype=bool)
        for said in scene.said:
            inside = (places * HOP >= said.start - TOLERANCE) & (places * HOP <= said.end + TOLERANCE)
            at_word |= inside
            if said.word == keyword and inside.any():
                free &= ~inside
                kept.append(own[places[inside][weigh(FIRST, own[places[inside]]).argmax()]])
                kinds.append("alone")
        kept += list(own[places[free]])
        kinds += ["word" if near else "pause" for near in at_word[free]]
    return Examples(np.array(kept), np.array(kinds), 0.0)


def joined(parts: Sequence[Examples]) -> Examples:
    """All of them."""
    features = np.concatenate([part.features for part in parts])
    return Examples(features, np.concatenate([part.kinds for part in parts]), sum(part.hours for part in parts))


def fit(found: Examples, clean: Examples, phonemes: NDArray[np.float64]) -> SpeechConfidence:
    """Two logistic regressions of "was it said?", each moved so that a half is `AN_HOUR` false alarms in clean speech.

    Args:
        found: all examples.
        clean: those of clean running speech.
        phonemes: (keywords,) of the keywords that clean speech was asked for.
    """
    quiet = clean.features[:, 5] >= sum(QUIET) / 2
    parts = {}
    for name, side in (("within", ~quiet), ("alone", quiet)):
        wrong = clean.features[(clean.kinds == "speech") & side]
        parts[name] = _moved(_weighed(found, SHARES[name]), wrong, clean.hours, phonemes, AN_HOUR[name])
    return SpeechConfidence(**parts)


def _weighed(found: Examples, shares: dict[str, float]) -> Weighing:
    """The logistic regression that tells the first of some kinds of examples from the others."""
    from sklearn.linear_model import LogisticRegression

    used = np.isin(found.kinds, list(shares))
    kinds, inputs = found.kinds[used], found.features[used, :4].copy()
    weight = np.array([shares[kind] / (kinds == kind).sum() for kind in shares])
    weight = weight[np.argmax(kinds[:, None] == np.array(list(shares)), axis=1)]
    inputs[:, 3] = _root(inputs[:, 3], found.features[used, 4])
    middle, width = inputs.mean(0), inputs.std(0)
    model = LogisticRegression(C=1e3, max_iter=1_000)
    model.fit((inputs - middle) / width, kinds == next(iter(shares)), weight * len(weight))
    keyword, fillers, spread, spelling = (round(slope, 4) for slope in (model.coef_[0] / width).tolist())
    return Weighing(keyword, fillers, spread, spelling, phonemes=0.0, bias=0.0)


def _root(match: NDArray[np.float64], phonemes: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `Weighing.spelling` is multiplied by."""
    return -np.sqrt(np.maximum(-match, 0) / phonemes)


def _moved(
    numbers: Weighing,
    wrong: NDArray[np.float64],
    hours: float,
    phonemes: NDArray[np.float64],
    rates: tuple[tuple[tuple[int, int], float], ...],
) -> Weighing:
    """With a bias and a slope over the phonemes by which 0 has these false alarms (n, 6) an hour, at two lengths."""
    lengths, limits = [], []
    for (least, most), rate in rates:
        own = (phonemes >= least) & (phonemes <= most)
        scores = np.sort(weigh(numbers, wrong[(wrong[:, 4] >= least) & (wrong[:, 4] <= most)]))[::-1]
        lengths.append(float(np.minimum(phonemes[own], LONG).mean()))
        limits.append(float(scores[min(int(rate * hours * own.sum()), len(scores) - 1)]))
    slope = (limits[1] - limits[0]) / (lengths[1] - lengths[0])
    return replace(numbers, phonemes=round(-slope, 4), bias=round(slope * lengths[0] - limits[0], 4))


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
            noisy = with_noise(scene, loud, NOISE, seed=number)
            yield "noise", of_speech(asked, windows(encoder, noisy.samples), noisy)
        print(f"{number + 1} scenes of ten minutes", flush=True)
    words = Asked(encoder, SPEECH_COMMANDS_WORDS)
    for split in SPLITS:
        alone = compose(clips(data, split), noises(data)[:3])
        yield "alone", of_words(words, windows(encoder, alone.samples), alone)


def tell(numbers: SpeechConfidence, every: Examples, clean: Examples, phonemes: NDArray[np.float64]) -> None:
    """Prints what the fit finds of its own examples, by which one sees whether it is good."""
    print("\nof the fit's own examples, in per cent; false alarms an hour and keyword in clean running speech")
    print("phonemes  threshold  found in sentences  found alone  alarms  at other words  in pauses")
    for least, most in ((1, 3), (4, 5), (6, 7), (8, 99)):
        kept = (every.features[:, 4] >= least) & (every.features[:, 4] <= most)
        own = Examples(every.features[kept], every.kinds[kept], every.hours)
        wrong = clean.features[clean.kinds == "speech"]
        wrong = wrong[(wrong[:, 4] >= least) & (wrong[:, 4] <= most)]
        asked = clean.hours * ((phonemes >= least) & (phonemes <= most)).sum()
        for threshold in (0.2, 0.5, 0.8):
            hits = score(numbers, own.features) >= threshold
            found = {
                kind: f"{100 * hits[own.kinds == kind].mean():.1f}" if kind in own.kinds else "-" for kind in KINDS
            }
            alarms = (score(numbers, wrong) >= threshold).sum() / max(asked, 1e-9)
            print(
                f"{f'{least}-{most}':>8}  {threshold:9}  {found['said']:>18}  {found['alone']:>11}  {alarms:6.2f}  "
                f"{found['word']:>14}  {found['pause']:>9}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=6, help="ten minutes each (default 6)")
    add_encoder_options(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = chosen_encoder(arguments)
    path = encoder.confidence_file
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"'{path}' cannot be read ({error}); {remedy(path)}")
    if content.get("weights") != encoder.digest:
        parser.error(f"'{path}' is for other weights than those beside it; {remedy(path)}")
    parts: dict[str, list[Examples]] = {}
    recordings = sentences(arguments.speech, "choose", SOURCES)
    reported = set(" ".join(KEYWORDS).split())
    spoken = Counter(word for recording in recordings for word in set(recording.words) - reported)
    asked = Asked(encoder, [*drawn(spoken), *COMMANDS])
    for kind, found in gather(encoder, asked, recordings, arguments.data, arguments.scenes):
        parts.setdefault(kind, []).append(found)
    every = joined([part for group in parts.values() for part in group])
    numbers = fit(every, joined(parts["clean"]), asked.phonemes.numpy())
    counts = ", ".join(f"{int((every.kinds == kind).sum()):,} of kind {kind}" for kind in KINDS)
    content["speech"] = {
        **asdict(numbers),
        "made_by": f"python -m kws_imagebind.training.phonebind.running_speech --encoder {encoder.name}",
        "examples": counts,
    }
    with whole(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    tell(numbers, every, joined(parts["clean"]), asked.phonemes.numpy())
    print(f"{numbers} of {counts}, in {path}")


if __name__ == "__main__":
    main()

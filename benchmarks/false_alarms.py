"""How often a keyword is heard in running speech that nobody said, and how often one that was said is missed.

    python -m benchmarks.false_alarms --speech ../shared/data/other_words --data ../shared/data

Sentences of the half of the people that chose nothing (`training.corpora.running_speech`), with pauses between them,
and wake words said alone; clean, and with noise 20 and 10 dB below. Forty-six keywords of one, two and
more syllables, each asked for by itself: those that the sentences hold, the wake words, and four that nobody says.
"Before" is the score of a window's vector alone (`Confidence`), "after" the one that looks at the sounds as well
(`SpeechConfidence`). A word is found where a hit lies within 0.3 s of the sentence that holds it; a hit on a longer
form of it counts for nothing.

With --sphinx the keyword mode of pocketsphinx hears the same, at the thresholds given.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kws_imagebind.encoders.phonebind import PhoneBindEncoder
from kws_imagebind.metrics.intervals import wilson
from kws_imagebind.spotting.windows import FAINTEST, HOP
from kws_imagebind.text.phonemes import VOWELS, lookup
from kws_imagebind.training.corpora.alignment import Recording, read_manifest
from kws_imagebind.training.corpora.running_speech import KEYWORDS, WAKE, Scene, Span, scenes, sentences, with_noise
from kws_imagebind.training.corpora.shards import SAMPLE_RATE
from kws_imagebind.training.phonebind.confidence import TOLERANCE, noises
from kws_imagebind.training.phonebind.running_speech import APART, SOURCES, Asked, peaks, score, windows

CLIPS = 80  # of each wake word, at most
# Folders of recordings, and whether these, or at least others of the same people, trained the encoder.
HEARD = {
    "alphanumeric_duke": "people that training never heard",
    "speechocean762_more": "other sentences of people that training heard",
    "speechocean762": "trained on",
    "librispeech_251spk": "trained on",
}
PART = 20  # s that pocketsphinx hears at once
LEAST = 0.01  # a lower score is none


@dataclass
class Tally:
    """Of one keyword and one score: the scores of what was said, and of the false alarms.

    Attributes:
        sentence: of each time it was said in a sentence, the best score there; 0 where there was none.
        alone: the same of words said alone.
        wrong: scores of false alarms.
        places: where these were: the folder of the recording.
    """

    sentence: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def add(self, keyword: str, scene: Scene, times: NDArray[np.float64], scores: NDArray[np.float64]) -> None:
        """Holds hits (hits,) against what is in a scene."""
        free = np.ones(len(times), dtype=bool)
        for span in scene.spans:
            if span.holds(keyword) or span.resembles(keyword):
                inside = (times > span.start - TOLERANCE) & (times < span.end + TOLERANCE)
                free &= ~inside
                if span.holds(keyword):
                    best = float(scores[inside].max()) if inside.any() else 0.0
                    (self.alone if span.alone else self.sentence).append(best)
        starts = [span.start for span in scene.spans]
        for moment, value in zip(times[free], scores[free], strict=True):
            self.wrong.append(float(value))
            self.places.append(folder(scene.spans[max(0, int(np.searchsorted(starts, moment, side="right")) - 1)]))


def folder(span: Span) -> str:
    """The folder that a recording lies in, of those that the manifest lists."""
    return next((name for name in reversed(span.recording.path.parts) if name in HEARD), "alone")


def wake_words(speech: Path, source: str) -> list[Recording]:
    """Wake words said alone, of recordings that trained nothing."""
    words = [
        recording
        for recording in read_manifest(speech)
        if " ".join(recording.words) in WAKE and source in recording.path.parts
    ]
    by_word: dict[str, list[Recording]] = {}
    for recording in random.Random(1).sample(words, len(words)):
        by_word.setdefault(" ".join(recording.words), []).append(recording)
    return [each for some in by_word.values() for each in some[:CLIPS]]


def syllables(keyword: str) -> int:
    """How many it has, by the dictionary; one that it lacks counts for three.

    >>> syllables("hand"), syllables("smart mirror"), syllables("computer")
    (1, 3, 3)
    """
    said = [lookup(word) for word in keyword.split()]
    return sum(phoneme in VOWELS for each in said for phoneme in each[0]) if all(said) else 3


def group(keyword: str) -> str:
    """'1', '2' or '3+' syllables."""
    count = syllables(keyword)
    return str(count) if count < 3 else "3+"


def conditions(speech: Path, data: Path, noise: Sequence[float], limit: int, noisy: int) -> Iterator[tuple[str, Scene]]:
    """Scenes by condition: "clean" and decibels of noise."""
    loud = noises(data)[3:]  # the others chose
    alone = wake_words(speech, "picovoice_more")
    among = [*sentences(speech, "report", SOURCES), *wake_words(speech, "ovos")]
    for seed, some in ((6, alone), (5, among)):
        for number, scene in enumerate(scenes(some, seed=seed)):
            if number >= limit:
                break
            yield "clean", scene
            for decibels in noise if number < noisy else ():
                yield f"{decibels:g} dB", with_noise(scene, loud, decibels, seed=number)


class PhoneBind:
    """Both scores, of all keywords."""

    def __init__(self) -> None:
        encoder = PhoneBindEncoder.from_weights(device="cpu")
        numbers = encoder.speech_confidence()
        assert numbers, "fit the numbers: python -m kws_imagebind.training.phonebind.running_speech"
        self._encoder, self._clip, self._speech = encoder, encoder.confidence(), numbers
        self._asked = Asked(encoder, KEYWORDS)

    def __call__(self, scene: Scene) -> Iterator[tuple[str, str, NDArray[np.float64], NDArray[np.float64]]]:
        """Of each score and keyword the times and scores of the hits."""
        heard = windows(self._encoder, scene.samples)
        features = self._asked.features(heard)
        cosines, fillers = (torch.from_numpy(features[..., place]) for place in (0, 1))
        for name, scores in (
            ("before", self._clip(cosines, fillers).numpy()),
            ("after", score(self._speech, features)),
        ):
            for number, keyword in enumerate(KEYWORDS):
                own = scores[:, number]
                places = peaks(own)
                places = places[(own[places] >= LEAST) & (heard.levels[places] > FAINTEST)]
                yield name, keyword, places * HOP, own[places]


class Sphinx:
    """pocketsphinx's keyword mode with its own US English model, all keywords in one list.

    A hit has no score, so a scene is heard once for each threshold.
    """

    def __init__(self, thresholds: Sequence[float]) -> None:
        from pocketsphinx import Decoder, get_model_path

        self._decoders = {}
        known = [word for word in KEYWORDS if all(map(lookup, word.split()))]
        for threshold in thresholds:
            with tempfile.NamedTemporaryFile("w", suffix=".list") as file:
                file.write("".join(f"{word} /{threshold}/\n" for word in known))
                file.flush()
                decoder = Decoder(
                    hmm=get_model_path("en-us/en-us"),
                    dict=get_model_path("en-us/cmudict-en-us.dict"),
                    lm=None,
                    kws=file.name,
                    loglevel="FATAL",
                )
            self._decoders[f"pocketsphinx {threshold:g}"] = decoder

    def __call__(self, scene: Scene) -> Iterator[tuple[str, str, NDArray[np.float64], NDArray[np.float64]]]:
        """As `PhoneBind`; every score is 1."""
        samples = (np.clip(scene.samples, -1, 1) * 32_767).astype(np.int16)
        for name, decoder in self._decoders.items():
            found: dict[str, list[float]] = {keyword: [] for keyword in KEYWORDS}
            # In parts, since it gives the hits of an utterance at its end.
            for offset in range(0, len(samples), PART * SAMPLE_RATE):
                decoder.start_utt()
                decoder.process_raw(samples[offset : offset + (PART + 1) * SAMPLE_RATE].tobytes(), full_utt=True)
                decoder.end_utt()
                for segment in decoder.seg() or ():
                    times = found.get(segment.word.strip())
                    middle = offset / SAMPLE_RATE + (segment.start_frame + segment.end_frame) / 200
                    if times is not None and all(abs(middle - other) > APART * HOP for other in times[-3:]):
                        times.append(middle)
            for word, times in found.items():
                yield name, word, np.array(times), np.ones(len(times))


def share(count: int, of: int) -> str:
    """A share in percent, with its Wilson interval."""
    if not of:
        return "-"
    found = wilson(count, of)
    return f"{100 * count / of:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def missed(scores: list[float], threshold: float) -> int:
    return sum(value < threshold for value in scores)


def at_missed(scores: list[float], wrong: list[float], hours: float, share_missed: float) -> float:
    """False alarms an hour at the strictest threshold that misses no more than this share; infinite if none does."""
    best = sorted(scores, reverse=True)
    need = int(np.ceil((1 - share_missed) * len(best)))
    if not need or best[need - 1] < LEAST:
        return float("inf")
    return sum(value >= best[need - 1] for value in wrong) / hours


def summary(tallies: dict[str, Tally], hours: float, thresholds: Sequence[float]) -> dict[str, Any]:
    """Of a group of keywords: misses and false alarms an hour of each, at thresholds and where a tenth is missed."""
    alone = [value for tally in tallies.values() for value in tally.alone]
    sentence = [value for tally in tallies.values() for value in tally.sentence]
    wrong = [value for tally in tallies.values() for value in tally.wrong]
    asked = hours * len(tallies)
    return {
        "keywords": len(tallies),
        "keyword_hours": asked,
        "alone": len(alone),
        "sentence": len(sentence),
        "at": [
            {
                "threshold": threshold,
                "missed_alone": missed(alone, threshold),
                "missed_in_sentences": missed(sentence, threshold),
                "false_alarms_per_hour": sum(value >= threshold for value in wrong) / asked,
            }
            for threshold in thresholds
        ],
        "false_alarms_per_hour_at_10_percent_missed": {
            "alone": at_missed(alone, wrong, asked, 0.1) if alone else None,
            "sentence": at_missed(sentence, wrong, asked, 0.1) if sentence else None,
        },
    }


THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)


def tell(found: dict[tuple[str, str], dict[str, Tally]], hours: dict[str, float]) -> dict[str, Any]:
    """Prints the tables; returns what they hold."""
    answer: dict[str, Any] = {}
    for (condition, name), tallies in sorted(found.items()):
        grid = (1.0,) if name.startswith("pocketsphinx") else THRESHOLDS
        print(f"\n{condition}, {name}: {hours[condition]:.2f} h")
        print("  syllables  threshold  missed alone            missed in sentences     alarms an hour and keyword")
        for kind in ("1", "2", "3+"):
            own = {keyword: tally for keyword, tally in tallies.items() if group(keyword) == kind}
            result = summary(own, hours[condition], grid)
            answer[f"{condition}/{name}/{kind}"] = result
            for row in result["at"]:
                print(
                    f"  {kind:>9}  {row['threshold']:9g}  {share(row['missed_alone'], result['alone']):<22}  "
                    f"{share(row['missed_in_sentences'], result['sentence']):<22}  {row['false_alarms_per_hour']:.2f}"
                )
            tenth = result["false_alarms_per_hour_at_10_percent_missed"]
            said = ", ".join(f"{where} {value:.2f}" for where, value in tenth.items() if value is not None)
            print(f"  {kind:>9}  a tenth missed, false alarms an hour: {said}; n = {result['alone']} alone, "
                  f"{result['sentence']} in sentences, {result['keyword_hours']:.0f} keyword-hours")  # fmt: skip
    return answer


def draw(found: dict[tuple[str, str], dict[str, Tally]], hours: dict[str, float], path: Path) -> None:
    """Misses against false alarms (DET) in clean speech, before and after, by syllables."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, where in zip(figure.subplots(1, 2, sharey=True), ("alone", "sentence"), strict=True):
        for colour, kind in zip(("#c44e52", "#dd8452", "#4c72b0"), ("1", "2", "3+"), strict=True):
            for name, dash in (("before", ":"), ("after", "-")):
                own = [tally for keyword, tally in found["clean", name].items() if group(keyword) == kind]
                said = np.array([value for tally in own for value in getattr(tally, where)])
                wrong = np.array([value for tally in own for value in tally.wrong])
                if not len(said):
                    continue
                grid = np.unique(np.quantile(np.concatenate([said, wrong]), np.linspace(0, 1, 400)))
                missed_ = [100 * float((said < least).mean()) for least in grid]
                alarms = [float((wrong >= least).sum()) / hours["clean"] / len(own) for least in grid]
                label = f"{kind} syllable{'s' * (kind != '1')}, {name} (n = {len(said)})"
                axes.plot(np.maximum(alarms, 0.01), missed_, dash, color=colour, label=label)
        axes.set(xscale="log", xlim=(0.01, 100), ylim=(0, 100), xlabel="false alarms an hour and keyword")
        axes.set_title("said alone" if where == "alone" else "within sentences")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.axes[0].set_ylabel("missed, %")
    figure.savefig(path, dpi=110)


def by_keyword(found: dict[tuple[str, str], dict[str, Tally]], hours: dict[str, float], threshold: float) -> None:
    """A line for each keyword, before and after, in clean speech."""
    print(f"\nclean, threshold {threshold}: missed alone, missed in sentences, false alarms an hour")
    for keyword in sorted(KEYWORDS, key=lambda word: (group(word), word)):
        parts = []
        for name in ("before", "after"):
            tally = found["clean", name][keyword]
            alarms = sum(value >= threshold for value in tally.wrong) / hours["clean"]
            parts.append(
                f"{missed(tally.alone, threshold):3}/{len(tally.alone):<3} "
                f"{missed(tally.sentence, threshold):3}/{len(tally.sentence):<3} {alarms:6.2f}"
            )
        print(f"  {group(keyword):>2} {keyword:<15} {'    '.join(parts)}")


def by_folder(found: dict[tuple[str, str], dict[str, Tally]], heard: dict[str, float], threshold: float) -> None:
    """False alarms an hour and keyword by where the people come from."""
    print(f"\nclean, threshold {threshold}: false alarms an hour and keyword, by what training heard")
    for place, note in HEARD.items():
        counts = [
            sum(
                value >= threshold
                for tally in found["clean", name].values()
                for value, where in zip(tally.wrong, tally.places, strict=True)
                if where == place
            )
            for name in ("before", "after")
        ]
        hours = heard.get(place, 0.0)
        rates = ", ".join(f"{count / hours / len(KEYWORDS):.2f}" for count in counts) if hours else "-"
        print(f"  {place:<20} {hours:5.2f} h  {rates}  ({note})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--noise", default="20,10", help="decibels below the speech (default 20,10)")
    parser.add_argument("--scenes", type=int, default=1_000, help="of each, ten minutes each (default all)")
    parser.add_argument(
        "--noisy",
        type=int,
        default=6,
        help="scenes of words alone, and as many of sentences, that are heard in noise, too (default 6)",
    )
    parser.add_argument("--sphinx", default="", help="thresholds of pocketsphinx, as in 1e-10,1e-20,1e-30,1e-40")
    parser.add_argument("--output", type=Path, help="a JSON file for the tables")
    parser.add_argument("--figure", type=Path, help="a PNG or SVG file for the curves in clean speech")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    systems = [PhoneBind()]
    if arguments.sphinx:
        systems.append(Sphinx([float(each) for each in arguments.sphinx.split(",")]))  # type: ignore[arg-type]
    noise = [float(each) for each in arguments.noise.split(",") if each]
    found: dict[tuple[str, str], dict[str, Tally]] = {}
    hours: dict[str, float] = {}
    places: dict[str, float] = {}
    start = time.perf_counter()
    for condition, scene in conditions(arguments.speech, arguments.data, noise, arguments.scenes, arguments.noisy):
        hours[condition] = hours.get(condition, 0.0) + scene.seconds / 3600
        for span in scene.spans if condition == "clean" else ():
            places[folder(span)] = places.get(folder(span), 0.0) + (span.end - span.start) / 3600
        for system in systems:
            for name, keyword, times, scores in system(scene):
                tallies = found.setdefault((condition, name), {word: Tally() for word in KEYWORDS})
                tallies[keyword].add(keyword, scene, times, scores)
        print(f"{sum(hours.values()):.2f} h in {time.perf_counter() - start:.0f} s", flush=True)
    answer = tell(found, hours)
    by_keyword(found, hours, 0.5)
    by_folder(found, places, 0.5)
    if arguments.figure:
        draw(found, hours, arguments.figure)
    if arguments.output:
        arguments.output.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

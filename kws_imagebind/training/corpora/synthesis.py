"""Spoken words from Debian's free synthesisers: the first half of what PhoneBind learns from.

    python -m kws_imagebind.training.corpora.synthesis --corpus training/corpus

needs `apt-get install espeak-ng flite festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts`. The work is cut
into shards that get their final name only when complete, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import soundfile
import torch
from tqdm import tqdm

from kws_imagebind.audio.files import load_audio
from kws_imagebind.audio.signal import AudioError
from kws_imagebind.text.phonemes import VOWELS, Pronunciation
from kws_imagebind.training.corpora.accents import accented, is_sayable, mnemonics, without_accent
from kws_imagebind.training.corpora.espeak import MADE_UP, espeak
from kws_imagebind.training.corpora.shards import SAMPLE_RATE, Segment, condition, is_written, write_shard
from kws_imagebind.training.corpora.vocabulary import PHRASES, excluded_pronunciations, training_words

SYNTHESISERS = ("espeak-ng", "flite", "festival")
Style = dict[str, Any]


@dataclass(frozen=True)
class Voice:
    """A synthesiser and one of its voices; espeak-ng's are written ACCENT+VARIANT."""

    engine: str
    name: str


ESPEAK_ACCENTS = (
    "en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc",
)  # fmt: skip
ESPEAK_VARIANTS = (
    "Alex", "Andrea", "Annie", "AnxiousAndy", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee",
    "Marco", "Mario", "Michael", "Mike", "Nguyen", "RicishayMax", "RicishayMax2", "RicishayMax3", "Storm", "Tweaky",
    "adam", "anika", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb", "david", "ed", "edward", "f1", "f2",
    "f3", "f5", "fast", "grandpa", "iven", "iven2", "iven3", "iven4", "john", "kaukovalta", "klatt", "klatt2",
    "klatt3", "klatt5", "klatt6", "m1", "m2", "m4", "m5", "m6", "m7", "marcelo", "max", "michel", "miguel", "norbert",
    "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "steph3", "travis", "whisper", "zac",
)  # fmt: skip
# Never trained on: the first line speaks the bundled sample, the second chooses between trained models.
SAMPLE_VOICES = (
    Voice("festival", "ked_diphone"), Voice("espeak-ng", "en-us+Andy"), Voice("espeak-ng", "en+linda"),
    Voice("espeak-ng", "en-us+pablo"), Voice("espeak-ng", "en-gb-x-rp+f4"), Voice("espeak-ng", "en-us-nyc+m8"),
    Voice("espeak-ng", "en-gb-scotland+steph2"), Voice("espeak-ng", "en-029+victor"), Voice("espeak-ng", "en-us+m3"),
)  # fmt: skip
VALIDATION_VOICES = tuple(
    Voice("espeak-ng", name)
    for name in ("en-us+Alicia", "en+edward2", "en-us+klatt4", "en-gb-x-gbclan+grandma", "en-us-nyc+Mr serious")
)

# How many segments each synthesiser speaks. The real speakers behind flite and festival are few and precious.
SHARES = {
    "espeak-ng": 120_000,
    "flite:kal16": 3_500, "flite:awb": 5_000, "flite:rms": 5_000, "flite:slt": 5_000,
    "festival:kal_diphone": 3_000, "festival:cmu_us_slt_arctic_hts": 3_000,
}  # fmt: skip
ACCENTED = " (accented)"  # behind the name of a speaker with an accent that espeak-ng lacks
ACCENTED_SEGMENTS = 40_000  # of espeak-ng, which reads phonemes in every voice
FIRST_ACCENTED = -1_000_000  # index of the first of them, counted down: their styles are seeded apart from the others
SHARD = 2_500  # segments
PER_FESTIVAL_RUN = 50  # words; its start takes longer than a word


@dataclass(frozen=True)
class Job:
    """One segment to speak; `index` seeds everything random about it."""

    index: int
    voice: Voice
    text: str
    pronunciation: Pronunciation
    spelling: str = ""  # what the synthesiser reads instead of the text


def espeak_style(rng: random.Random) -> Style:
    return {
        "speed": rng.randint(105, 215),  # words a minute
        "pitch": rng.randint(10, 90),
        "range": rng.randint(10, 90),
        "mark": rng.choice(("", "", ".", "?", "!")),
    }


def speak_espeak(voice: str, text: str, style: Style, path: Path) -> None:
    synthesiser = espeak()
    said = f"{text}{style['mark']}"
    samples = synthesiser.speak(said, voice, style["speed"], style["pitch"], style["range"])
    soundfile.write(path, samples, synthesiser.sample_rate)


def flite_style(rng: random.Random) -> Style:
    return {
        "stretch": round(rng.uniform(0.75, 1.4), 2),
        "mean": round(rng.choice((115, 180)) * rng.uniform(0.8, 1.25)),  # Hz
        "deviation": round(rng.uniform(8, 35)),
    }


def speak_flite(voice: str, text: str, style: Style, path: Path) -> None:
    settings = {
        "duration_stretch": style["stretch"],
        "int_f0_target_mean": style["mean"],
        "int_f0_target_stddev": style["deviation"],
    }
    options = [part for key, value in settings.items() for part in ("--setf", f"{key}={value}")]
    _run(["flite", "-voice", voice, *options, "-t", text, "-o", str(path)])


def speak_festival(voice: str, texts: Sequence[str], styles: Sequence[Style], paths: Sequence[Path]) -> None:
    """Several words in one run of festival; a word it cannot say leaves no file."""
    script = [f"(voice_{voice})"]
    for text, style, path in zip(texts, styles, paths, strict=True):
        target = f"(target_f0_mean {style['mean']}) (target_f0_std {style['deviation']})"
        script += [
            f"(Parameter.set 'Duration_Stretch {style['stretch']})",
            f"(set! int_lr_params '({target} (model_f0_mean 170) (model_f0_std 34)))",
            f'(unwind-protect (utt.save.wave (utt.synth (Utterance Text "{text}")) "{path}" \'riff) nil)',
        ]
    file = paths[0].with_suffix(".scm")
    file.write_text("\n".join(script))
    _run(["festival", "-b", str(file)], timeout=300)


SPEAKERS: dict[str, tuple[Callable[[random.Random], Style], Callable[[str, str, Style, Path], None]]] = {
    "espeak-ng": (espeak_style, speak_espeak),
    "flite": (flite_style, speak_flite),
}


def _run(command: list[str], timeout: float = 20) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=timeout, check=False)


def speak(jobs: Sequence[Job], seed: int) -> list[Segment]:
    """The segments of jobs that share an engine (and, for festival, a voice); what comes out unusable is left out."""
    rngs = [random.Random(f"{seed}:{job.index}") for job in jobs]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{job.index}.wav" for job in jobs]
        engine = jobs[0].voice.engine
        try:
            if engine == "festival":
                styles = [flite_style(rng) for rng in rngs]
                speak_festival(jobs[0].voice.name, [job.text for job in jobs], styles, paths)
            else:
                style, say = SPEAKERS[engine]
                for job, rng, path in zip(jobs, rngs, paths, strict=True):
                    say(job.voice.name, job.spelling or job.text, style(rng), path)
        except subprocess.TimeoutExpired:
            pass  # what was spoken before is kept
        return [segment for job, path in zip(jobs, paths, strict=True) if (segment := _segment(job, path))]


def _segment(job: Job, path: Path) -> Segment | None:
    try:
        audio = condition(load_audio(path, SAMPLE_RATE, max_seconds=10).numpy())
    except AudioError:
        return None
    if audio is None:
        return None
    speaker = job.voice.name + (ACCENTED if job.spelling else "")
    return Segment(audio, job.voice.engine, speaker, job.text, job.pronunciation)


@cache
def _texts(seed: int) -> tuple[list[tuple[str, Pronunciation]], list[float]]:
    """What is spoken, words then phrases, and how often: short words more, as keywords are, and frequent ones."""
    words = list(training_words().items())
    weights = [(1.6 if len(said) <= 4 else 1.0) * (1.5 if rank < 4000 else 1.0) for rank, (_, said) in enumerate(words)]
    rng = random.Random(seed)
    short = [entry for entry in words[:4000] if len(entry[1]) <= 5]
    for number in range(PHRASES):
        parts = rng.sample(short, 2 if number % 3 else 3)
        words.append((" ".join(word for word, _ in parts), sum((said for _, said in parts), ())))
        weights.append(1.0)
    return words, weights


def _variant(rng: random.Random) -> str:
    """One of espeak-ng's speakers: half are made up."""
    return rng.choice(MADE_UP if rng.random() < 0.5 else ESPEAK_VARIANTS)


def plan(shares: dict[str, int], seed: int) -> list[Job]:
    """Every segment to be spoken, in one order that the seed fixes."""
    texts, weights = _texts(seed)
    rng = random.Random(seed + 1)
    jobs: list[Job] = []
    for share, count in shares.items():
        engine, _, name = share.partition(":")
        for text, pronunciation in rng.choices(texts, weights, k=count):
            variant = _variant(rng)
            voice = Voice(engine, name or f"{rng.choice(ESPEAK_ACCENTS)}+{variant}")
            jobs.append(Job(len(jobs), voice, text, pronunciation))
    return jobs


def plan_accents(count: int, seed: int) -> list[Job]:
    """Words of one and two syllables with the sounds of accents that espeak-ng lacks.

    What an accent makes one of the words that are tested on ("bad" or "win", said by a New Zealander) is left out.
    """
    tested = {mnemonics(said) for said in excluded_pronunciations()}
    rng = random.Random(seed + 3)
    words = {word: said for word, said in training_words().items() if is_sayable(said) and _syllables(said) <= 2}
    weights = [2.0 if len(said) <= 4 else 1.0 for said in words.values()]
    jobs = []
    for index, (text, said) in enumerate(rng.choices(list(words.items()), weights, k=count)):
        variant = _variant(rng)
        voice = Voice("espeak-ng", f"{rng.choice(ESPEAK_ACCENTS)}+{variant}")
        spelling = accented(said, rng)
        if without_accent(spelling) not in tested:
            jobs.append(Job(FIRST_ACCENTED - index, voice, text, said, spelling))
    return jobs


def _syllables(said: Pronunciation) -> int:
    return sum(phoneme in VOWELS for phoneme in said)


def chunks(jobs: Sequence[Job], size: int) -> list[Sequence[Job]]:
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def shards(jobs: Sequence[Job]) -> list[tuple[str, list[Job]]]:
    """Named groups of jobs: of one voice of festival or flite, of espeak-ng's own accents or the others."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        name = job.voice.engine if job.voice.engine == "espeak-ng" else f"{job.voice.engine}-{job.voice.name}"
        name += "-accents" if job.spelling else ""
        groups.setdefault(name, []).append(job)
    return [
        (f"synthetic-{name}-{number:03d}", list(part))
        for name, group in groups.items()
        for number, part in enumerate(chunks(group, SHARD))
    ]


def _speak_all(task: tuple[Sequence[Job], int]) -> list[Segment]:
    return speak(*task)


def synthesise(corpus: Path, jobs: Sequence[Job], seed: int, processes: int) -> None:
    """Writes every shard of these jobs that `corpus` does not hold yet."""
    missing = [name for name in SYNTHESISERS if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}; see the head of this file for what apt-get needs")
    todo = [(name, jobs) for name, jobs in shards(jobs) if not is_written(corpus, name)]
    bar = tqdm(total=sum(len(jobs) for _, jobs in todo), unit="words", desc="synthesis")
    # One thread a process: resampling in several would have them fight over the cores.
    with Pool(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for name, jobs in todo:
            tasks = [(part, seed) for part in chunks(jobs, PER_FESTIVAL_RUN)]
            segments: list[Segment] = []
            for spoken in pool.imap(_speak_all, tasks):
                segments += spoken
                bar.update(PER_FESTIVAL_RUN)
            write_shard(corpus, name, segments)
    bar.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("training/corpus"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full plan, to try the way out")
    arguments = parser.parse_args()
    shares = {name: round(count * arguments.scale) for name, count in SHARES.items()}
    jobs = plan(shares, arguments.seed) + plan_accents(round(ACCENTED_SEGMENTS * arguments.scale), arguments.seed)
    synthesise(arguments.corpus, jobs, arguments.seed, arguments.processes)


if __name__ == "__main__":
    main()

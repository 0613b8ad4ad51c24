"""What the demo answers: recordings and words in, pieces of a page out, without Gradio. It keeps nothing between calls.

Every answer is a piece of a page: a result, or one sentence that says what is wrong.
"""

from __future__ import annotations

import io
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

import kws_imagebind as kws
from kws_imagebind.audio.files import load_audio
from kws_imagebind.audio.signal import AudioError
from kws_imagebind.datasets import Dataset, DatasetError, Utterance
from kws_imagebind.datasets.sample import sample_folder
from kws_imagebind.datasets.waveforms import load_utterance
from kws_imagebind.demo import panels
from kws_imagebind.demo.verdict import Entry, judge, now
from kws_imagebind.embeddings.store import CacheError
from kws_imagebind.encoders import Encoder, EncoderError
from kws_imagebind.encoders.base import VariantEncoder
from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.readouts.base import Average
from kws_imagebind.readouts.enrolment import Enrolment
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.rank import by_score
from kws_imagebind.text.keywords import KeywordError, check_keywords, label, spoken
from kws_imagebind.text.phonemes import PronunciationError
from kws_imagebind.text.prompts import PromptError

MAX_SECONDS = 30.0  # of a visitor's recording; a spoken keyword takes one
MAX_BYTES = 10 * 2**20  # of an upload: half a minute of 48 kHz stereo at 24 bits is 8.6 MB
MAX_WORDS = 500
MAX_LETTERS = 20_000  # of the whole list
KEPT_MINUTES = 15  # that an upload may be played again
BATCH = 16  # clips between two steps of the progress bar
SHOWN = 12  # words of a ranking; the rest is folded
SHOWN_OF_A_CLIP = 5

# Words of the sample; without any, a second of white noise.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "One word": ("stop",),
    "Three words": ("yes", "left", "stop"),
    "Other word": ("marvin",),
    "Noise": (),
}
EXAMPLE_SPEAKER = "04098292"
EXAMPLE_RATE = 16_000  # hertz, of the sample

VISITORS_ERRORS = (
    AudioError,
    CacheError,
    DatasetError,
    EncoderError,
    KeywordError,
    MetricError,
    PromptError,
    PronunciationError,
)

_FOLDER = re.compile(r"^(?:[A-Za-z]:)?[^:;]*[/\\](?=[^/\\:]+: )")  # before a file's name, at the start of an error


def sentence(error: Exception) -> str:
    """An error's message as a sentence for a page: files are named without their folders, which are private.

    >>> sentence(AudioError("/var/uploads/1a2b/hello.wav: the file is empty (0 bytes)"))
    'hello.wav: the file is empty (0 bytes).'
    >>> sentence(KeywordError("no keyword is given; expected a list such as 'yes,no,stop'"))
    "No keyword is given; expected a list such as 'yes,no,stop'."
    """
    text = str(error).rstrip(".")
    if isinstance(error, AudioError):
        name = _FOLDER.sub("", text)
        return f"{name}."
    return f"{text[:1].upper()}{text[1:]}."


def words_of(text: str) -> tuple[str, ...]:
    """The keywords of a list, separated by commas, semicolons or line breaks.

    >>> words_of("lamp, kettle=/K EH T AH L/; tea pot\\n\\nwindow,")
    ('lamp', 'kettle=/K EH T AH L/', 'tea pot', 'window')

    Raises:
        KeywordError: the list is empty or too long, or has a word twice.
    """
    if len(text) > MAX_LETTERS:
        raise KeywordError(f"the list has {len(text):,} letters; at most {MAX_LETTERS:,} are allowed")
    words = [word for word in re.split(r"[,;\n]", text) if word.strip()]
    if not words:
        raise KeywordError("the list of words is empty; type some, such as: yes, no, stop")
    if len(words) > MAX_WORDS:
        raise KeywordError(f"the list has {len(words):,} words; at most {MAX_WORDS:,} are allowed")
    return check_keywords(words)


class Answer(NamedTuple):
    """What "Your voice" shows.

    Attributes:
        panel: HTML.
        spectrogram: HTML, "" if there is none.
        entry: for the history; None where nothing was heard.
    """

    panel: str
    spectrogram: str = ""
    entry: Entry | None = None


@dataclass(frozen=True)
class Answers:
    """Everything the page can be asked. All visitors share it, and it keeps nothing of theirs.

    Attributes:
        encoder: what listens.
        dataset: the clips that the random clip and the statistics are drawn from.
        cache: folder of embeddings, only those of the data set.
        templates: prompts; by default the encoder's own.
        average: of several templates, "embedding" or "score".
        lots: draws the random clips.
        enrolled: words with examples; where a visitor types one of them, the examples count.
    """

    encoder: Encoder
    dataset: Dataset
    cache: Path
    templates: Sequence[str] | None = None
    average: Average = "embedding"
    lots: random.Random = field(default_factory=random.Random, compare=False)
    enrolled: Enrolment | None = None

    def spot(self, recording: str | None, words: str) -> Answer:
        """What was said in a recording, and its spectrogram.

        Args:
            recording: path of a file, or None while there is none.
            words: the list as it was typed.
        """
        if recording is None:
            return Answer(panels.hint("Record or upload a word, or try an example, to see the answer here."))
        spectrogram = ""
        try:
            spectrogram = self._spectrogram(recording)
            return self._answer(recording, words_of(words), spectrogram)
        except VISITORS_ERRORS as error:
            return Answer(panels.notice(sentence(error)), spectrogram)

    def draw(self) -> tuple[tuple[int, np.ndarray] | None, str, str]:
        """A random clip of the data set to play, as (hertz, int16 samples), what was heard, and its spectrogram."""
        try:
            utterance = self.lots.choice(self.dataset.utterances)
            waveform = load_utterance(utterance, self.encoder.sample_rate)
            heard = self._heard(utterance)
        except VISITORS_ERRORS as error:
            return None, panels.notice(sentence(error)), ""
        samples = (waveform.clamp(-1, 1) * 32767).round().numpy().astype(np.int16)
        return (self.encoder.sample_rate, samples), heard, panels.spectrogram(waveform, self.encoder.sample_rate)

    def statistics(self, clips: float | None, seed: float | None) -> Iterator[str]:
        """The evaluation of the encoder on a random part of the data set: progress first, the result at the end.

        Args:
            clips: how many; an emptied field gives None, which is answered by a sentence.
            seed: of the draw.
        """
        if not (_is_whole(clips) and _is_whole(seed)):
            yield panels.notice("The number of clips and the seed must be whole numbers, such as 64 and 0.")
            return
        try:
            yield from self._evaluation(self.dataset.subset(int(clips or 0), int(seed or 0)), int(seed or 0))
        except VISITORS_ERRORS as error:
            yield panels.notice(sentence(error))

    def _evaluation(self, dataset: Dataset, seed: int) -> Iterator[str]:
        scorer = self._scorer(dataset.keywords)
        yield from self._encoding(dataset)
        audio = kws.embed(self.encoder, dataset, self.cache)
        drawn = seed if len(dataset) < len(self.dataset) else None
        yield panels.evaluation(kws.evaluate(scorer(audio), audio, drawn))

    def _encoding(self, dataset: Dataset) -> Iterator[str]:
        yield panels.progress(0, len(dataset))
        for start in range(0, len(dataset), BATCH):
            part = replace(dataset, utterances=dataset.utterances[start : start + BATCH])
            kws.embed(self.encoder, part, self.cache)
            yield panels.progress(start + len(part), len(dataset))

    def _scorer(self, words: Sequence[str]) -> ZeroShotClassifier:
        return ZeroShotClassifier(self.encoder, words, self.templates, self.average)

    def _spectrogram(self, recording: str) -> str:
        if not Path(recording).is_file():
            raise AudioError(f"Recordings are kept for {KEPT_MINUTES} minutes and yours is deleted; record it again")
        rate = self.encoder.sample_rate
        return panels.spectrogram(load_audio(recording, rate, MAX_SECONDS), rate)

    def _answer(self, recording: str, keywords: Sequence[str], spectrogram: str) -> Answer:
        scorer = self.enrolled.chosen(keywords, self.encoder) if self.enrolled else self._scorer(keywords)
        verdict = judge(recording, scorer, self.encoder)
        panel = panels.ranking(verdict, self._said(keywords, verdict.ranked[:SHOWN]), SHOWN)
        return Answer(panel, spectrogram, Entry(recording, now(), verdict, tuple(scorer.labels)))

    def _heard(self, utterance: Utterance) -> str:
        audio = kws.embed(self.encoder, replace(self.dataset, utterances=(utterance,)), self.cache)
        scores = self._scorer(self.dataset.keywords)(audio)
        ranked = by_score(scores.labels, scores.values[0])
        said = self._said(self.dataset.keywords, ranked[:SHOWN_OF_A_CLIP])
        return panels.drawn(utterance, ranked, said, SHOWN_OF_A_CLIP)

    def _said(self, keywords: Sequence[str], ranked: Sequence[tuple[str, float]]) -> dict[str, str]:
        """How the encoder reads each word it ranks, where it reads sounds."""
        if not isinstance(self.encoder, VariantEncoder):
            return {}
        shown = {word for word, _ in ranked}
        texts = {label(keyword): spoken(keyword) for keyword in keywords if label(keyword) in shown}
        return {word: " or ".join(self.encoder.variants(text)) for word, text in texts.items()}


def example(name: str) -> tuple[str, bytes]:
    """A recording of `EXAMPLES` to try, from the bundled sample: the name of a file, and a WAV's bytes.

    Raises:
        DatasetError: this installation lacks the sample.
    """
    rate, pause = EXAMPLE_RATE, np.zeros(EXAMPLE_RATE // 2, np.float32)
    sound = (0.05 * np.random.default_rng(0).standard_normal(rate)).astype(np.float32)
    words = [
        soundfile.read(sample_folder() / word / f"{EXAMPLE_SPEAKER}_nohash_0.wav", dtype="float32")[0]
        for word in EXAMPLES[name]
    ]
    if words:
        sound = np.concatenate([pause, *(part for word in words for part in (word, pause))]) if words[1:] else words[0]
    wav = io.BytesIO()
    soundfile.write(wav, sound, rate, format="WAV", subtype="PCM_16")
    return f"{name}.wav", wav.getvalue()


def _is_whole(number: float | None) -> bool:
    return isinstance(number, int | float) and math.isfinite(number) and number == int(number)

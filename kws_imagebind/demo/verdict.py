"""What was said in a recording, or that it was none of the words; and what a session keeps of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import torch

from kws_imagebind.audio.files import duration, load_audio
from kws_imagebind.audio.signal import AudioError, is_silent
from kws_imagebind.encoders import Encoder, EncoderError
from kws_imagebind.encoders.base import WindowEncoder
from kws_imagebind.readouts.enrolment import Enrolment, thresholds_of
from kws_imagebind.readouts.fillers import filler_vectors
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.detect import Detector
from kws_imagebind.spotting.hits import Hit, one_threshold
from kws_imagebind.spotting.rank import by_score, is_long, rank, ranked
from kws_imagebind.spotting.windows import nearest

NONE = "none of these"
NAMED = 6  # words of an answer that are written out
KEPT = 50  # recordings of a session's history
RECORDED = ("audio.wav", "audio.webm", "audio.mp4", "audio.ogg")  # as the browser names what a microphone recorded
COLUMNS = ("time", "recording", "seconds", "word", "start", "end", "score", "threshold", "words")


@dataclass(frozen=True)
class Verdict:
    """What was said in a recording.

    Attributes:
        seconds: that it lasts.
        ranked: the words with their cosines, the best first.
        nearest: the word that scores most, and its score from 0 to 1; None where the encoder does not know what its
            cosines are worth.
        thresholds: the score that each word needs; empty where `nearest` is None.
        hits: where in a longer recording words are; empty in one of about a second, which is heard at once.
        long: whether the recording is a longer one.
    """

    seconds: float
    ranked: tuple[tuple[str, float], ...]
    nearest: tuple[str, float] | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    hits: tuple[Hit, ...] = ()
    long: bool = False

    @property
    def least(self) -> float:
        """The score that the nearest word needs, 0 where there is none."""
        return self.thresholds[self.nearest[0]] if self.nearest else 0.0

    @property
    def common(self) -> float | None:
        """The threshold of all words; None where they have several, or none."""
        return one_threshold(self.thresholds)

    @property
    def none(self) -> bool:
        """Whether it was none of the words."""
        if self.nearest is None:
            return False
        return not self.hits if self.long else self.nearest[1] < self.least

    @property
    def answer(self) -> str:
        """In words."""
        if self.none:
            return NONE
        if not self.hits:
            return self.ranked[0][0]
        words = [hit.word for hit in self.hits]
        return ", ".join(words if len(words) <= NAMED else [*words[:NAMED], "…"])

    @property
    def score(self) -> float:
        """The best score from 0 to 1, or else the best cosine."""
        if self.hits:
            return max(hit.score for hit in self.hits)
        return self.nearest[1] if self.nearest else self.ranked[0][1]


def judge(recording: str, scorer: ZeroShotClassifier | Enrolment, encoder: Encoder) -> Verdict:
    """What was said in a recording, if anything in the list was.

    A recording of about a second is heard at once; `Confidence` weighs the best word against others. A window slides
    over a longer one, as in `detect`. An encoder without a calibrated score only ranks.

    Args:
        recording: path of a file.
        scorer: of the words.
        encoder: the scorer's.

    Raises:
        AudioError: the recording cannot be used, or holds only silence.
    """
    seconds = duration(recording)
    if not is_calibrated(encoder):
        return Verdict(seconds, tuple(rank(recording, encoder, scorer)))
    assert isinstance(encoder, WindowEncoder)
    if is_long(recording, encoder):
        return _search(recording, scorer, encoder)
    waveform = load_audio(recording, encoder.sample_rate)
    if is_silent(waveform):
        raise AudioError(f"{recording}: holds only silence, so there is no word to spot; record it again, closer")
    vector = encoder.encode_audio([waveform])
    words = by_score(scorer.labels, scorer(vector).values[0])
    others = nearest(vector, filler_vectors(encoder, scorer)).double()
    score = float(encoder.confidence()(torch.tensor([words[0][1]], dtype=torch.float64), others)[0])
    return Verdict(seconds, tuple(words), (words[0][0], score), thresholds_of(scorer))


def _search(recording: str, scorer: ZeroShotClassifier | Enrolment, encoder: Encoder) -> Verdict:
    detector = Detector(encoder, scorer)
    heard = detector.listen(recording)
    words = ranked(heard, recording)
    best = by_score(heard.labels, detector.word_scores(heard)[heard.audible].amax(0))
    hits = detector.hits(heard)
    # A word with a threshold of its own is nearest where it lacks the least.
    first = max(best, key=lambda pair: pair[1] - detector.thresholds[pair[0]])
    return Verdict(heard.seconds, tuple(words), first, dict(detector.thresholds), tuple(hits), long=True)


def is_calibrated(encoder: Encoder) -> bool:
    """Whether the encoder knows what its cosines are worth, so that it can say that it was none of the words."""
    if not isinstance(encoder, WindowEncoder):
        return False
    try:
        encoder.confidence()
    except EncoderError:
        return False
    return True


@dataclass(frozen=True)
class Entry:
    """A recording in a session's history.

    Attributes:
        recording: path of the file, by which an entry is found again.
        time: of the day, as text.
        verdict: what was heard.
        words: the list, as labels.
    """

    recording: str
    time: str
    verdict: Verdict
    words: tuple[str, ...]

    @property
    def what(self) -> str:
        """The recording's name for people.

        >>> Entry("/uploads/1a2b/audio.wav", "12:00:00", Verdict(1.0, (("yes", 0.6),)), ("yes",)).what
        'recording'
        """
        name = Path(self.recording).name
        return "recording" if name in RECORDED else name

    @property
    def seconds(self) -> float:
        return self.verdict.seconds

    @property
    def answer(self) -> str:
        return self.verdict.answer

    @property
    def score(self) -> float:
        return self.verdict.score


def remembered(history: Sequence[Entry], entry: Entry) -> list[Entry]:
    """A history with another entry. A recording that was the last one already, asked for other words, has one row."""
    before = list(history)
    if before and before[-1].recording == entry.recording:
        before.pop()
    return [*before, entry][-KEPT:]


def now() -> str:
    """The time of the day where the demo runs."""
    return datetime.now().strftime("%H:%M:%S")


def as_csv(history: Sequence[Entry]) -> bytes:
    """A history as a table, one row a hit, and one for a recording without any."""
    rows: list[tuple[object, ...]] = []
    for entry in history:
        verdict, own = entry.verdict, (entry.time, entry.what, f"{entry.seconds:.3f}")
        listed = ", ".join(entry.words)
        if verdict.hits:
            rows += [(*own, *_row(hit), f"{verdict.thresholds[hit.word]:g}", listed) for hit in verdict.hits]
        else:
            least = f"{verdict.least:g}" if verdict.nearest else ""
            rows.append((*own, entry.answer, "", "", f"{entry.score:.4f}", least, listed))
    return _table(COLUMNS, rows)


def hits_csv(hits: Iterable[Hit]) -> bytes:
    """Hits as a table."""
    return _table(("word", "start", "end", "score"), [_row(hit) for hit in hits])


def _row(hit: Hit) -> tuple[str, str, str, str]:
    return hit.word, f"{hit.start:.3f}", f"{hit.end:.3f}", f"{hit.score:.4f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue().encode()

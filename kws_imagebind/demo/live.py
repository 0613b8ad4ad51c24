"""Listening while somebody speaks: blocks of a browser's microphone in, a panel out, without Gradio.

Of each visitor a `Listener` and the last hits are kept, and nothing of the sound beyond the seconds that it needs.
"""

from __future__ import annotations

import base64
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kws_imagebind.audio.signal import AudioError
from kws_imagebind.demo import DemoError, panels
from kws_imagebind.demo.answers import VISITORS_ERRORS, sentence, words_of
from kws_imagebind.demo.verdict import hits_csv
from kws_imagebind.encoders import Encoder
from kws_imagebind.encoders.confidence import THRESHOLD
from kws_imagebind.readouts.base import Average
from kws_imagebind.readouts.enrolment import Enrolment
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.spotting.hits import Hit, thresholds
from kws_imagebind.spotting.judge import Judge
from kws_imagebind.spotting.stream import Listener, waveform
from kws_imagebind.spotting.windows import FAINTEST, HOP, Fits, Heard

RATES = (8_000, 192_000)  # hertz, of a microphone
LONGEST = 10.0  # s of a block; of more, the end is heard
KEPT = 50  # hits of a visitor; older ones are forgotten
RECENT = 1.0  # s whose best score is shown for each word
IDLE = 60.0  # s without a block, after which a visitor is taken to be gone
VISITORS = 32  # remembered at most; who listens is never forgotten for another
BEHIND = 1.0  # s of sound that were lost, from which it is said
MUTED_AFTER, MUTED = 3.0, -70.0  # s, and dB of full scale that a microphone reaches which is not muted
SILENT = -100.0  # dB of full scale

Samples = NDArray[np.int16] | NDArray[np.float32]


class WatchedJudge(Judge):
    """A `Judge` that remembers each word's best score of the last second."""

    def reset(self) -> None:
        super().reset()
        self._recent: deque[Tensor] = deque(maxlen=round(RECENT / HOP))

    def scores(self, fits: Fits | Heard) -> Tensor:
        scores = super().scores(fits)
        self._recent.extend(
            row if level > FAINTEST else 0 * row for row, level in zip(scores, fits.levels, strict=True)
        )
        return scores

    @property
    def recent(self) -> list[float]:
        """Of each word, from 0 to 1."""
        if not self._recent:
            return [0.0] * len(self.labels)
        return [max(column) for column in zip(*(row.tolist() for row in self._recent), strict=True)]


@dataclass(frozen=True)
class Wanted:
    """What is listened for.

    Attributes:
        words: as they were typed.
        threshold: the least score of a hit.
    """

    words: tuple[str, ...]
    threshold: float


@dataclass
class Session:
    """One visitor who listens."""

    last: float  # seconds of the clock, when it was heard of
    listening: bool = True
    wanted: Wanted | None = None
    judge: WatchedJudge | None = None
    listener: Listener | None = None
    least: dict[str, float] = field(default_factory=dict)  # score of a hit of each word
    before: float = 0.0  # s that earlier listeners of this session heard
    lost: float = 0.0  # s that the page could not send in time, or that a block was too long
    level: float = SILENT  # dB of full scale, the peak of the last block
    loudest: float = SILENT  # of all of them
    hits: deque[Hit] = field(default_factory=lambda: deque(maxlen=KEPT))
    found: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def seconds(self) -> float:
        """That were heard."""
        return self.before + (self.listener.seconds if self.listener else 0.0)


class Live:
    """The visitors who listen, each with a stream of their own.

    A visitor is forgotten who leaves the page. When a new one comes, so are those who sent nothing for a minute, and
    where `VISITORS` remain, the one who stopped the longest ago. Where all of them listen, the new one is refused.

    Args:
        encoder: what listens; a `WindowEncoder`.
        enrolled: words with examples; where a visitor types one of them, the examples count.
        templates: prompts; by default the encoder's own.
        average: of several templates, "embedding" or "score".
        clock: seconds.
    """

    def __init__(
        self,
        encoder: Encoder,
        enrolled: Enrolment | None = None,
        templates: Sequence[str] | None = None,
        average: Average = "embedding",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._encoder, self._enrolled, self._clock = encoder, enrolled, clock
        self._templates, self._average = templates, average
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many visitors are remembered."""
        return len(self._sessions)

    def start(self, visitor: str) -> None:
        """A new recording: what was heard before is forgotten.

        Raises:
            DemoError: the visitor is new, and too many others listen; so do `hear` and `stop`.
        """
        with self._lock:
            self._begin(visitor, self._clock())

    def hear(self, visitor: str, samples: Samples, rate: int, words: str, threshold: float, lost: float = 0.0) -> str:
        """The panel after a block that follows those before. A list that cannot be used gets a sentence in it, and
        listening goes on for the words before.

        Args:
            visitor: whose microphone it is.
            samples: (samples,) or (samples, channels), of any length.
            rate: hertz.
            words: the list as it was typed.
            threshold: the least score of a hit, from 0 to 1.
            lost: seconds before the block that the page could not send in time.
        """
        session, problem = self._session(visitor), ""
        with session.lock:
            if not session.listening:  # the block belongs to a recording that is over
                return self._panel(session)
            try:
                self._listen_for(session, Wanted(words_of(words), threshold))
            except VISITORS_ERRORS as error:
                problem = sentence(error)
            session.lost += lost
            try:
                self._hear(session, samples, rate)
            except VISITORS_ERRORS as error:
                problem = sentence(error)
            return self._panel(session, problem)

    def stop(self, visitor: str) -> str:
        """The panel after the last block, with what the end decides."""
        session = self._session(visitor)
        with session.lock:
            session.listening = False
            self._finish(session)
            return self._panel(session)

    def hits(self, visitor: str) -> list[Hit]:
        """The last hits of a visitor, in the order of their times."""
        session = self._sessions.get(visitor)
        if session is None:
            return []
        with session.lock:  # a block that is being heard adds hits
            return list(session.hits)

    def forget(self, visitor: str) -> None:
        """The visitor has left the page."""
        with self._lock:
            self._sessions.pop(visitor, None)

    def _session(self, visitor: str) -> Session:
        now = self._clock()
        with self._lock:
            session = self._sessions.get(visitor)
            if session is None:
                session = self._begin(visitor, now)
            session.last = now
            return session

    def _begin(self, visitor: str, now: float) -> Session:
        self._forget_idle(now)
        if visitor not in self._sessions and len(self._sessions) >= VISITORS:
            self._forget_one_who_stopped()
        session = self._sessions[visitor] = Session(now)
        return session

    def _forget_idle(self, now: float) -> None:
        for visitor, session in list(self._sessions.items()):
            if now - session.last > IDLE:
                del self._sessions[visitor]

    def _forget_one_who_stopped(self) -> None:
        stopped = [visitor for visitor, session in self._sessions.items() if not session.listening]
        if not stopped:
            raise DemoError("too many people are listening; try again in a minute")
        del self._sessions[min(stopped, key=lambda visitor: self._sessions[visitor].last)]

    def _hear(self, session: Session, samples: Samples, rate: int) -> None:
        if not RATES[0] <= rate <= RATES[1]:
            raise AudioError(f"the microphone gives {rate:,} samples a second; expected {RATES[0]:,} to {RATES[1]:,}")
        if session.listener is None:  # the first list cannot be used
            return
        kept = waveform(samples[-round(LONGEST * rate) :])
        session.lost += (len(samples) - len(kept)) / rate
        self._add(session, session.listener.hear(kept, rate))
        if len(kept):
            session.level = float(20 * kept.abs().max().clamp_min(1e-5).log10())
            session.loudest = max(session.loudest, session.level)

    def _listen_for(self, session: Session, wanted: Wanted) -> None:
        """Other words or another threshold: the stream goes on with another listener."""
        if wanted == session.wanted:
            return
        judge = session.judge
        if session.wanted is None or judge is None or wanted.words != session.wanted.words:
            judge = WatchedJudge(self._encoder, self._scorer(wanted.words))
        own = wanted.threshold == THRESHOLD  # the usual one: enrolled words keep theirs
        least = thresholds(None if own else wanted.threshold, judge.readout)
        self._finish(session)
        session.judge, session.listener, session.least = judge, Listener.of(judge, least), least
        session.wanted = wanted

    def _scorer(self, words: Sequence[str]) -> ZeroShotClassifier | Enrolment:
        if self._enrolled:
            return self._enrolled.chosen(words, self._encoder)
        return ZeroShotClassifier(self._encoder, words, self._templates, self._average)

    def _finish(self, session: Session) -> None:
        """The end of what one listener hears."""
        if session.listener is None:
            return
        seconds = session.seconds
        self._add(session, session.listener.finish())
        session.listener, session.before = None, seconds

    def _add(self, session: Session, hits: Sequence[Hit]) -> None:
        shift = session.before
        session.hits.extend(Hit(hit.word, shift + hit.start, shift + hit.end, hit.score) for hit in hits)
        session.found += len(hits)

    def _panel(self, session: Session, problem: str = "") -> str:
        listener, judge = session.listener, session.judge
        return panels.live(
            panels.LiveView(
                listening=session.listening,
                seconds=session.seconds,
                level=session.level,
                words=list(zip(judge.labels, judge.recent, strict=True)) if judge and listener else [],
                thresholds=session.least,
                hits=list(session.hits)[::-1],
                found=session.found,
                lost=session.lost if session.lost >= BEHIND else 0.0,
                muted=session.seconds > MUTED_AFTER and session.loudest <= MUTED,
                problem=problem,
                table="" if session.listening else base64.b64encode(hits_csv(session.hits)).decode(),
            )
        )

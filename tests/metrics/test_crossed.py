"""The interval over draws and speakers: its parts against other formulas, and its coverage in simulated trials."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from kws_imagebind.metrics.crossed import _of_draws, crossed_interval
from kws_imagebind.metrics.intervals import BY_SPEAKER, SpeakerSums, proportion_by_speaker


def trial(
    seed: int, draws: int = 10, speakers: int = 40, draw: float = 0.4, speaker: float = 0.5, both: float = 0.3
) -> tuple[np.ndarray, list[int], float]:
    """Hits (draws, n), who spoke, and the true accuracy. Clips differ in difficulty, alike for all draws."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(speakers), np.maximum(1, rng.lognormal(2.5, 0.8, speakers).astype(int)))
    fit = 1.5 + draw * rng.normal(size=(draws, 1)) + (speaker * rng.normal(size=speakers))[who]
    fit = fit + both * rng.normal(size=(draws, speakers))[:, who] + rng.normal(size=len(who))
    truth = norm.cdf(1.5 / np.sqrt(2 + draw**2 + speaker**2 + both**2))
    return fit + rng.normal(size=fit.shape) > 0, who.tolist(), float(truth)


@pytest.mark.parametrize("sizes", [{}, {"draw": 0.7, "speaker": 0.2}, {"draw": 0.0, "both": 0.0}, {"draws": 4}])
def test_limits_hold_the_truth(sizes: dict[str, float]) -> None:
    inside, widths, estimates = [], [], []
    for seed in range(150):
        hits, who, truth = trial(seed, **sizes)  # type: ignore[arg-type]
        found = crossed_interval(hits, who)
        inside.append(found.low <= truth <= found.high)
        widths.append(found.high - found.low)
        estimates.append(found.estimate)
    assert np.mean(inside) >= 0.88
    assert np.mean(widths) < 7 * np.std(estimates)


def test_speakers_alone_are_not_enough_where_draws_differ() -> None:
    """What the interval of the first draw would claim."""
    inside = []
    for seed in range(100):
        hits, who, truth = trial(seed, draw=0.7, speaker=0.2)
        found = proportion_by_speaker(hits[0], who)
        inside.append(found.low <= truth <= found.high)
    assert np.mean(inside) < 0.6


def test_one_draw_is_the_interval_by_speaker() -> None:
    hits, who, _ = trial(0)
    mine, theirs = crossed_interval(hits[:1], who), proportion_by_speaker(hits[0], who)
    assert (mine.low, mine.high, mine.method) == (
        pytest.approx(theirs.low),
        pytest.approx(theirs.high),
        BY_SPEAKER,
    )
    same = crossed_interval(np.repeat(hits[:1], 5, axis=0), who)  # draws that never differ add nothing
    assert (same.low, same.high) == (pytest.approx(theirs.low, abs=2e-3), pytest.approx(theirs.high, abs=2e-3))


def test_parts_are_those_of_the_analysis_of_variance() -> None:
    """Balanced normal data, where the expected mean squares are known (Searle, Casella and McCulloch, chapter 4)."""
    rng, parts = np.random.default_rng(0), []
    draws, speakers, size = 6, 25, 10
    for _ in range(300):
        cells = (
            rng.normal(0, 0.02, size=(1, draws))
            + rng.normal(0, 0.05, size=(speakers, 1))
            + rng.normal(0, 0.08, size=(speakers, draws))
        )
        won, clips = size * (0.5 + cells), np.full(speakers, float(size))
        sums = SpeakerSums(won.mean(1) - won.mean(), clips / clips.sum())
        parts.append(np.array([sums.squares.sum(), *_of_draws(won, clips)]) / clips.sum() ** 2)
    both = 0.08**2 / draws / speakers
    expected = [0.05**2 / speakers + both, 0.02**2 / draws + both, both]
    np.testing.assert_allclose(np.mean(parts, axis=0), expected, rtol=0.12)


def test_unknown_speakers_make_every_clip_its_own() -> None:
    hits, who, _ = trial(1)
    alone = crossed_interval(hits, [None, *who[1:]])
    assert alone == crossed_interval(hits, list(range(len(who))))
    assert alone.high - alone.low < crossed_interval(hits, who).high - crossed_interval(hits, who).low


def test_hits_everywhere_leave_doubt() -> None:
    found = crossed_interval(np.ones((10, 30)), [i // 3 for i in range(30)])
    assert found.estimate == 1 == found.high and 0.5 < found.low < 0.9


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="1 clip; an interval needs at least two"):
        crossed_interval([[1]], "a")
    with pytest.raises(ValueError, match="3 speakers for 2 clips"):
        crossed_interval([[1, 0]], "abc")

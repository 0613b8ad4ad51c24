"""Intervals against statsmodels, against simulation and against what must hold for any numbers."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from kws_imagebind.statistics import Interval, mean_of_proportions, wilson

counts = st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_equals_statsmodels(count: tuple[int, int], confidence: float) -> None:
    interval = wilson(*count, confidence)
    low, high = proportion_confint(*count, alpha=1 - confidence, method="wilson")
    assert interval.estimate == count[0] / count[1]
    assert interval.low == pytest.approx(low, abs=1e-12)
    assert interval.high == pytest.approx(high, abs=1e-12)
    assert (interval.n, interval.method, interval.confidence) == (count[1], "wilson", confidence)


@given(counts)
def test_wilson_mirrors_hits_and_misses(count: tuple[int, int]) -> None:
    hits, n = count
    interval, mirrored = wilson(hits, n), wilson(n - hits, n)
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-12)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1


def test_imagebinds_published_run() -> None:
    # 304 of 11,005: the only full run of ImageBind on the official test split, 2.76 % [2.47, 3.09].
    interval = wilson(304, 11_005)
    assert [round(100 * x, 2) for x in (interval.estimate, interval.low, interval.high)] == [2.76, 2.47, 3.09]


def test_wilson_ends_are_exact() -> None:
    for n in range(1, 300):
        assert wilson(0, n).low == 0.0
        assert wilson(n, n).high == 1.0


@pytest.mark.parametrize(("hits", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_what_is_no_proportion_is_refused(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match="is no proportion"):
        wilson(hits, n)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_what_is_no_level_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="is no level"):
        wilson(1, 2, confidence)


@given(counts)
def test_the_mean_of_one_proportion_is_that_proportion(count: tuple[int, int]) -> None:
    mean, alone = mean_of_proportions([count[0]], [count[1]]), wilson(*count)
    assert mean.estimate == alone.estimate
    assert mean.low == pytest.approx(alone.low, abs=1e-12)
    assert mean.high == pytest.approx(alone.high, abs=1e-12)


@given(st.lists(counts, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_the_mean_needs_no_order_and_no_absent_classes(each: list[tuple[int, int]], rng: random.Random) -> None:
    hits, totals = zip(*each, strict=True)
    interval = mean_of_proportions(hits, totals)
    shuffled = [*each, (0, 0)]
    rng.shuffle(shuffled)
    again = mean_of_proportions(*zip(*shuffled, strict=True))
    for name in ("estimate", "low", "high", "n"):
        assert getattr(again, name) == pytest.approx(getattr(interval, name), abs=1e-12)
    assert interval.n == sum(totals)
    assert interval.estimate == pytest.approx(sum(h / n for h, n in each) / len(each))
    assert -1e-12 <= interval.low <= interval.estimate <= interval.high <= 1 + 1e-12


@given(counts, st.integers(2, 40))
def test_equal_classes_are_as_good_as_one_of_all_their_clips(count: tuple[int, int], classes: int) -> None:
    hits, n = count
    mean, pooled = mean_of_proportions([hits] * classes, [n] * classes), wilson(hits * classes, n * classes)
    assert mean.low == pytest.approx(pooled.low, abs=1e-9)
    assert mean.high == pytest.approx(pooled.high, abs=1e-9)


@pytest.mark.parametrize(
    ("chances", "sizes"),
    [
        ([0.95] * 35, [33] * 35),
        ([0.9, 0.5, 0.7, 0.99, 0.2], [20, 35, 10, 50, 30]),
        ([0.9, 0.8, 0.95, 0.6, 0.85, 1.0, 0.7] * 5, [1, 2, 3, 2, 1, 2, 3] * 5),  # a subset of 70 clips
        ([0.9] + [0.02] * 10 + [0.001] * 24, [300] * 35),  # predictions that collapse into one class
        ([0.9, 0.6], [25, 40]),
    ],
)
def test_the_interval_of_the_mean_covers_the_truth(chances: list[float], sizes: list[int]) -> None:
    trials, truth = 2000, np.mean(chances)
    drawn = np.random.default_rng(0).binomial(sizes, chances, size=(trials, len(sizes)))
    intervals = [mean_of_proportions(hits.tolist(), sizes) for hits in drawn]
    below = np.mean([truth < interval.low for interval in intervals])
    above = np.mean([truth > interval.high for interval in intervals])
    assert below <= 0.05
    assert above <= 0.05
    assert 0.93 <= 1 - below - above <= 0.985


def test_classes_without_a_miss_still_leave_doubt() -> None:
    few, many = mean_of_proportions([2] * 10, [2] * 10), mean_of_proportions([200] * 10, [200] * 10)
    assert (few.high, many.high) == (1.0, 1.0)
    assert few.low == pytest.approx(wilson(20, 20).low)
    assert many.low == pytest.approx(wilson(2000, 2000).low)


def test_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        mean_of_proportions([1, 2], [3])


@pytest.mark.parametrize("interval", [wilson(0, 0), mean_of_proportions([], []), mean_of_proportions([0], [0])])
def test_nothing_measured_is_nan_and_null(interval: Interval) -> None:
    assert all(math.isnan(x) for x in (interval.estimate, interval.low, interval.high))
    assert interval.n == 0
    assert str(interval) == "no clips, n = 0"
    assert json.loads(json.dumps(interval.as_dict(), allow_nan=False))["estimate"] is None


def test_how_an_interval_reads() -> None:
    interval = wilson(3875, 4482)
    assert str(interval) == "86.5 % [85.4, 87.4], n = 4,482"
    assert interval.as_dict() == {
        "estimate": 3875 / 4482,
        "low": interval.low,
        "high": interval.high,
        "n": 4482,
        "method": "wilson",
        "confidence": 0.95,
    }

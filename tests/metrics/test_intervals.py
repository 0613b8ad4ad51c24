"""Intervals against statsmodels, against simulation and against what must hold for any numbers."""

from __future__ import annotations

import json
import math
import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_rel
from scipy.stats import t as student_t
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from benchmarks import coverage
from kws_imagebind.metrics.intervals import (
    Interval,
    by_speaker,
    cluster_bootstrap,
    mean_of_proportions,
    resampled_sums,
    student_probability,
    student_quantile,
    wilson,
)
from kws_imagebind.metrics.paired import compare_paired, holm, mcnemar, sign_flips

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


# Speakers


def _spoken(seed: int, speakers: int = 40, classes: int = 5) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Hits, classes and speakers of clips, some speakers being heard far better than others."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(speakers), rng.integers(1, 30, speakers))
    hits = rng.random(len(who)) < rng.beta(4, 1, speakers)[who]
    return hits, rng.integers(0, classes, len(who)), [f"speaker {number}" for number in who]


def test_students_t_equals_scipys() -> None:
    for freedom in (1, 1.7, 3, 9.5, 60, 400, 9_000):
        for confidence in (0.8, 0.95, 0.99):
            expected = student_t.ppf(0.5 + confidence / 2, freedom)
            assert student_quantile(confidence, freedom) == pytest.approx(expected, rel=1e-5)
            assert student_probability(expected, freedom) == pytest.approx(confidence, abs=1e-6)


def test_the_bootstraps_spread_is_that_of_drawing_speakers_one_by_one() -> None:
    hits, _, speakers = _spoken(0)
    names = sorted(set(speakers))
    clips = {name: hits[[speaker == name for speaker in speakers]] for name in names}
    rng = np.random.default_rng(1)
    slowly = [np.concatenate([clips[names[i]] for i in rng.integers(len(names), size=len(names))]).mean()
              for _ in range(2_000)]  # fmt: skip
    columns = [[clips[name].sum(), len(clips[name])] for name in names]
    won, total = resampled_sums(columns, 20_000, seed=2).T
    assert np.std(won / total) == pytest.approx(np.std(slowly), rel=0.06)
    assert np.mean(won / total) == pytest.approx(np.mean(slowly), abs=0.003)


def test_the_bootstraps_spread_is_statsmodels_cluster_robust_one() -> None:
    hits, _, speakers = _spoken(3, speakers=200)
    codes = np.unique(speakers, return_inverse=True)[1]
    fitted = OLS(hits.astype(float), np.ones(len(hits))).fit(cov_type="cluster", cov_kwds={"groups": codes})
    interval = cluster_bootstrap(hits, speakers)
    assert interval.estimate == pytest.approx(float(fitted.params[0]))
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * float(fitted.bse[0]), rel=0.08)


def test_clips_of_alike_speakers_widen_the_interval_and_independent_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(50), 20)
    alone = wilson(500, 1_000)
    alike = cluster_bootstrap(np.repeat(np.arange(50) % 2, 20), who.tolist())
    free = cluster_bootstrap(rng.permutation(np.arange(1_000) % 2), who.tolist())
    assert alike.high - alike.low > 4 * (alone.high - alone.low)  # a speaker is worth one clip: sqrt(20) = 4.5
    assert free.high - free.low == pytest.approx(alone.high - alone.low, rel=0.25)


def test_speakers_of_one_clip_each_give_wilsons_interval_but_for_students_t() -> None:
    hits = np.arange(400) % 4 > 0
    interval, alone = cluster_bootstrap(hits, list(range(400))), wilson(300, 400)
    assert (interval.low, interval.high) == pytest.approx((alone.low, alone.high), abs=0.002)
    assert (interval.n, interval.method) == (400, "speaker-bootstrap")


@pytest.mark.parametrize(("speakers", "rho"), [(30, 0.0), (68, 0.0), (30, 0.1), (68, 0.1)])
def test_the_speaker_bootstrap_covers_the_truth_where_wilson_does_not(speakers: int, rho: float) -> None:
    shares = coverage.covered(speakers, 0.87, rho, trials=300, resamples=300)
    assert 0.92 <= shares["speaker bootstrap"] <= 0.985  # of 300 trials: one standard error is 0.013
    assert 0.92 <= shares["paired"] <= 0.985
    assert shares["wilson"] > 0.92 if rho == 0 else shares["wilson"] < 0.7


def test_intervals_by_speaker_agree_with_each_other_and_count_like_wilsons() -> None:
    hits, targets, speakers = _spoken(5)
    targets[targets == 3] = 2  # class 3 has no clips
    found = by_speaker(hits, targets, 5, speakers)
    alone = cluster_bootstrap(hits, speakers)
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((alone.low, alone.high), abs=1e-3)
    assert found.speakers == len(set(speakers)) and found.per_class[3].n == 0
    for index in (0, 1, 2, 4):
        own = hits[targets == index]
        assert found.per_class[index].estimate == pytest.approx(own.mean())
        assert found.per_class[index].n == len(own)
    present = [interval.estimate for interval in found.per_class if interval.n]
    assert found.macro.estimate == pytest.approx(np.mean(present))
    assert all(0 <= i.low <= i.estimate <= i.high <= 1 for i in (*found.per_class, found.macro) if i.n)


def test_all_hits_still_leave_doubt_and_a_seed_repeats() -> None:
    perfect = cluster_bootstrap([1] * 90, [f"s{i % 9}" for i in range(90)])
    assert perfect.high == 1.0 and perfect.low == pytest.approx(wilson(9, 9).low)
    hits, _, speakers = _spoken(6)
    assert cluster_bootstrap(hits, speakers, seed=4) == cluster_bootstrap(hits, speakers, seed=4)
    assert cluster_bootstrap(hits, speakers, seed=4) != cluster_bootstrap(hits, speakers, seed=5)


def test_speakers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="1 speaker; a bootstrap over speakers needs at least two"):
        cluster_bootstrap([1, 0], ["a", "a"])
    with pytest.raises(ValueError, match="3 speakers for 2 clips"):
        cluster_bootstrap([1, 0], ["a", "b", "c"])
    with pytest.raises(ValueError, match="is no level"):
        cluster_bootstrap([1, 0], ["a", "b"], confidence=95)


# Two runs


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_equals_statsmodels(first: int, second: int) -> None:
    expected = statsmodels_mcnemar([[7, first], [second, 5]], exact=True).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_of_a_whole_test_split_is_exact() -> None:
    assert mcnemar(5_600, 5_405) == pytest.approx(binomtest(5_405, 11_005).pvalue, rel=1e-9)
    with pytest.raises(ValueError, match="expected counts from 0"):
        mcnemar(-1, 3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_paired_comparison_counts_and_swaps() -> None:
    rng = np.random.default_rng(2)
    who = np.repeat(np.arange(30), 12).tolist()
    first, second = rng.random(360) < 0.9, rng.random(360) < 0.7
    found, swapped = compare_paired(first, second, who), compare_paired(second, first, who)
    assert found.difference == pytest.approx(first.mean() - second.mean())
    assert (found.low, found.high) == pytest.approx((-swapped.high, -swapped.low))
    assert found.only_first == int((first & ~second).sum()) == swapped.only_second
    assert found.p == pytest.approx(swapped.p) and found.p < 0.001 and found.low > 0
    assert compare_paired(first, first, who).p == 1.0


def test_without_speakers_the_paired_test_is_scipys_paired_t_test() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.random(300) < 0.8, rng.random(300) < 0.72
    found, expected = compare_paired(first, second), ttest_rel(first.astype(float), second.astype(float))
    assert found.p == pytest.approx(max(expected.pvalue, found.mcnemar), abs=1e-5) and found.method == "paired-normal"
    limits = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high), abs=1e-5)


@pytest.mark.parametrize(
    ("gains", "speakers", "p"),
    [
        ([1], None, 1.0),  # one clip
        ([1, 1], None, 0.5),
        ([1, 1], "ab", 0.5),
        ([1, 0] * 3, "aabbcc", 0.25),  # every speaker gains as much: no spread is seen
        ([1] * 4 + [0] * 96, None, 0.125),  # few discordant clips
        ([1] * 4 + [0] * 96, range(100), 0.125),
        ([1] * 5 + [0] * 95, None, 0.0625),
    ],
)
def test_a_few_clips_are_never_certain(gains: list[int], speakers: str | range | None, p: float) -> None:
    who = None if speakers is None else list(speakers)
    found = compare_paired(gains, [0] * len(gains), who)
    assert found.p == pytest.approx(p) and found.low <= 0 < found.difference < found.high + (found.difference == 1)


def test_no_difference_seen_is_no_certainty_of_none() -> None:
    found = compare_paired([1] * 50, [1] * 50)
    assert found.p == 1 and found.low == -found.high and 0.03 < found.high < 0.06  # 3 of 50 by the rule of three: 0.06


@given(st.integers(0, 60), st.integers(0, 60))
def test_flipping_single_clips_is_mcnemars_test(first: int, second: int) -> None:
    assert sign_flips([1] * first + [-1] * second + [0] * 9) == pytest.approx(mcnemar(first, second), abs=1e-9)


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=9))
def test_flipping_speakers_is_counting_every_choice_of_signs(gains: list[int]) -> None:
    totals = np.abs(np.array(list(product((1, -1), repeat=len(gains)))) @ gains)
    assert sign_flips(gains) == pytest.approx(np.mean(totals >= abs(sum(gains))))


def test_runs_of_different_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same clips"):
        compare_paired([1, 0], [1])

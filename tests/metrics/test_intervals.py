"""Intervals against statsmodels, against simulation and against what must hold for any numbers."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise, product

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
    SpeakerSums,
    by_speaker,
    mean_of_proportions,
    proportion_by_speaker,
    proportion_of_sums,
    speaker_codes,
    speaker_freedom,
    student_p_value,
    student_quantile,
    wilson,
)
from kws_imagebind.metrics.paired import compare_paired, holm, mcnemar, p_text, sign_flips

counts = st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_equals_statsmodels(count: tuple[int, int], confidence: float) -> None:
    interval = wilson(*count, confidence)
    low, high = proportion_confint(*count, alpha=1 - confidence, method="wilson")
    assert interval.estimate == count[0] / count[1]
    assert interval.low == pytest.approx(low, abs=1e-12)
    assert interval.high == pytest.approx(high, abs=1e-12)
    assert (interval.n, interval.method, interval.level) == (count[1], "wilson", confidence)


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
    with pytest.raises(ValueError, match="is not a proportion"):
        wilson(hits, n)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_what_is_no_level_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="is not a level"):
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
        for level in (0.8, 0.95, 0.99):
            expected = student_t.ppf(0.5 + level / 2, freedom)
            assert student_quantile(level, freedom) == pytest.approx(expected, rel=1e-9)
            assert student_p_value(expected, freedom) == pytest.approx(1 - level, abs=1e-9)
            assert student_p_value(-expected, freedom) == pytest.approx(1 - level, abs=1e-9)


def test_the_variance_is_that_of_drawing_speakers_with_replacement() -> None:
    hits, _, speakers = _spoken(0)
    code = speaker_codes(speakers, len(hits))[0]
    won, total = np.bincount(code, hits), np.bincount(code).astype(float)
    n = total.sum()
    squares = SpeakerSums(won - hits.mean() * total, total / n).squares
    rng = np.random.default_rng(1)
    drawn = [rng.integers(len(total), size=len(total)) for _ in range(20_000)]
    bootstrap = np.std([won[draw].sum() / total[draw].sum() for draw in drawn])
    assert np.sqrt(squares.sum()) / n == pytest.approx(bootstrap, rel=0.06)


def test_the_variance_is_statsmodels_cluster_robust_one() -> None:
    hits, _, speakers = _spoken(3, speakers=200)
    codes = np.unique(speakers, return_inverse=True)[1]
    fitted = OLS(hits.astype(float), np.ones(len(hits))).fit(cov_type="cluster", cov_kwds={"groups": codes})
    interval = proportion_by_speaker(hits, speakers)
    assert interval.estimate == pytest.approx(float(fitted.params[0]))
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * float(fitted.bse[0]), rel=0.08)


def test_the_variance_of_independent_clips_is_without_bias_for_speakers_of_any_size() -> None:
    rng, total = np.random.default_rng(0), np.array([1.0, 2, 3, 5, 8, 40])
    won = rng.binomial(total.astype(int), 0.8, (20_000, 6))
    n, sums = total.sum(), [SpeakerSums(row - row.sum() / total.sum() * total, total / total.sum()) for row in won]
    assert np.mean([each.squares.sum() for each in sums]) == pytest.approx(n * 0.8 * 0.2, rel=0.02)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=12))
def test_degrees_of_freedom_are_at_most_one_less_than_the_speakers(sizes: list[int]) -> None:
    shares = np.array(sizes) / sum(sizes)
    found = speaker_freedom(shares)
    assert 0.99 <= found <= len(sizes) - 1 + 1e-9
    assert speaker_freedom(np.append(shares, 0.0)) == found  # who says nothing does not count
    assert speaker_freedom(np.full(len(sizes), 1 / len(sizes))) == pytest.approx(len(sizes) - 1)


def test_clips_of_alike_speakers_widen_the_interval_and_independent_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(50), 20)
    alone = wilson(500, 1_000)
    alike = proportion_by_speaker(np.repeat(np.arange(50) % 2, 20), who.tolist())
    free = proportion_by_speaker(rng.permutation(np.arange(1_000) % 2), who.tolist())
    assert alike.high - alike.low > 4 * (alone.high - alone.low)  # a speaker is worth one clip: sqrt(20) = 4.5
    assert free.high - free.low == pytest.approx(alone.high - alone.low, rel=0.25)


def test_speakers_of_one_clip_each_give_wilsons_interval_but_for_students_t() -> None:
    hits = np.arange(400) % 4 > 0
    interval, alone = proportion_by_speaker(hits, list(range(400))), wilson(300, 400)
    assert (interval.low, interval.high) == pytest.approx((alone.low, alone.high), abs=0.002)
    assert (interval.n, interval.method) == (400, "wilson-by-speaker")


@pytest.mark.parametrize(("speakers", "rho"), [(7, 0.0), (20, 0.1), (68, 0.0), (68, 0.1)])
@pytest.mark.parametrize("accuracy", [0.87, 0.99])
def test_limits_by_speaker_cover_the_truth_where_wilsons_do_not(speakers: int, rho: float, accuracy: float) -> None:
    found = coverage.covered(speakers, accuracy, rho, trials=400)
    assert found["ours"][0] >= 0.925  # one standard error is 0.011
    assert found["Wilson, independent"][0] > 0.92 if rho == 0 else found["Wilson, independent"][0] < 0.8


def test_the_same_holds_for_the_mean_of_the_classes_and_for_a_rare_class() -> None:
    for accuracy in (0.8, 0.99):
        for share, _ in coverage.covered_classes(20, accuracy, 0.1, trials=150).values():
            assert share >= 0.92  # one standard error is 0.018


def test_two_runs_without_a_difference_are_found_to_have_none() -> None:
    found = coverage.covered_paired(20, 0.87, 0.1, trials=200)
    assert found["paired"] >= 0.92 and found["McNemar"] < 0.8


@given(st.integers(0, 50), st.integers(1, 50), st.sampled_from([(1.0, "beta"), (0.5, "jeffreys")]))
def test_the_published_limits_are_statsmodels(hits: int, misses: int, kind: tuple[float, str]) -> None:
    n = hits + misses
    low, high = coverage._beta(np.array([hits / n]), np.array([float(n)]), kind[0])
    expected = proportion_confint(hits, n, method=kind[1])
    assert high[0] == pytest.approx(expected[1], abs=1e-9)
    assert low[0] == pytest.approx(expected[0] if hits else 0.0, abs=1e-9)  # Jeffreys' own is not 0 there


# As the last misses go


def test_the_limits_do_not_jump_where_no_miss_is_left() -> None:
    """315 of 315 clips by nine speakers read [70.1, 100] once, and 314 of 315 [97.7, 100]."""
    total = np.full(9, 35.0)
    limits = []
    for misses in range(6):
        won = total.copy()
        won[:misses] -= 1
        limits.append(proportion_of_sums(won, total))
    lows = [each.low for each in limits]
    assert lows == sorted(lows, reverse=True) and limits[0].high == 1.0
    assert all(0 < before - after < 2 / 315 for before, after in pairwise(lows))
    assert 0.92 < lows[0] < 0.95  # a design effect of 4.4 leaves about 52 clips


speakers_sizes = st.lists(st.integers(1, 80), min_size=2, max_size=12)


@given(speakers_sizes, st.data())
def test_the_limits_never_fall_as_the_last_miss_becomes_a_hit(sizes: list[int], data: st.DataObject) -> None:
    total = np.array(sizes, dtype=float)
    won = total.copy()
    won[data.draw(st.integers(0, len(sizes) - 1))] -= 1
    before, after = proportion_of_sums(won, total), proportion_of_sums(total, total)
    assert before.low <= after.low and before.high <= after.high == 1.0
    assert proportion_of_sums(total - won, total).high == pytest.approx(1 - before.low)  # hits and misses mirror


@given(st.lists(st.integers(5, 80), min_size=5, max_size=12), st.data())
def test_nor_as_the_last_but_one_does(sizes: list[int], data: st.DataObject) -> None:
    total = np.array(sizes, dtype=float)
    one, two = (data.draw(st.integers(0, len(sizes) - 1)) for _ in range(2))
    won = total.copy()
    won[one] -= 1
    after = proportion_of_sums(won, total)
    won[two] -= 1
    before = proportion_of_sums(won, total)
    assert before.low <= after.low and before.high <= after.high


@given(st.integers(0, 10**9))
def test_elsewhere_a_hit_lowers_a_limit_by_a_few_clips_at_most(seed: int) -> None:
    """A hit of a speaker who was better already shows that speakers differ, and that widens the limits."""
    rng = np.random.default_rng(seed)
    total = rng.integers(1, 60, rng.integers(5, 20)).astype(float)
    accuracy = rng.choice([0.5, 0.8, 0.95])
    won = rng.binomial(total.astype(int), rng.beta(6 * accuracy, 6 * (1 - accuracy), len(total))).astype(float)
    missed = np.flatnonzero(won < total)
    if not len(missed):
        return
    more = won.copy()
    more[rng.choice(missed)] += 1
    before, after = proportion_of_sums(won, total), proportion_of_sums(more, total)
    assert min(after.low - before.low, after.high - before.high) * total.sum() > -4


def test_the_mean_of_the_classes_does_not_jump_either() -> None:
    speakers = np.repeat(np.arange(12), 20)
    words = np.tile(np.arange(10), 24)
    hits = np.ones(240)
    full = by_speaker(hits, words, 10, speakers.tolist())
    plain = mean_of_proportions([24] * 10, [24] * 10)
    hits[0] = 0
    less = by_speaker(hits, words, 10, speakers.tolist())
    for before, after in ((less.macro, full.macro), (less.per_class[0], full.per_class[0])):
        assert 0 < after.low - before.low < 3 / after.n and before.high < after.high == 1.0
    assert 0 < plain.low - mean_of_proportions([23, *[24] * 9], [24] * 10).low < 3 / 240
    assert full.per_class[1] == less.per_class[1]


def test_top_five_of_every_clip_is_not_less_certain_than_the_accuracy_under_it() -> None:
    """Top-5 accuracy 100.0 % [70.1, 100.0] stood under accuracy 98.1 % [96.4, 99.0] once."""
    who = np.repeat(np.arange(9), 35)
    hits = np.ones(315)
    hits[[3, 60, 99, 150, 222, 300]] = 0
    first, five = proportion_by_speaker(hits, who.tolist()), proportion_by_speaker(np.ones(315), who.tolist())
    assert five.low >= first.low and five.high >= first.high


def test_intervals_by_speaker_agree_with_each_other_and_count_like_wilsons() -> None:
    hits, targets, speakers = _spoken(5)
    targets[targets == 3] = 2  # class 3 has no clips
    found = by_speaker(hits, targets, 5, speakers)
    alone = proportion_by_speaker(hits, speakers)
    assert (found.accuracy.low, found.accuracy.high) == pytest.approx((alone.low, alone.high), abs=1e-3)
    assert found.speakers == len(set(speakers)) and found.per_class[3].n == 0
    for index in (0, 1, 2, 4):
        own = hits[targets == index]
        assert found.per_class[index].estimate == pytest.approx(own.mean())
        assert found.per_class[index].n == len(own)
    present = [interval.estimate for interval in found.per_class if interval.n]
    assert found.macro.estimate == pytest.approx(np.mean(present))
    assert all(0 <= i.low <= i.estimate <= i.high <= 1 for i in (*found.per_class, found.macro) if i.n)


def test_all_hits_still_leave_doubt_that_shrinks_with_more_speakers() -> None:
    few, many = (proportion_by_speaker([1] * 90, [f"s{i % count}" for i in range(90)]) for count in (9, 45))
    assert few.high == many.high == 1.0 and wilson(9, 9).low < few.low < many.low < wilson(90, 90).low


def test_speakers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="1 speaker; limits by speaker need at least two"):
        proportion_by_speaker([1, 0], ["a", "a"])
    with pytest.raises(ValueError, match="3 speakers for 2 clips"):
        proportion_by_speaker([1, 0], ["a", "b", "c"])
    with pytest.raises(ValueError, match="is not a level"):
        proportion_by_speaker([1, 0], ["a", "b"], level=95)


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


def test_identical_runs_claim_no_limits_and_say_what_other_clips_could_show() -> None:
    """They read [-0.1, +0.1] once, as if something had been measured."""
    right = np.arange(300) % 4 > 0
    found, by_clip = compare_paired(right, right, np.repeat(np.arange(10), 30).tolist()), compare_paired(right, right)
    for each in (found, by_clip):
        assert each.identical and each.method == "identical" and each.difference == 0 and each.p == each.mcnemar == 1
        assert math.isnan(each.low) and math.isnan(each.high)
        assert json.loads(json.dumps(each.difference_as_dict(), allow_nan=False))["low"] is None
        assert str(each).startswith("identical: right and wrong on the same 300 clips; at most ")
        assert "[" not in str(each)
    assert by_clip.differing_at_most == wilson(0, 300).high
    perfect = proportion_by_speaker([1] * 300, np.repeat(np.arange(10), 30).tolist())
    assert found.differing_at_most == pytest.approx(1 - perfect.low)
    one_differs = compare_paired(right, np.append(~right[:1], right[1:]))
    assert not one_differs.identical and one_differs.low < 0 < one_differs.high


def test_a_tiny_p_value_reads_as_one() -> None:
    found = compare_paired(np.ones(400), np.arange(400) % 2)
    assert p_text(found.p) == "p < 0.0001" and "p < 0.0001" in str(found) and "= <" not in str(found)


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

"""Runs against each other: aligned by clip, tested as statsmodels tests, refused where they do not belong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from kws_imagebind.reporting.comparison import compare
from kws_imagebind.reporting.predictions import Prediction, PredictionsError

WORDS = ("yes", "no", "up", "down")


def run(accuracy: float, seed: int, n: int = 240, speakers: int = 12, start: int = 0) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(start, start + n):
        label = WORDS[i % 4]
        heard = label if rng.random() < accuracy else WORDS[(i + 1) % 4]
        lines.append(Prediction(f"{i}.wav", label, heard, speaker=f"s{i % speakers}" if speakers else ""))
    return lines


def test_the_run_that_is_ahead_is_named() -> None:
    lines = {" ".join(str(compare(dict(runs))).partition("ahead")[2].split("\n")[0].split()) for runs in (
        (("good", run(0.9, 0)), ("poor", run(0.6, 2))),
        (("poor", run(0.6, 2)), ("good", run(0.9, 0))),
    )}  # fmt: skip
    assert lines == {"good"}
    alike = str(compare({"one": run(0.8, 1), "two": run(0.8, 5)}))
    assert "but no more than chance" in alike or "ahead       neither" in alike


def test_the_tests_are_statsmodels_and_holms_correction_is_over_all_pairs() -> None:
    runs = {"good": run(0.9, 0), "fair": run(0.8, 1), "poor": run(0.6, 2)}
    found = compare(runs)
    assert [(pair.first, pair.second) for pair in found.pairs] == [("good", "fair"), ("good", "poor"), ("fair", "poor")]
    for pair in found.pairs:
        one, two = (np.array([x.label == x.prediction for x in runs[name]]) for name in (pair.first, pair.second))
        table = [[(one & two).sum(), (one & ~two).sum()], [(~one & two).sum(), (~one & ~two).sum()]]
        assert pair.paired.mcnemar == pytest.approx(mcnemar(table, exact=True).pvalue)
        assert pair.paired.difference == pytest.approx(one.mean() - two.mean())
    for values, corrected in (
        ([p.paired.p for p in found.pairs], [p.corrected for p in found.pairs]),
        ([p.paired.mcnemar for p in found.pairs], [p.corrected_mcnemar for p in found.pairs]),
    ):
        assert corrected == pytest.approx(multipletests(values, method="holm")[1].tolist())
    assert found.accuracies["good"].method == "wilson-by-speaker" and found.speakers == 12
    json.dumps(found.as_dict(), allow_nan=False)
    assert "good less poor" in str(found) and "by Holm of 3" in str(found) and "12 speakers" in str(found)


def test_runs_that_learnt_from_clips_are_never_mixed_up_with_those_that_did_not() -> None:
    runs = {"net": run(0.9, 0), "few": run(0.8, 1), "bare": run(0.6, 2)}
    texts = {"net": "supervised: learnt from these words, 9 clips", "few": "few-shot, 5 clips a word, mean of 10 draws",
             "bare": "zero-shot read-out: the words are given as text"}  # fmt: skip
    found = compare(runs, kinds=texts)
    assert found.as_dict()["kinds"] == texts and all(text in str(found) for text in texts.values())
    (warning,) = found.warnings
    assert "(net is supervised; few is few-shot; bare is zero-shot)" in warning
    alike = {"few": "few-shot, one draw", "bare": "few-shot, 5 clips a word"}
    assert not compare({name: runs[name] for name in alike}, kinds=alike).warnings
    assert not compare({name: runs[name] for name in alike}).warnings


def test_words_won_and_lost_add_up() -> None:
    pair = compare({"a": run(0.9, 0), "b": run(0.7, 1)}).pairs[0]
    assert sum(word[1] for word in pair.words) == pair.paired.only_first
    assert sum(word[2] for word in pair.words) == pair.paired.only_second
    assert {word[0]: word[3] for word in pair.words} == dict.fromkeys(WORDS, 60)
    changes = [abs(won - lost) for _, won, lost, _ in pair.words]
    assert changes == sorted(changes, reverse=True)


def test_clips_are_aligned_by_name_in_whatever_order_and_the_rest_is_told() -> None:
    first, second = run(0.9, 0), run(0.9, 0)[::-1][:200]
    found = compare({"a": first, "b": second})
    assert (found.n, found.left_out) == (200, 40) and found.pairs[0].paired.difference == 0
    assert found.pairs[0].paired.p == found.pairs[0].paired.mcnemar == 1.0
    assert "40 left out" in str(found)


def test_without_speakers_clips_are_taken_as_independent_and_that_is_said() -> None:
    found = compare({"a": run(0.9, 0, speakers=0), "b": run(0.7, 1, speakers=0)})
    assert found.speakers == 0 and found.pairs[0].paired.method == "paired-normal"
    assert found.accuracies["a"].method == "wilson" and "speakers are unknown" in str(found)
    mixed = compare({"a": run(0.9, 0, speakers=0), "b": run(0.7, 1)})  # one run knows who spoke: enough for both
    assert mixed.speakers == 12


def test_runs_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(PredictionsError, match="1 run; a comparison needs at least two"):
        compare({"a": run(0.9, 0)})
    with pytest.raises(PredictionsError, match=r"share no clip.*'0.wav' in a, '900.wav' in b"):
        compare({"a": run(0.9, 0), "b": run(0.9, 0, start=900)})
    other = [Prediction("0.wav", "lamp", "yes"), *run(0.9, 0)[1:]]
    with pytest.raises(PredictionsError, match=r"clip '0.wav' says 'yes' in a and 'lamp' in b"):
        compare({"a": run(0.9, 0), "b": other})


def test_runs_that_chose_from_other_words_are_warned_of() -> None:
    runs = {"a": run(0.9, 0), "b": run(0.8, 1)}
    assert compare(runs).warnings == () == compare(runs, {"a": WORDS, "b": WORDS[::-1]}).warnings
    assert compare(runs, {"a": (*WORDS, "lamp")}).warnings == ()  # b may have had it too
    both = compare(runs, {"a": (*WORDS, "lamp"), "b": WORDS})
    assert len(both.warnings) == 1
    assert "a and b chose from different candidates (5 words and 4 words; 'lamp'" in str(both)
    assert both.as_dict()["warnings"] == list(both.warnings)
    heard = {"a": [Prediction("0.wav", "yes", "lamp"), *run(0.9, 0)[1:]], "b": run(0.8, 1)}
    for known in ({"b": WORDS}, {"b": WORDS, "a": (*WORDS, "lamp")}):
        assert len(compare(heard, known).warnings) == 1


def test_identical_runs_say_so_and_claim_no_limits() -> None:
    """They read '+0.0 points [-0.1, +0.1]' once."""
    found = compare({"a": run(0.9, 0), "b": run(0.9, 0)[::-1]})
    pair, text = found.pairs[0], str(found)
    assert pair.paired.identical and pair.differing_predictions == 0
    assert "difference  identical: right and wrong on the same 240 clips; at most " in text
    assert "all 240 are the same" in text and "points" not in text and "McNemar     exact" not in text
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))["pairs"][0]
    assert told["identical"] and told["difference"]["low"] is None and told["difference"]["high"] is None
    assert 0 < told["difference"]["differing_at_most"] < 0.1

    lines = run(0.9, 0)
    other = [x if x.label == x.prediction else replace(x, prediction=WORDS[WORDS.index(x.label) - 1]) for x in lines]
    changed = compare({"a": lines, "b": other})
    wrong = sum(x.label != x.prediction for x in lines)
    assert changed.pairs[0].paired.identical and changed.pairs[0].differing_predictions == wrong > 0
    assert f"{wrong} of 240 differ, all of them wrong" in str(changed)


def test_a_tiny_p_value_is_printed_once_with_its_sign() -> None:
    text = str(compare({"a": run(0.95, 0, speakers=60), "b": run(0.3, 1, speakers=60), "c": run(0.9, 2, speakers=60)}))
    assert "p < 0.0001" in text and "= <" not in text and "p < 0.0001 by Holm of 3" in text

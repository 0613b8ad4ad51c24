"""Open set: areas against scikit-learn, thresholds that say what they do, and never the testing split for choosing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

import kws_imagebind as kws
from kws_imagebind.datasets.base import ClipIdentity
from kws_imagebind.evaluation.open_set import open_set
from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.metrics.roc import auroc_interval
from kws_imagebind.readouts.base import Scores
from kws_imagebind.readouts.fillers import filler_scores, filler_vectors
from kws_imagebind.readouts.rejection import Rejection, best, fit_rejection, margin
from kws_imagebind.reporting.report import Report
from kws_imagebind.reporting.results import from_dict
from kws_imagebind.text.fillers import FILLERS
from kws_imagebind.text.phonemes import lookup
from kws_imagebind.text.tasks import SPEECH_COMMANDS_WORDS
from tests.reporting.test_report import WORDS, rows

LABELS = ("yes", "no", "up")


def scores(n: int, level: float, seed: int) -> Scores:
    values = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)) * 0.1
    values[torch.arange(n), torch.arange(n) % 3] += level
    return Scores(values, LABELS)


def test_areas_equal_scikit_learns_for_each_rule_and_kind() -> None:
    inside, outside = scores(150, 0.4, 0), scores(60, 0.2, 1)
    kinds = ["silence"] * 20 + ["bed"] * 25 + ["tree"] * 15
    found = open_set(inside, outside, kinds)
    assert [(each.rule, each.outsiders) for each in found] == [
        (rule, kind) for rule in ("best score", "margin") for kind in ("other words", "silence", "both")
    ]
    groups = {"other words": slice(20, 60), "silence": slice(0, 20), "both": slice(0, 60)}
    for each in found:
        measure = best if each.rule == "best score" else margin
        own, others = measure(inside), measure(outside)[groups[each.outsiders]]
        truth = np.r_[np.ones(len(own)), np.zeros(len(others))]
        assert each.auroc.estimate == pytest.approx(roc_auc_score(truth, np.r_[own, others]))
        assert each.auroc.low <= each.auroc.estimate <= each.auroc.high
        assert (each.detection.positives, each.detection.negatives) == (150, len(others))
    np.testing.assert_allclose(margin(inside), np.diff(np.sort(inside.values.double().numpy(), axis=1))[:, -1])


def test_how_many_recordings_the_noise_is_from_is_told() -> None:
    who = ([f"s{i}" for i in range(150)], [f"hum{i % 6}" for i in range(20)] + [f"s{i % 10}" for i in range(40)])
    found = open_set(scores(150, 0.4, 0), scores(60, 0.2, 1), ["silence"] * 20 + ["bed"] * 40, who)
    assert [each.outside_speakers for each in found[:3]] == [10, 6, 16]
    assert "20 out of 6 recordings" in str(found[1]) and "40 out of 10 speakers" in str(found[0])
    told = json.loads(json.dumps([each.as_dict() for each in found]))
    report = Report(rows(), WORDS, from_dict({"open_set": told}))
    assert "20 of 6 recordings" in report.html() and "20 of 6 recordings" in report.markdown()


def test_the_areas_spread_is_that_of_drawing_clips_one_by_one() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(600) < 360
    values = np.round(rng.normal(truth * 0.8, 1), 1)  # with ties
    slow = []
    for _ in range(400):
        drawn = rng.integers(600, size=600)
        slow.append(roc_auc_score(truth[drawn], values[drawn]))
    interval = auroc_interval(values, truth)
    assert interval.estimate == pytest.approx(roc_auc_score(truth, values)) and interval.method == "wilson-by-clip"
    assert (interval.high - interval.low) / 2 == pytest.approx(1.97 * np.std(slow), rel=0.12)
    alike = auroc_interval(np.repeat(values, 5), np.repeat(truth, 5), np.repeat(np.arange(600), 5).tolist())
    assert alike.method == "wilson-by-speaker"  # five equal clips of each speaker are worth one
    assert alike.high - alike.low == pytest.approx(interval.high - interval.low, rel=0.12)


def test_rejection_does_what_its_thresholds_say() -> None:
    given = Scores(torch.tensor([[0.9, 0.1], [0.3, 0.35], [0.1, 0.05], [0.6, 0.1]]), ("yes", "no"))
    # The third clip fits both fillers alike: no word. The second fits one better than any keyword.
    others = torch.tensor([[0.2, 0.5], [0.8, 0.1], [0.55, 0.5], [0.1, 0.55]])
    rejected = Rejection(silence=0.1, unknown=0.1)(given, others, ("silence", "yes", "unknown", "no"))
    assert [rejected.labels[i] for i in rejected.values.argmax(1)] == ["yes", "unknown", "silence", "unknown"]


def test_thresholds_are_the_best_on_the_clips_that_choose() -> None:
    known, other, quiet = scores(90, 0.6, 0), scores(40, 0.3, 1), scores(30, 0.0, 2)
    together = Scores(torch.cat([known.values, other.values, quiet.values]), LABELS)
    noise = torch.randn(160, 8, generator=torch.Generator().manual_seed(3))
    spread = torch.cat([torch.full((90, 1), 0.1), torch.full((40, 1), 0.25), torch.full((30, 1), 0.01)])
    filled = 0.2 + spread * noise
    spoken = [LABELS[i % 3] for i in range(90)] + ["unknown"] * 40 + ["silence"] * 30
    used = (ClipIdentity("a", "someone"),)
    found = fit_rejection(together, filled, spoken, used)
    every = (*LABELS, "silence", "unknown")

    def macro(rejection: Rejection) -> float:
        answers = rejection(together, filled, every).values.argmax(1)
        return float(balanced_accuracy_score(spoken, [every[i] for i in answers]))

    assert macro(found) > 0.85
    for silence in np.linspace(0, 0.4, 13):
        for unknown in np.linspace(-0.5, 0.5, 11):
            assert macro(found) >= macro(Rejection(silence, unknown)) - 0.02
    assert found(together, filled, every).protocol.support == used  # for the guard


def test_a_keyword_that_is_a_filler_is_not_held_against_itself() -> None:
    encoder = kws.load_encoder("phonebind", device="cpu")
    scorer = kws.ZeroShotClassifier(encoder, ["lamp", "window", "yes"])
    lamp = encoder.encode_text(["lamp"])
    own = filler_scores(lamp, filler_vectors(encoder, scorer))
    rejected = Rejection(0.0, 0.3)(scorer(lamp), own, ("lamp", "window", "yes", "silence", "unknown"))
    assert rejected.labels[int(rejected.values.argmax())] == "lamp"


def test_fillers_are_no_words_of_speech_commands_nor_sound_like_one() -> None:
    assert not set(FILLERS) & set(SPEECH_COMMANDS_WORDS) and len(set(FILLERS)) == len(FILLERS)
    said = {way for word in SPEECH_COMMANDS_WORDS for way in lookup(word)}
    for filler in FILLERS:
        assert lookup(filler) and not said & set(lookup(filler)), filler


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(MetricError, match="expected the same keywords, and a kind for each outsider"):
        open_set(scores(9, 0.4, 0), scores(6, 0.1, 1), ["bed"])


def test_the_report_draws_both_curves_from_the_results() -> None:
    outcomes = open_set(scores(150, 0.4, 0), scores(60, 0.2, 1), ["silence"] * 20 + ["bed"] * 40)
    told = json.loads(json.dumps([each.as_dict() for each in outcomes], allow_nan=False))
    report = Report(rows(), WORDS, from_dict({"open_set": told}))
    page = report.html()
    assert page.count("detection error trade-off") == 1 + 3 and page.count('aria-label="ROC curve') == 3
    assert f"{outcomes[0].auroc.estimate:.3f}" in page and "AUROC" in report.markdown()

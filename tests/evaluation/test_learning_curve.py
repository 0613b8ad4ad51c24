"""Learning curves: what is learnt and what is reported stay apart, and the numbers are those of the read-outs."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kws_imagebind.datasets import load_dataset
from kws_imagebind.embeddings.embed import Embeddings, embed
from kws_imagebind.evaluation.evaluate import evaluate
from kws_imagebind.evaluation.learning_curve import CSV_COLUMNS, curves_csv, learning_curve
from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.readouts.registry import fit_readout
from kws_imagebind.readouts.support import FewShotError, Pool, sampling
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.reporting.figures.learning_curve import Panel, learning_curve_figure
from tests.conftest import ToneEncoder

ALL = ("class-mean", "logistic", "text-held", "linear-head")


def noisy(audio: Embeddings, prefix: str, seed: int) -> Embeddings:
    """Embeddings with so much noise that learning pays, said by other people."""
    noise = torch.randn(audio.features.shape, generator=torch.Generator().manual_seed(seed))
    utterances = tuple(replace(u, speaker=f"{prefix}{i % 4}") for i, u in enumerate(audio.utterances))
    features = torch.nn.functional.normalize(audio.features + 0.12 * noise, dim=1)
    return replace(
        audio, features=features, utterances=utterances, dataset=replace(audio.dataset, utterances=utterances),
        contents=(),
    )  # fmt: skip


@pytest.fixture
def both(tone_encoder: ToneEncoder, tones: Path) -> tuple[Embeddings, Embeddings]:
    audio = embed(tone_encoder, load_dataset("folder", root=tones))
    return noisy(audio, "learnt", 1), noisy(audio, "tested", 2)


@pytest.fixture
def text(tone_encoder: ToneEncoder, both: tuple[Embeddings, Embeddings]) -> ZeroShotClassifier:
    return ZeroShotClassifier(tone_encoder, both[1].dataset.keywords)


def test_points_are_the_accuracies_of_the_readouts(
    both: tuple[Embeddings, Embeddings], text: ZeroShotClassifier
) -> None:
    support, reported = both
    curve = learning_curve([support], reported, ALL, sampling("speakers"), (1, 4), 3, text)
    pool = Pool.of([support], reported.dataset.labels)
    assert [(point.readout, point.shots) for point in curve.points] == [(name, k) for name in ALL for k in (1, 4)]
    for point in curve.points:
        for draw in range(3):
            drawn = pool.draw(sampling("speakers"), point.shots or 0, draw, 3)
            scores = fit_readout(point.readout, drawn, text)(reported)
            right = (scores.values.argmax(1) == reported.targets).double().mean()
            assert float(right) == pytest.approx(point.draws[draw])
        assert point.accuracy.estimate == pytest.approx(np.mean(point.draws)) and point.accuracy.n == 24
        assert point.accuracy.method == "draws-and-speakers" and point.support == 3 * (point.shots or 0)
    assert curve.zero_shot is not None
    assert curve.zero_shot.estimate == evaluate(text(reported), reported).accuracy.estimate
    assert (curve.n, curve.speakers, curve.pool, curve.pool_speakers, curve.chance) == (24, 4, 24, 4, 1 / 3)


def test_a_probe_learns_from_all_clips(both: tuple[Embeddings, Embeddings], text: ZeroShotClassifier) -> None:
    curve = learning_curve([both[0]], both[1], ("logistic",), None, text=text)
    (point,) = curve.points
    assert (curve.protocol, point.shots, point.support, len(point.draws)) == ("probe", None, 24, 1)
    assert curve.speakers_apart and not curve.notes
    scores = fit_readout("logistic", Pool.of([both[0]], both[1].dataset.labels).everything())(both[1])
    assert point.accuracy.estimate == pytest.approx(evaluate(scores, both[1]).accuracy.estimate)
    assert scores.protocol.kind == "probe"


def test_clips_that_are_reported_are_never_learnt_from(both: tuple[Embeddings, Embeddings]) -> None:
    support, reported = both
    for protocol in (sampling("mteb"), sampling("speakers"), None):
        with pytest.raises(MetricError, match="24 of the 24 reported clips also chose"):
            learning_curve([reported], reported, ("class-mean",), protocol, (1,))
    scores = fit_readout("class-mean", Pool.of([support], reported.dataset.labels).everything())(support)
    with pytest.raises(MetricError, match="24 of the 24 reported clips also chose"):
        evaluate(scores, support)


def test_speakers_who_are_reported_are_left_out(both: tuple[Embeddings, Embeddings]) -> None:
    support, reported = both
    mixed = tuple(replace(u, speaker="tested0") if u.speaker == "learnt0" else u for u in support.utterances)
    shared = replace(support, utterances=mixed, dataset=replace(support.dataset, utterances=mixed))
    curve = learning_curve([shared], reported, ("class-mean",), sampling("speakers"), (1,))
    assert curve.pool == 18 and "6 clips to learn from are of speakers reported, and were left out" in str(curve)
    loose = learning_curve([shared], reported, ("class-mean",), sampling("mteb"), (1,))
    assert loose.pool == 24 and any("speakers whose other clips chose the read-outs" in note for note in loose.notes)
    nameless = tuple(replace(u, speaker=None) for u in reported.utterances)
    unknown = replace(reported, utterances=nameless)
    with pytest.raises(FewShotError, match="the speakers of some reported clips are unknown"):
        learning_curve([support], unknown, ("class-mean",), sampling("speakers"), (1,))
    notes = learning_curve([support], unknown, ("class-mean",), sampling("imagebind"), (1,)).notes
    assert [note[:12] for note in notes] == ["speakers are", "one draw: th", "speakers are"]


def test_encoders_must_be_the_same_and_words_must_have_clips(
    both: tuple[Embeddings, Embeddings], text: ZeroShotClassifier
) -> None:
    support, reported = both
    with pytest.raises(FewShotError, match="encoded by other, the reported ones by tone-1"):
        learning_curve([replace(support, fingerprint="other")], reported, ("class-mean",))
    without = tuple(u for u in support.utterances if u.label != "440")
    rows = [i for i, u in enumerate(support.utterances) if u.label != "440"]
    part = replace(support, utterances=without, features=support.features[rows])
    with pytest.raises(FewShotError, match="there are no clips of 440 for 'class-mean'"):
        learning_curve([part], reported, ("class-mean",), sampling("speakers"), (1,))
    curve = learning_curve([part], reported, ("text-held",), sampling("speakers"), (1,), 2, text)
    assert curve.points[0].support == 2


def test_csv_and_json_hold_what_the_table_says(both: tuple[Embeddings, Embeddings], text: ZeroShotClassifier) -> None:
    curve = learning_curve([both[0]], both[1], ("class-mean", "text-held"), sampling("speakers"), (1, 2), 2, text)
    rows = list(csv.DictReader(io.StringIO(curves_csv([curve, curve]))))
    assert len(rows) == 10 and tuple(rows[0]) == CSV_COLUMNS
    assert [row["shots"] for row in rows[:5]] == ["0", "1", "2", "1", "2"]
    point = curve.points[1]
    assert float(rows[2]["accuracy"]) == pytest.approx(point.accuracy.estimate, abs=1e-6)
    assert [float(each) for each in rows[2]["accuracy_of_each_draw"].split()] == pytest.approx(point.draws, abs=1e-6)
    assert curve.as_dict()["points"][1]["accuracy"]["estimate"] == point.accuracy.estimate
    assert f"{100 * point.accuracy.estimate:.1f} %" in str(curve) and "chance" in str(curve)


def test_the_figure_has_a_panel_for_each_encoder(
    both: tuple[Embeddings, Embeddings], text: ZeroShotClassifier, tmp_path: Path
) -> None:
    curve = learning_curve([both[0]], both[1], ("class-mean", "text-held"), sampling("speakers"), (1, 2), 2, text)
    lines = {
        name: [(point.shots, point.accuracy) for point in curve.points if point.readout == name]
        for name in ("class-mean", "text-held")
    }
    panels = [Panel("one", lines, curve.zero_shot, 1 / 3), Panel("two", {"class-mean": lines["class-mean"]}, None, 0.5)]
    figure = learning_curve_figure(panels, "title", "caption")
    first, second = figure.axes
    assert [text.get_text() for text in first.get_xticklabels()] == ["1", "2"]
    drawn = {line.get_label() for line in first.get_lines()}
    assert "zero-shot" in drawn and "zero-shot" not in {line.get_label() for line in second.get_lines()}
    heights = np.asarray(first.containers[0].lines[0].get_ydata(), dtype=float)
    np.testing.assert_allclose(heights, [interval.estimate for _, interval in lines["class-mean"]])
    assert first.get_ylim() == second.get_ylim()
    figure.savefig(tmp_path / "figure.png", bbox_inches="tight")
    with pytest.raises(ValueError, match="without a line"):
        learning_curve_figure([], "title", "caption")

"""An evaluation from scores to files, against scikit-learn and statsmodels."""

from __future__ import annotations

import csv
import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, top_k_accuracy_score
from statsmodels.stats.proportion import proportion_confint

from kws_imagebind.datasets import Dataset, Utterance
from kws_imagebind.embedding import Embeddings, Skipped
from kws_imagebind.evaluation import Evaluation, evaluate
from kws_imagebind.metrics import MetricError
from kws_imagebind.statistics import cluster_bootstrap
from kws_imagebind.zero_shot import Scores

WORDS = ("yes", "no", "up", "down", "left", "right", "lamp")


def example(n: int = 200, seed: int = 0, skipped: int = 0, speakers: int = 9) -> tuple[Scores, Embeddings]:
    """Scores that are right about half of the time; 'lamp' has no clips. Without speakers nobody says who spoke."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, len(WORDS) - 1, n)
    values = rng.normal(size=(n, len(WORDS)))
    values[np.arange(n), targets] += 1.2
    utterances = tuple(
        Utterance(
            Path(f"{WORDS[target]}/{i}.wav"),
            WORDS[target],
            f"speaker{i % speakers}" if speakers else None,
            f"{WORDS[target]}/{i}.wav",
        )
        for i, target in enumerate(targets)
    )
    dataset = Dataset("folder", utterances, WORDS, "custom")
    audio = Embeddings(
        torch.ones(n, 1),
        torch.from_numpy(targets),
        utterances,
        dataset,
        "tone",
        "tone-1",
        tuple(Skipped(f"bad{i}.wav", "empty") for i in range(skipped)),
        cached=50,
        seconds=3.0,
    )
    return Scores(torch.from_numpy(values).float(), WORDS, ("{}",)), audio


@pytest.mark.parametrize("seed", range(5))
def test_metrics_and_intervals_are_scikit_learns_and_statsmodels(seed: int) -> None:
    scores, audio = example(seed=seed, speakers=0)
    result = evaluate(scores, audio)
    truth, guess = audio.targets.numpy(), scores.values.argmax(1).numpy()
    hits = int((truth == guess).sum())
    low, high = proportion_confint(hits, len(truth), method="wilson")
    assert result.accuracy.estimate == pytest.approx(accuracy_score(truth, guess))
    assert (result.accuracy.low, result.accuracy.high) == pytest.approx((low, high))
    present = sorted(set(truth))
    macro = recall_score(truth, guess, labels=present, average="macro")
    assert result.macro_accuracy.estimate == pytest.approx(macro)
    expected = top_k_accuracy_score(truth, scores.values.numpy(), k=5, labels=range(len(WORDS)))
    assert result.top5_accuracy.estimate == pytest.approx(expected)
    theirs = confusion_matrix(truth, guess, labels=range(len(WORDS)))
    np.testing.assert_array_equal(result.metrics.confusion.numpy(), theirs)
    for index, word in enumerate(WORDS[:-1]):
        row = theirs[index]
        assert result.per_class[word].estimate == pytest.approx(row[index] / row.sum())
    assert result.per_class["lamp"].n == 0 and result.chance == pytest.approx(1 / 7)


def test_predictions_rebuild_the_accuracy_without_a_model(tmp_path: Path) -> None:
    scores, audio = example()
    result = evaluate(scores, audio)
    result.save(tmp_path / "deep" / "report")
    with (tmp_path / "deep" / "report" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "prediction", "score", "margin", "speaker"]
    assert len(rows) == 200
    right = [row["label"] == row["prediction"] for row in rows]
    assert sum(right) / len(right) == result.accuracy.estimate
    best, second = scores.values.topk(2).values[0].tolist()
    assert float(rows[0]["score"]) == pytest.approx(best, abs=1e-6)
    assert float(rows[0]["margin"]) == pytest.approx(best - second, abs=2e-6)


def test_results_hold_the_contract(tmp_path: Path) -> None:
    scores, audio = example(skipped=2)
    written = evaluate(scores, audio, seed=3).save(tmp_path)
    assert {path.name for path in written} == {
        "results.json",
        "predictions.csv",
        "confusion_matrix.png",
        "per_class.png",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)
    results = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    for field in ("task", "encoder", "n", "chance", "templates", "metrics", "per_class", "seconds", "clips_per_second"):
        assert field in results, field
    for metric in ("accuracy", "macro_accuracy", "top5_accuracy"):
        assert {"estimate", "low", "high"} <= set(results["metrics"][metric])
    assert results["n"] == 200 and results["seed"] == 3 and results["fingerprints"] == {"tone": "tone-1"}
    assert results["clips_per_second"] == 50.0  # 150 clips were encoded in 3 s, 50 came from the cache
    assert len(results["skipped"]) == 2 and results["per_class"]["lamp"]["estimate"] is None
    assert results["versions"]["torch"] == importlib.metadata.version("torch")


def test_intervals_draw_speakers_where_they_are_known_and_say_so_where_not() -> None:
    known, unknown, single = (evaluate(*example(speakers=speakers)) for speakers in (9, 0, 1))
    assert (
        "bootstrap over 9 speakers" in str(known)
        and known.as_dict()["metrics"]["accuracy"]["method"] == known.accuracy.method
    )
    expected = cluster_bootstrap(
        [line.label == line.prediction for line in known.predictions], [line.speaker for line in known.predictions]
    )
    assert (known.accuracy.low, known.accuracy.high) == pytest.approx((expected.low, expected.high), abs=1e-3)
    assert {i.method for i in (known.top5_accuracy, known.macro_accuracy, known.per_class["yes"])} == {
        "speaker-bootstrap"
    }
    assert "Wilson; clips taken as independent, for speakers are unknown" in str(unknown)
    assert "for one speaker said all clips" in str(single) and single.accuracy == unknown.accuracy


def test_the_table_says_what_makes_a_number_believable() -> None:
    scores, audio = example(skipped=1)
    table = str(evaluate(scores, audio))
    for part in ("n = 200", "[", "chance", "14.3 %", "7 keywords", "tone-1", "9 speakers", "skipped", "'{}'"):
        assert part in table, part


def test_without_clips_cached_or_matplotlib_the_numbers_are_still_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    real_import = builtins.__import__

    def without_matplotlib(name: str, *rest: object, **others: object) -> object:
        if name.startswith(("matplotlib", "kws_imagebind.plots")):
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real_import(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    written = evaluate(*example()).save(tmp_path)
    assert [path.name for path in written] == ["results.json", "predictions.csv"]


def test_confusions_come_from_the_most_frequent() -> None:
    result = evaluate(*example())
    counts = [clips for _, _, clips in result.confusions(40)]
    assert counts == sorted(counts, reverse=True) and all(spoken != heard for spoken, heard, _ in result.confusions(40))
    assert sum(counts) == 200 - round(200 * result.accuracy.estimate)


def test_scores_of_other_keywords_or_other_clips_are_refused() -> None:
    scores, audio = example()
    with pytest.raises(MetricError, match="the data set's own"):
        evaluate(Scores(scores.values, WORDS[::-1], ("{}",)), audio)
    with pytest.raises(MetricError, match="targets for the scores of 199 clips"):
        evaluate(Scores(scores.values[:199], WORDS, ("{}",)), audio)


def test_an_evaluation_is_what_its_parts_say() -> None:
    scores, audio = example(n=1)
    result = evaluate(scores, audio)
    assert isinstance(result, Evaluation) and result.n == 1 and len(result.predictions) == 1

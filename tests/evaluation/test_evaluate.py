"""An evaluation from scores to files, against scikit-learn and statsmodels."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, recall_score, top_k_accuracy_score
from statsmodels.stats.proportion import proportion_confint

from kws_imagebind.datasets import Dataset, Utterance
from kws_imagebind.datasets.base import ClipIdentity
from kws_imagebind.embeddings.embed import Embeddings, Skipped
from kws_imagebind.evaluation.evaluate import Evaluation, evaluate, fit_temperature_on
from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.metrics.intervals import proportion_by_speaker
from kws_imagebind.readouts.base import ScoreProtocol, Scores
from kws_imagebind.reporting.comparison import compare
from kws_imagebind.reporting.predictions import read_predictions
from kws_imagebind.reporting.report import load_report

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
        torch.nn.functional.normalize(torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)), dim=1),
        torch.from_numpy(targets),
        utterances,
        dataset,
        "tone",
        "tone-1",
        tuple(Skipped(f"bad{i}.wav", "empty") for i in range(skipped)),
        cached=50,
        encoded=150,
        seconds=3.0,
    )
    return Scores(torch.from_numpy(values).float(), WORDS), audio


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
        "report.html",
        "report.md",
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
    assert results["predictions_sha256"] == hashlib.sha256((tmp_path / "predictions.csv").read_bytes()).hexdigest()
    assert load_report(tmp_path).as_results().as_dict() == results
    assert len(results["skipped"]) == 2 and results["per_class"]["lamp"]["estimate"] is None
    assert results["versions"]["torch"] == importlib.metadata.version("torch")


def test_intervals_draw_speakers_where_they_are_known_and_say_so_where_not() -> None:
    known, unknown, single = (evaluate(*example(speakers=speakers)) for speakers in (9, 0, 1))
    assert (
        "by speaker (9 speakers)" in str(known)
        and known.as_dict()["metrics"]["accuracy"]["method"] == known.accuracy.method
    )
    expected = proportion_by_speaker(
        [line.label == line.prediction for line in known.predictions], [line.speaker for line in known.predictions]
    )
    assert (known.accuracy.low, known.accuracy.high) == pytest.approx((expected.low, expected.high), abs=1e-3)
    assert {i.method for i in (known.top5_accuracy, known.macro_accuracy, known.per_class["yes"])} == {
        "wilson-by-speaker"
    }
    assert "Wilson; clips are treated as independent because speakers are unknown" in str(unknown)
    assert "because one speaker said all clips" in str(single) and single.accuracy == unknown.accuracy


def test_the_table_says_what_makes_a_number_believable() -> None:
    scores, audio = example(skipped=1)
    scores = replace(scores, protocol=ScoreProtocol(templates=("{}",)))
    table = str(evaluate(scores, audio))
    for part in ("n = 200", "[", "chance", "14.3 %", "7 keywords", "tone-1", "9 speakers", "skipped", "'{}'"):
        assert part in table, part


def test_without_clips_cached_or_matplotlib_the_numbers_are_still_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    real_import = builtins.__import__

    def without_matplotlib(name: str, *rest: object, **others: object) -> object:
        if name.startswith(("matplotlib", "kws_imagebind.reporting.figures")):
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real_import(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    written = evaluate(*example()).save(tmp_path)
    assert [path.name for path in written] == ["results.json", "predictions.csv", "report.html", "report.md"]


def test_confusions_come_from_the_most_frequent() -> None:
    result = evaluate(*example())
    counts = [clips for _, _, clips in result.confusions(40)]
    assert counts == sorted(counts, reverse=True) and all(spoken != heard for spoken, heard, _ in result.confusions(40))
    assert sum(counts) == 200 - round(200 * result.accuracy.estimate)


def test_the_same_clips_may_be_scored_against_any_words_that_hold_theirs() -> None:
    scores, audio = example()
    backwards = evaluate(Scores(scores.values.flip(1), WORDS[::-1]), audio)
    assert backwards.accuracy == evaluate(scores, audio).accuracy and backwards.task == "custom"
    more = torch.cat([scores.values, torch.full((200, 1), -9.0)], 1)
    wider = evaluate(Scores(more, (*WORDS, "kettle")), audio)
    assert wider.accuracy == evaluate(scores, audio).accuracy and wider.chance == pytest.approx(1 / 8)


def test_scores_without_the_clips_words_or_of_other_clips_are_refused() -> None:
    scores, audio = example()
    with pytest.raises(MetricError, match="the clips say up, which is not among the candidates"):
        evaluate(Scores(scores.values[:, [0, 1, 3, 4, 5, 6]], (*WORDS[:2], *WORDS[3:])), audio)
    with pytest.raises(MetricError, match="targets for the scores of 199 clips"):
        evaluate(Scores(scores.values[:199], WORDS), audio)


def test_an_evaluation_is_what_its_parts_say() -> None:
    scores, audio = example(n=1)
    result = evaluate(scores, audio)
    assert isinstance(result, Evaluation) and result.n == 1 and len(result.predictions) == 1


# What is refused or said


def renamed(audio: Embeddings, names: list[str], **changes: str) -> Embeddings:
    """The same clips under other names in a data set of other traits."""
    utterances = tuple(
        replace(utterance, key=f"{utterance.label}/{name}")
        for utterance, name in zip(audio.utterances, names, strict=True)
    )
    dataset = replace(audio.dataset, utterances=utterances, **changes)
    return replace(audio, utterances=utterances, dataset=dataset)


TESTING, TRAINING = "0cb74144_nohash_{}.wav", "0a7c2a8d_nohash_{}.wav"


def test_training_clips_in_a_testing_split_are_refused() -> None:
    scores, audio = example(n=40)
    names = [TESTING.format(i) for i in range(40)]
    clean = evaluate(scores, renamed(audio, names, name="speech-commands", split="testing"))
    assert not any("split" in warning for warning in clean.warnings)
    names[7] = TRAINING.format(7)
    with pytest.raises(MetricError, match=r"1 of 40 clips of the testing split belong to another.*0a7c2a8d_nohash_7"):
        evaluate(scores, renamed(audio, names, name="speech-commands", split="testing"))
    own = evaluate(scores, renamed(audio, names))  # a folder may hold what it likes, but the reader is told
    assert any("1 of 40 clips have names of Speech Commands' training" in warning for warning in own.warnings)
    assert not any(
        "have names" in warning for warning in evaluate(scores, renamed(audio, names, name="sample")).warnings
    )


def test_other_splits_copies_and_words_without_clips_are_said() -> None:
    scores, audio = example(n=40)
    features = audio.features.clone()
    same = next(i for i in range(1, 40) if audio.targets[i] == audio.targets[0])
    other = next(i for i in range(1, 40) if audio.targets[i] != audio.targets[0])
    features[same] = features[other] = features[0]
    names = [TESTING.format(i) for i in range(40)]
    audio = replace(renamed(audio, names, name="speech-commands", split="validation"), features=features)
    result = evaluate(scores, audio)
    for part in (
        "clips of the validation split: choose with them",
        "2 of 40 clips sound exactly like another, 1 of them under another label",
        "1 of 7 keywords have no clips and are candidates only: lamp",
    ):
        assert any(part in warning for warning in result.warnings), part
        assert part in str(result)
    assert result.as_dict()["warnings"] == list(result.warnings)


def test_embeddings_that_are_not_of_unit_norm_are_refused() -> None:
    scores, audio = example(n=30)
    features = audio.features.clone()
    features[3] *= 20  # as the reference ImageBind scales its audio
    with pytest.raises(MetricError, match=r"embedding of '.*/3.wav' has length 20; expected 1"):
        evaluate(scores, replace(audio, features=features))
    features[3] = float("nan")
    with pytest.raises(MetricError, match="has length nan"):
        evaluate(scores, replace(audio, features=features))


def test_a_temperature_is_never_fitted_on_reported_clips(tmp_path: Path) -> None:
    scores, audio = example(n=300, seed=1)
    validation = replace(audio, dataset=replace(audio.dataset, name="speech-commands", split="validation"))
    temperature = fit_temperature_on(scores, validation)
    result = evaluate(*example(n=300, seed=2), temperature=temperature)
    assert result.calibration and result.calibration.ece < 0.1 and f"temperature {temperature.value:.3g}" in str(result)
    result.save(tmp_path)
    rows = list(csv.DictReader((tmp_path / "predictions.csv").read_text().splitlines()))
    sure = [float(row["confidence"]) for row in rows]
    right = [row["label"] == row["prediction"] for row in rows]
    assert np.mean(sure) == pytest.approx(np.mean(right), abs=0.06)
    assert json.loads((tmp_path / "results.json").read_text())["calibration"]["temperature"] == temperature.value
    with pytest.raises(MetricError, match="300 of the 300 reported clips also chose the temperature"):
        evaluate(scores, audio, temperature=temperature)
    with pytest.raises(MetricError, match="fitted on clips that choose, such as the validation split"):
        fit_temperature_on(scores, replace(audio, dataset=replace(audio.dataset, split="testing")))
    by_hand = evaluate(*example(n=300, seed=2), temperature=0.1)
    assert any("nothing says which clips chose it" in warning for warning in by_hand.warnings)


def test_clips_that_trained_a_readout_are_refused_by_content_and_by_speaker() -> None:
    scores, audio = example()
    used = (audio.identities[3],)
    with pytest.raises(MetricError, match="1 of the 200 reported clips also chose what the scores rest on"):
        evaluate(replace(scores, protocol=ScoreProtocol("few-shot", support=used)), audio)
    same_voice = (ClipIdentity("another clip", audio.utterances[0].speaker),)
    warned = evaluate(replace(scores, protocol=ScoreProtocol("few-shot", support=same_voice)), audio)
    assert any("by 1 speaker" in warning for warning in warned.warnings)
    apart = ScoreProtocol("few-shot", support=same_voice, speakers_apart=True)
    with pytest.raises(MetricError, match="keeps speakers apart"):
        evaluate(replace(scores, protocol=apart), audio)


def test_upper_and_lower_case_are_one_label_everywhere(tmp_path: Path) -> None:
    scores, audio = example()
    small = tuple(replace(each, label=each.label.lower()) for each in audio.utterances)
    large = tuple(word.capitalize() for word in WORDS)
    capital = evaluate(replace(scores, labels=large), replace(audio, utterances=small))
    assert capital.accuracy == evaluate(scores, audio).accuracy
    capital.save(tmp_path / "one")
    report = load_report(tmp_path / "one")
    assert report.accuracy.estimate == pytest.approx(capital.accuracy.estimate)
    evaluate(scores, audio).save(tmp_path / "two")
    runs = {name: read_predictions(tmp_path / name / "predictions.csv") for name in ("one", "two")}
    found = compare(runs, {"one": large, "two": WORDS})
    assert found.pairs[0].paired.difference == 0 and not found.warnings


def test_the_protocol_and_the_habits_are_told() -> None:
    scores, audio = example()
    result = evaluate(scores, replace(audio, precision="bf16", padding="none"))
    found, table = result.as_dict(), str(result)
    assert found["precision"] == "bf16" and found["padding"] == "none" and found["calibration"] is None
    truth, guess = audio.targets.numpy(), scores.values.argmax(1).numpy()
    assert found["kappa"] == pytest.approx(cohen_kappa_score(truth, guess))
    assert found["expected_accuracy"] == pytest.approx(np.mean(truth[:, None] == guess[None]))
    for part in ("Cohen's kappa", "effective number of classes", "a cosine is not a probability", "bf16"):
        assert part in table, part

"""`train` on the bundled sample, offline, and what other commands make of its folder."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from kws_imagebind.cli import main
from kws_imagebind.datasets.sample import sample_folder

pytest.importorskip("lightning", reason="training needs the extra 'supervised'")

VOICES = ["--task", "mini", "--share", "0.12"]  # seven of the nine voices train, one validates, one tests


def train(network: str, output: Path, *options: str) -> int:
    return main(["train", network, "--output", str(output), "--cache", str(output.parent / "cache"), "--quiet",
                 *VOICES, *options])  # fmt: skip


@pytest.fixture(scope="module")
def residual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "residual"
    assert train("residual", output) == 0
    return output


def results(report: Path) -> dict:
    return json.loads((report / "results.json").read_text())


def check_above_chance(report: Path) -> None:
    found = results(report)
    assert found["n"] == 8 and found["chance"] == 0.125
    assert found["metrics"]["accuracy"]["estimate"] >= 5 / 8  # guesses get so many once in two thousand times
    assert found["protocol"]["kind"] == "supervised" and found["protocol"]["zero_shot"] is False


def test_the_residual_network_learns_the_samples_voices_and_knows_another(residual: Path) -> None:
    check_above_chance(residual / "report")
    assert "supervised: learnt from these words, 64 clips" in (residual / "report" / "report.html").read_text()


def test_bc_resnet_learns_the_samples_voices_and_knows_another(tmp_path: Path) -> None:
    assert train("bc-resnet:1", tmp_path / "run", "--epochs", "45") == 0
    check_above_chance(tmp_path / "run" / "report")


def test_a_run_leaves_what_was_promised(residual: Path) -> None:
    found = {path.name for path in residual.iterdir()}
    assert found >= {"run.json", "network.safetensors", "clips.csv", "history.csv", "card.md", "report", "logs"}
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    pytest.importorskip("sklearn", reason="the map of the heads needs scikit-learn")
    assert found >= {"history.png", "validation.png", "heads.png"}
    cost = json.loads((residual / "run.json").read_text())["details"]["complexity"]
    assert cost["parameters"] == cost["trainable"] == 231_512 and cost["fixed"] == 0
    assert 50e6 < cost["macs"] < 90e6 and cost["seconds_an_epoch"] > 0
    assert "231,512" in (residual / "card.md").read_text()


def test_evaluate_takes_the_folder_and_leaves_out_what_trained(
    residual: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = ["evaluate", "--encoder", str(residual), "--task", "mini", "--no-cache", "--quiet"]
    assert main(evaluate) == 2
    assert "of the 72 reported clips also chose what the scores rest on" in capsys.readouterr().err
    assert main([*evaluate, "--unseen", "--output", str(tmp_path / "report")]) == 0
    assert results(tmp_path / "report")["metrics"]["accuracy"] == results(residual / "report")["metrics"]["accuracy"]
    assert main(["evaluate", "--unseen", "--no-cache", "--quiet"]) == 2
    assert (
        "--unseen leaves out what a network of 'train' learnt from, and 'phonebind' is none" in capsys.readouterr().err
    )
    assert main([*evaluate[:4], "v2-35", *evaluate[5:]]) == 2
    assert "and not backward, bed, bird" in capsys.readouterr().err


def test_compare_says_which_run_is_which(residual: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zero_shot = tmp_path / "zero"
    assert main(["evaluate", "--task", "mini", "--quiet", "--no-cache", "--output", str(zero_shot)]) == 0
    capsys.readouterr()
    assert main(["compare", str(residual / "report"), str(zero_shot)]) == 0
    said = capsys.readouterr().out
    assert "supervised: learnt from these words, 64 clips" in said and "zero-shot: the words are given as text" in said
    assert "these runs are of different kinds" in said
    assert main(["compare", "--json", str(residual / "report"), str(zero_shot)]) == 0
    kinds = json.loads(capsys.readouterr().out)["kinds"]
    assert [each.split(":")[0] for each in kinds.values()] == ["supervised", "zero-shot"]


def test_submit_labels_a_folder_with_its_words(residual: Path, tmp_path: Path) -> None:
    output = tmp_path / "submission.csv"
    assert main(["submit", str(sample_folder() / "go"), "--encoder", str(residual), "--output", str(output),
                 "--no-cache", "--quiet"]) == 0  # fmt: skip
    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert len(rows) == 9 and {row["label"] for row in rows} <= set("down go left no right stop up yes".split())


def test_few_shot_learns_words_that_it_never_heard_on_its_vectors(
    residual: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("cat", "dog", "tree"):
        for index, clip in enumerate(sorted((sample_folder() / word).glob("*.wav"))):
            place = tmp_path / ("support" if index < 5 else "reported") / word
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(clip, place)
    data = ["--data", str(tmp_path / "reported"), "--support", str(tmp_path / "support")]
    options = ["--readout", "class-mean", "--shots", "4", "--draws", "2", "--no-cache", "--quiet", "--json"]
    assert main(["few-shot", "--encoder", str(residual), *data, *options]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["zero_shot"] is None and found["points"][0]["accuracy"]["estimate"] > found["chance"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["residul"], "unknown network 'residul' (did you mean residual?)"),
        (["residual", "--rate", "-1"], "a rate above 0"),
        (["residual", "--share", "0.9"], "a share of 0.9 for validation"),
        (["residual", "--keywords", "yes,lamp"], "no training clip says lamp"),
        (["residual", "--keywords", "yes"], "'yes' is the only keyword"),
        (["residual", "--data", "/nowhere"], "'/nowhere' is not a folder"),
        (["residual", "--pretrained"], "'residual' has no pre-trained weights"),
        (["residual", "--device", "nowhere"], "device 'nowhere' is not available here"),
        (["residual", "--devices", "64"], "64 GPUs are asked for"),
        (["probe:nothing"], "unknown encoder 'nothing'"),
    ],
)
def test_bad_input_gets_one_sentence(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *options, "--output", str(tmp_path / "run"), "--cache", str(tmp_path), "--quiet"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1] and len(said) <= 2

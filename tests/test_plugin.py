"""The example plug-in, installed as a user would: what it adds is listed, and every command runs with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PLUGIN = PROJECT / "examples" / "plugin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the plug-in is installed, without a network."""
    pytest.importorskip("hatchling")
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(PLUGIN)], check=True)
    return target


def run(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(PROJECT)]), "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "kws_imagebind", *arguments]
    return subprocess.run(command, cwd=folder, env=here, capture_output=True, text=True, check=False)


def test_the_list_says_where_each_comes_from(site: Path, tmp_path: Path) -> None:
    found = json.loads(run(site, tmp_path, "list", "--json").stdout)
    for kind, name in (("encoders", "pitch"), ("datasets", "notes"), ("tasks", "triad")):
        assert found[kind][name]["source"] == "kws-imagebind-notes 0.1.0"
    assert found["encoders"]["phonebind"]["source"] == "kws-imagebind"
    assert "[kws-imagebind-notes 0.1.0]" in run(site, tmp_path, "list").stdout


def test_it_is_evaluated_compared_and_tested_in_an_open_set(site: Path, tmp_path: Path) -> None:
    data = ("--encoder", "pitch", "--dataset", "notes", "--quiet")
    for name in ("a", "b"):
        done = run(site, tmp_path, "evaluate", *data, "--output", name, "--calibrate")
        assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["n"] == 42 and results["metrics"]["accuracy"]["estimate"] > 0.8
    assert "a less b" in run(site, tmp_path, "compare", "a", "b").stdout
    opened = run(site, tmp_path, "evaluate", *data, "--task", "triad", "--open-set", "--json")
    outcomes = json.loads(opened.stdout)["open_set"]
    assert {outcome["outsiders"] for outcome in outcomes} == {"other words", "silence", "both"}
    assert max(outcome["auroc"]["estimate"] for outcome in outcomes) > 0.9


def test_its_prompts_are_chosen_on_its_own_validation_split(site: Path, tmp_path: Path) -> None:
    done = run(site, tmp_path, "prompts", "--encoder", "pitch", "--dataset", "notes", "--quiet", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["trials"]) > 3
    same = run(site, tmp_path, "prompts", "--encoder", "pitch", "--dataset", "notes", "--split", "validation")
    assert same.returncode == 2 and "validation clips that choose the prompt" in same.stderr


def test_the_demo_answers_with_it(site: Path, tmp_path: Path) -> None:
    code = (
        "import kws_imagebind as kws; from pathlib import Path; from kws_imagebind.demo.answers import Answers\n"
        "answers = Answers(kws.load_encoder('pitch'), kws.load_dataset('notes'), Path('cache'))\n"
        "print(answers.spot(str(answers.dataset.utterances[0].path), 'do, re, mi')[0])\n"
        "print(list(answers.statistics(20, 0))[-1])"
    )
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(PROJECT)]), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=here, capture_output=True, text=True, check=True
    )
    assert "do" in done.stdout and "n = 20" in done.stdout.replace("\n", " ")


def test_a_file_serves_as_well_as_a_package(tmp_path: Path) -> None:
    given = {name: str(PLUGIN / "kws_imagebind_notes" / f"{name}.py") for name in ("pitch", "notes")}
    done = run(PLUGIN, tmp_path, "evaluate", "--quiet", "--encoder", f"{given['pitch']}:PitchEncoder",
               "--dataset", f"{given['notes']}:Notes", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["encoder"] == "pitch"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py:Encoder", "there is no such file"),
        ("broken.py:Encoder", "cannot be imported: ZeroDivisionError: division by zero, line 2"),
        ("empty.py:Encoder", "has no 'Encoder'; it has none"),
        ("number.py:Encoder", "is int; expected an encoder or what makes one"),
        ("no_such_module:Encoder", "cannot be imported: No module named 'no_such_module'"),
        ("phonebind:tiny", "takes nothing after a colon"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_sentence(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "broken.py").write_text("# a comment\n1 / 0\n")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "number.py").write_text("Encoder = 7\n")
    done = run(tmp_path, tmp_path, "evaluate", "--encoder", name)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr

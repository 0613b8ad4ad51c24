"""The leaderboard: rows measured in processes of their own, held against evaluate and compare."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import kws_imagebind as kws
from kws_imagebind.cli import main
from kws_imagebind.evaluation.leaderboard import Request, leaderboard, peak_memory
from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.metrics.intervals import wilson
from kws_imagebind.metrics.paired import compare_paired, holm
from kws_imagebind.metrics.pairs import pair_metrics
from kws_imagebind.reporting.leaderboard import Leaderboard, LeaderboardError, Row, ranked, read_leaderboard
from kws_imagebind.reporting.report import load_report

USERS = '''
import os, signal
from kws_imagebind.encoders.phonebind import PhoneBindEncoder

class Deaf(PhoneBindEncoder):
    """Hears only the first tenth of a second."""
    name = "deaf"
    def encode_audio(self, waveforms):
        return super().encode_audio([waveform[:1600] for waveform in waveforms])

def deaf(device="auto"):
    made = Deaf.from_weights()
    made.fingerprint = "deaf-1"
    return made

def broken(device="auto"):
    raise RuntimeError("the licence server\\nis asleep")

def killed(device="auto"):
    os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> tuple[Leaderboard, str]:
    path = tmp_path_factory.mktemp("users") / "users.py"
    path.write_text(USERS)
    names = [f"{path}:deaf", f"{path}:broken", "phonebind", f"{path}:killed"]
    return leaderboard(names, Request("sample", keywords="yes,no,seven", device="cpu")), str(path)


def test_rows_equal_evaluate(board: tuple[Leaderboard, str]) -> None:
    found, path = board
    first, second = found.rows
    assert (first.encoder, second.encoder) == ("phonebind", f"{path}:deaf")
    encoder = kws.load_encoder("phonebind", device="cpu")
    dataset = kws.load_dataset("sample", keywords="yes,no,seven")
    audio = kws.embed(encoder, dataset)
    scores = kws.ZeroShotClassifier(encoder, dataset.keywords)(audio)
    result = kws.evaluate(scores, audio)
    assert first.accuracy == result.accuracy and first.macro == result.macro_accuracy
    pairs = pair_metrics(scores.values.numpy(), dataset.targets.numpy(), [u.speaker for u in dataset.utterances])
    assert (first.pair_eer, first.pair_auc) == (pairs.eer, pairs.auc)
    assert first.parameters == 1_434_601 and first.licence == "MIT" and first.saw_words is False
    assert first.hits == {line.path: line.label == line.prediction for line in result.predictions}


def test_the_paired_test_is_that_of_the_two_runs(board: tuple[Leaderboard, str]) -> None:
    first, second = board[0].rows
    keys = list(first.hits)
    expected = compare_paired(
        [first.hits[key] for key in keys], [second.hits[key] for key in keys], [first.speakers[key] for key in keys]
    )
    assert first.paired is None and second.paired == expected and second.p == pytest.approx(expected.p)


def test_one_that_fails_says_why_and_the_rest_go_on(board: tuple[Leaderboard, str]) -> None:
    found, path = board
    assert len(found.rows) == 2
    assert found.failed[f"{path}:broken"] == "RuntimeError: the licence server is asleep"
    assert found.failed[f"{path}:killed"].startswith("its process was ended by signal 9, as when memory runs out")


def test_time_and_memory_are_those_of_each_process(board: tuple[Leaderboard, str]) -> None:
    for row in board[0].rows:
        assert 0 < row.seconds < 10 and 0 < row.cpu_seconds < 10 and row.load_seconds > 0
        assert row.memory and 5e7 < row.memory < 1e10


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux keeps the peak there")
def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_memory()
    held = np.ones(60_000_000 // 8)
    after = peak_memory()
    assert before and after and after >= before and held.nbytes == 60_000_000
    import subprocess

    code = "from kws_imagebind.evaluation.leaderboard import peak_memory as p; import numpy; a = p(); "
    code += "b = numpy.ones(50_000_000); print(p() - a)"
    grown = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 350e6 < grown < 450e6  # 400 MB of ones


def row(encoder: str, hits: list[bool], **changes: object) -> Row:
    n = len(hits)
    share = wilson(sum(hits), n)
    fields: dict[str, object] = {
        "encoder": encoder, "kind": "zero-shot", "saw_words": None, "accuracy": share, "macro": share,
        "pair_eer": share, "pair_auc": share, "auroc": None, "outside": 0, "parameters": None, "bytes": None,
        "licence": "", "trained_on": None, "templates": ("{}",), "precision": "fp32", "fingerprint": "1",
        "seconds": 0.01, "cpu_seconds": 0.01, "load_seconds": 1.0, "memory": None,
        "hits": {f"{i}.wav": hit for i, hit in enumerate(hits)},
        "speakers": {f"{i}.wav": f"s{i % 7}" for i in range(n)},
    }  # fmt: skip
    return Row(**{**fields, **changes})  # type: ignore[arg-type]


def three() -> Leaderboard:
    rng = np.random.default_rng(0)
    rows = [row(name, (rng.random(70) < p).tolist()) for name, p in (("a", 0.3), ("b", 0.9), ("<c>", 0.6))]
    return ranked(rows, {"d": "has no <audio> side"}, "v2-10", "folder", "", 10, 1)


def test_holm_corrects_over_all_tests_against_the_best() -> None:
    found = three()
    assert [each.encoder for each in found.rows] == ["b", "<c>", "a"]
    raw = [each.paired.p for each in found.rows[1:] if each.paired]
    assert [each.p for each in found.rows[1:]] == pytest.approx(holm(raw))


def test_clips_that_one_row_lacks_are_left_out_of_the_tests() -> None:
    short = row("short", [True] * 50)
    found = ranked([row("long", [True, False] * 35), short], {}, "custom", "folder", "", 2, 1)
    assert found.n == 50 and any("20 clips are missing" in each for each in found.warnings)


def test_published_results_stand_apart_and_have_sources() -> None:
    found = three()
    content = found.as_dict()
    assert {each["system"] for each in content["published_pairs"]} == {
        "CMCD", "CED (Flexible KWS)", "PhonMatchNet", "PhonMatchNet, again", "SLiCK, again", "SLiCK-EPS",
    }  # fmt: skip
    assert all(each["source"] for each in content["published"] + content["published_pairs"])
    assert not {each["encoder"] for each in content["rows"]} & {each["system"] for each in content["published"]}
    assert "published by others, on other clips" in str(found)


def test_an_encoder_that_saw_the_words_is_warned_of() -> None:
    found = ranked([row("tuned", [True] * 9, saw_words=True)], {}, "custom", "folder", "", 2, 1)
    assert found.warnings == ("tuned learnt from Speech Commands: its number is not zero-shot",)


def test_files_hold_the_same_numbers(tmp_path: Path) -> None:
    found = three()
    names = {path.name for path in found.save(tmp_path)}
    assert names == {"leaderboard.json", "leaderboard.csv", "leaderboard.html", "leaderboard.png"}
    content = json.loads((tmp_path / "leaderboard.json").read_text())
    lines = list(csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text())))
    assert [line["encoder"] for line in lines] == ["b", "<c>", "a", "d"]
    for line, each in zip(lines, content["rows"], strict=False):
        assert float(line["accuracy"]) == each["accuracy"]["estimate"]
        assert float(line["pair_eer_high"]) == each["pair_eer"]["high"]
    assert lines[-1]["failed"] == "has no <audio> side"
    page = (tmp_path / "leaderboard.html").read_text()
    assert "&lt;c&gt;" in page and "<c>" not in page and "has no &lt;audio&gt; side" in page
    assert "http" not in page and "data:image/png;base64," in page  # it needs nothing else


def test_a_leaderboard_comes_back_from_its_json(tmp_path: Path) -> None:
    found = three()
    found.save(tmp_path)
    again = read_leaderboard(tmp_path / "leaderboard.json")
    assert again.table == found.table and str(again) == str(found)
    assert found.table[1][2] == "best" and found.table[0][2] == "p"


@pytest.mark.parametrize(
    ("text", "wrong"), [("[", "Expecting value"), ("{}", "the field 'rows' is missing"), ('{"rows": [1]}', "int")]
)
def test_a_file_that_is_not_a_leaderboard_is_one_sentence(text: str, wrong: str, tmp_path: Path) -> None:
    (tmp_path / "leaderboard.json").write_text(text)
    with pytest.raises(LeaderboardError, match=rf"^leaderboard\.json is not a leaderboard: .*{wrong}"):
        read_leaderboard(tmp_path / "leaderboard.json")


def test_the_report_of_a_run_shows_the_leaderboard_beside_it(tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("path,label,prediction,score\na.wav,yes,yes,0.9\nb.wav,no,yes,0.8\n")
    three().save(tmp_path)
    report = load_report(tmp_path)
    page, text = report.html(), report.markdown()
    assert "<h2>Leaderboard</h2>" in page and "&lt;c&gt;" in page and "d was not measured: has no &lt;audio&gt;" in page
    table = [line for line in text.splitlines() if line.startswith("| ") and "best" in line]
    assert len(table) == 1 and table[0].startswith("| b | ") and table[0].endswith(" |")
    (tmp_path / "leaderboard.json").write_text("{}")
    assert any(
        "The leaderboard is not shown: leaderboard.json is not" in each for each in load_report(tmp_path).notices
    )


def test_the_command_prints_json_and_adds_a_section_to_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--keywords", "yes,no", "--quiet", "--json", "--output", str(tmp_path)]
    assert main(["evaluate", "--no-cache", *data]) == 0
    own = json.loads(capsys.readouterr().out)
    assert "<h2>Leaderboard</h2>" not in (tmp_path / "report.html").read_text()
    assert main(["leaderboard", "phonebind", *data]) == 0
    told = capsys.readouterr()
    content = json.loads(told.out)
    assert content["chance"] == 0.5 and content["rows"][0]["encoder"] == "phonebind" and content["n"] == 18
    assert content["rows"][0]["accuracy"]["estimate"] == own["metrics"]["accuracy"]["estimate"]
    assert "report.html" in told.err and "<h2>Leaderboard</h2>" in (tmp_path / "report.html").read_text()


def test_nothing_measured_ends_with_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["leaderboard", "fonebind", "--output", str(tmp_path), "--quiet"]) == 2
    told = capsys.readouterr()
    assert not told.out and not list(tmp_path.iterdir())
    assert "no encoder could be measured; fonebind: unknown encoder 'fonebind' (did you mean phonebind?)" in told.err


@pytest.mark.parametrize("names", [["fonebind"], ["fonebind", "imagebnd"]])
def test_each_reason_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    fails = "kws_imagebind.evaluation.leaderboard._in_a_process"
    monkeypatch.setattr(fails, lambda encoder, _: {"error": f"unknown encoder '{encoder}'; available: phonebind"})
    assert main(["leaderboard", *names, "--keywords", "yes,no"]) == 2
    said = capsys.readouterr().err
    assert [said.count(f"unknown encoder '{name}'") for name in names] == [1] * len(names)
    assert said.splitlines()[-1].startswith("kws-imagebind leaderboard: no encoder could be measured; ")


def test_bad_requests_are_refused_before_any_process(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MetricError, match="'phonebind' is named twice"):
        leaderboard(["phonebind", "phonebind"], Request("sample"))
    assert main(["leaderboard", "phonebind", "--task", "sc36"]) == 2
    assert "unknown task 'sc36'" in capsys.readouterr().err

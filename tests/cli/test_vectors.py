"""`embed`, `few-shot` and `probe` as a person at a terminal meets them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from kws_imagebind.embeddings.embed import Embeddings
from tests.cli.commands import run

pytest.importorskip("pyarrow")
WORDS = "yes,no,up,down"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tables(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> tuple[Path, Path]:
    """The bundled sample's clips of four words as two tables, of different voices."""
    sample = Path(__file__).parents[2] / "sample"
    for word in WORDS.split(","):
        for number, clip in enumerate(sorted((sample / word).glob("*.wav"))):
            side = tmp_path / ("learn" if number % 2 else "report") / word
            side.mkdir(parents=True, exist_ok=True)
            (side / clip.name).symlink_to(clip)
    for side in ("learn", "report"):
        code, _, err = run(capsys, "embed", "--data", side, "--output", f"{side}.parquet", "--quiet", "--no-cache")
        assert code == 0 and f"vectors of 192 numbers in {side}.parquet" in err
    return tmp_path / "learn.parquet", tmp_path / "report.parquet"


def test_embed_writes_a_table_that_needs_no_audio(tables: tuple[Path, Path]) -> None:
    audio = Embeddings.load(tables[0])
    assert len(audio) == 16 and audio.encoder == "phonebind" and audio.features.shape == (16, 192)
    assert audio.card is not None and audio.card.licence == "MIT" and audio.dataset.task == "folder"


def test_few_shot_from_tables(capsys: pytest.CaptureFixture[str], tables: tuple[Path, Path], tmp_path: Path) -> None:
    learn, report = tables
    for folder in ("learn", "report"):
        for clip in (tmp_path / folder).rglob("*.wav"):
            clip.unlink()
    asked = ("few-shot", "--data", report, "--support", learn, "--shots", "1,2", "--draws", "3")
    code, out, err = run(capsys, *asked, "--output", "out", "--json")
    (curve,) = json.loads(out)
    assert code == 0 and curve["speakers_apart"] and curve["protocol"] == "speakers" and curve["chance"] == 0.25
    assert len(curve["points"]) == 6 and curve["zero_shot"]["estimate"] > 0.8
    assert "wrote learning_curve.json, learning_curve.csv, learning_curve.png in out" in err
    assert len(list(csv.DictReader((tmp_path / "out" / "learning_curve.csv").read_text().splitlines()))) == 7
    assert json.loads((tmp_path / "out" / "learning_curve.json").read_text()) == [curve]
    code, out, _ = run(capsys, *asked, "--readout", "class-mean")
    assert code == 0 and out.count("class-mean") == 2 and "clips of 5 speakers reported" in out


def test_a_probe_of_a_part_of_the_words(capsys: pytest.CaptureFixture[str], tables: tuple[Path, Path]) -> None:
    learn, report = tables
    code, out, _ = run(capsys, "probe", "--data", report, "--support", learn, "--keywords", "yes,no", "--json")
    (curve,) = json.loads(out)
    assert code == 0 and curve["labels"] == ["yes", "no"] and curve["n"] == 10 and curve["chance"] == 0.5
    assert [point["shots"] for point in curve["points"]] == [None, None, None]


def test_folders_do_as_well_as_tables(capsys: pytest.CaptureFixture[str], tables: tuple[Path, Path]) -> None:
    asked = ("--shots", "2", "--draws", "2", "--json", "--quiet", "--readout", "class-mean,text-held")
    _, first, _ = run(capsys, "few-shot", "--data", "report", "--support", "learn", *asked)
    _, second, _ = run(capsys, "few-shot", "--data", tables[1], "--support", tables[0], *asked)
    assert json.loads(first)[0]["points"] == json.loads(second)[0]["points"]


def test_bad_input_gets_one_line(capsys: pytest.CaptureFixture[str], tables: tuple[Path, Path]) -> None:
    learn, report = tables

    def refused(reason: str, *arguments: str | Path) -> None:
        code, _, err = run(capsys, *arguments, "--quiet")
        assert code == 2 and reason in err and err.count("\n") == 1, err

    asked = ("few-shot", "--data", report, "--support", learn)
    refused("9 clips a word are asked for, but there are fewer of down (4)", *asked, "--shots", "9")
    refused("needs a training split", "few-shot")
    refused("needs --support", "few-shot", "--data", report)
    refused("unknown protocol 'mine'", *asked, "--protocol", "mine")
    refused("unknown read-out 'mean'", *asked, "--readout", "mean")
    refused("expected a whole number from 1, got '0'", *asked, "--shots", "1,0")
    refused("--strength 'firm'; expected a number above 0", *asked, "--strength", "firm")
    refused("strength 0", *asked, "--strength", "0", "--readout", "text-held", "--shots", "1")
    refused("20 of the 20 reported clips also chose", "few-shot", "--data", report, "--support", report)
    refused("there are no clips of left for 'class-mean'", *asked, "--shots", "1", "--keywords", "yes,left")
    refused("has no clip of cat", *asked, "--keywords", "cat,dog")
    Path("text.parquet").write_text("path")
    refused("is not a Parquet file", "probe", "--data", Path("text.parquet"), "--support", learn)
    refused("is a folder; expected the name of a file", "embed", "--output", "report")
    refused("'clips.npz': a table of embeddings is written as Parquet; name it 'clips.parquet'", "embed", "--output",
            "clips.npz")  # fmt: skip


def test_vectors_of_another_encoder_are_refused(
    capsys: pytest.CaptureFixture[str], tables: tuple[Path, Path], tmp_path: Path
) -> None:
    learn, report = tables
    (tmp_path / "tone.py").write_text(
        "from tests.conftest import ToneEncoder\n\n\ndef load():\n    return ToneEncoder()\n"
    )
    code, _, err = run(capsys, "probe", "--data", report, "--support", learn, "--encoder", "tone.py:load")
    assert code == 2 and "the table's vectors are of encoder 'phonebind'" in err and err.count("\n") == 1
    run(capsys, "embed", "--data", "learn", "--encoder", "tone.py:load", "--output", "tone.parquet", "--quiet")
    code, _, err = run(capsys, "probe", "--data", report, "--support", "tone.parquet")
    assert code == 2 and "encoded by tone-1, the reported ones by phonebind" in err and err.count("\n") == 1


def test_evaluate_takes_a_table_without_its_audio(
    capsys: pytest.CaptureFixture[str], tables: tuple[Path, Path], tmp_path: Path
) -> None:
    _, report = tables
    asked = ("evaluate", "--json", "--quiet")
    _, heard, _ = run(capsys, *asked, "--data", "report")
    for clip in (tmp_path / "report").rglob("*.wav"):
        clip.unlink()
    code, read, _ = run(capsys, *asked, "--data", report)
    assert code == 0 and json.loads(read)["metrics"] == json.loads(heard)["metrics"]
    code, out, _ = run(capsys, *asked, "--data", report, "--keywords", "yes,no", "--limit", "7")
    part = json.loads(out)
    assert code == 0 and part["n"] == 7 and part["chance"] == 0.5


def test_bad_tables_and_indexes_get_one_line(
    capsys: pytest.CaptureFixture[str], tables: tuple[Path, Path], tmp_path: Path
) -> None:
    learn, report = tables

    def refused(reason: str, *arguments: str | Path) -> None:
        code, _, err = run(capsys, *arguments)
        assert code == 2 and reason in err and err.count("\n") == 1, err

    (tmp_path / "text.parquet").write_text("path")
    (tmp_path / "cut.parquet").write_bytes(report.read_bytes()[:-100])
    whole = report.read_bytes()
    (tmp_path / "holed.parquet").write_bytes(whole[:4] + b"\0" * 400 + whole[-400:])
    for command in (
        ("evaluate", "--data"),
        ("search",),
        ("retrieve", "--data"),
        ("probe", "--support", learn, "--data"),
    ):
        more = ("yes",) if command == ("search",) else ()
        refused("text.parquet is not a Parquet file", *command, tmp_path / "text.parquet", *more)
        refused("cut.parquet is cut short", *command, tmp_path / "cut.parquet", *more)
        refused("holed.parquet cannot be read as Parquet", *command, tmp_path / "holed.parquet", *more)
    refused("the best 21 are asked for; expected 1 to 20, the clips indexed", "search", report, "yes", "--top", "21")
    (tmp_path / "cat.jpg").write_text("x")
    refused("encoder 'phonebind' takes no pictures", "search", report, "--like", tmp_path / "cat.jpg")
    refused("not of 'phonebind'", "evaluate", "--data", report, "--precision", "bf16")
    refused("made by hand", "evaluate", "--data", report, "--calibrate")

"""The command line, as a person at a terminal meets it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.cli.commands import run


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_main_job_reads_at_least_90_per_cent_on_the_sample(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "evaluate", "--output", "report", "--json")
    results = json.loads(out)
    assert code == 0 and results["n"] >= 8 * 35 and results["metrics"]["accuracy"]["estimate"] >= 0.90
    names = {path.name for path in Path("report").iterdir()}
    made = {"results.json", "predictions.csv", "report.html", "report.md"}
    assert names == made | {"confusion_matrix.png", "per_class.png"}
    page = Path("report/report.html").read_text()
    assert "phonebind on sample" in page and page.count("<svg") >= 4
    assert "wrote results.json" in err and json.loads(Path("report/results.json").read_text()) == results


def test_a_second_run_hears_nothing_again_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    first = json.loads(run(capsys, "evaluate", "--json", "--limit", "20", "--seed", "3")[1])
    second = json.loads(run(capsys, "evaluate", "--json", "--limit", "20", "--seed", "3")[1])
    assert (first["cached"], second["cached"]) == (0, 20) and first["n"] == 20 and first["seed"] == 3
    assert first["metrics"] == second["metrics"]
    others = json.loads(run(capsys, "evaluate", "--json", "--limit", "20", "--seed", "3", "--task", "digits")[1])
    assert others["task"] == "digits" and others["classes"] == 10 and others["chance"] == 0.1


def test_words_without_clips_stay_candidates(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "evaluate", "--json", "--quiet", "--keywords", "yes,no,banana,kettle=/K EH T AH L/")
    results = json.loads(out)
    assert code == 0 and results["classes"] == 4 and results["n"] == 2 * results["per_class"]["yes"]["n"]
    assert results["per_class"]["banana"]["n"] == 0


def test_a_folder_is_known_by_what_it_holds(
    capsys: pytest.CaptureFixture[str], tones: Path, real_clips: Path, tmp_path: Path
) -> None:
    renamed = tmp_path / "words"
    renamed.mkdir()
    for number, word in (("440", "lamp"), ("1000", "kettle")):
        (tones / number).rename(renamed / word)
    results = json.loads(run(capsys, "evaluate", "--data", renamed, "--json")[1])
    assert results["dataset"] == "folder" and results["n"] == 16
    results = json.loads(run(capsys, "evaluate", "--data", real_clips, "--limit", "5", "--json")[1])
    assert results["dataset"] == "speech-commands" and results["split"] == "testing"


def test_phonebind_reaches_its_marks_on_real_clips(capsys: pytest.CaptureFixture[str], real_clips: Path) -> None:
    for task, mark in (("v2-35", 0.80), ("v2-10", 0.87)):
        out = run(capsys, "evaluate", "--data", real_clips, "--split", "testing", "--task", task, "--json")[1]
        assert json.loads(out)["metrics"]["accuracy"]["estimate"] >= mark


def test_a_temperature_comes_from_validation_clips(capsys: pytest.CaptureFixture[str], real_clips: Path) -> None:
    options = ["--data", real_clips, "--task", "v2-10", "--limit", "60", "--json", "--quiet", "--calibrate"]
    found = json.loads(run(capsys, "evaluate", *options)[1])["calibration"]
    assert 0.01 < found["temperature"] < 1 and 0 <= found["ece"] < 0.2


def test_other_words_and_silence_can_be_turned_away(capsys: pytest.CaptureFixture[str], real_clips: Path) -> None:
    options = ["--data", real_clips, "--limit", "200", "--json", "--quiet"]
    found = json.loads(run(capsys, "evaluate", *options, "--task", "v2-10", "--open-set")[1])["open_set"]
    assert len(found) == 6 and all(each["auroc"]["estimate"] > 0.5 for each in found if each["rule"] == "best score")
    rejected = json.loads(run(capsys, "evaluate", *options, "--task", "v2-12", "--reject")[1])
    assert set(rejected["rejection"]) == {"silence", "unknown"} and rejected["per_class"]["unknown"]["n"]
    assert rejected["metrics"]["accuracy"]["estimate"] > 0.4


def test_a_data_set_is_described_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "describe", "--keywords", "yes,no,banana", "--output", "made/words.png")
    assert code == 0 and Path("made/words.png").read_bytes().startswith(b"\x89PNG")
    lines = [line.split() for line in out.splitlines()]
    assert lines[1] == ["yes", "9", "9", "50.0", "%"] and lines[3] == ["banana", "0", "0", "0.0", "%"]
    assert "18 clips of 2 words, 9 to 9 a word; 9 speakers, at most 2 clips of one" in out
    found = json.loads(run(capsys, "describe", "--task", "digits", "--json")[1])
    assert found["clips"] == 90 and found["words"]["nine"] == {"clips": 9, "speakers": 9}


def test_unknown_speakers_are_said_to_be_unknown(capsys: pytest.CaptureFixture[str], tones: Path) -> None:
    for path in sorted(tones.glob("*/*.wav")):
        path.rename(path.with_name(f"take{path.stem[-1]}.wav"))
    code, out, _ = run(capsys, "describe", "--data", tones)
    assert code == 0 and out.splitlines()[1].split() == ["1000", "8", "unknown", "33.3", "%"]
    assert json.loads(run(capsys, "describe", "--data", tones, "--json")[1])["words"]["1000"]["speakers"] == 0


def test_a_limit_above_the_clips_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["evaluate", "--keywords", "yes,no", "--quiet", "--json"]
    code, out, err = run(capsys, *options, "--limit", "1000")
    assert code == 0 and json.loads(out)["n"] == 18
    assert "--limit 1,000 is more than the 18 clips that there are, so all of them are measured" in err
    assert "--limit" not in run(capsys, *options, "--limit", "18")[2]


def test_a_folder_is_labelled_as_the_challenge_asks(capsys: pytest.CaptureFixture[str]) -> None:
    sample = Path(__file__).parents[2] / "sample"
    Path("clips").mkdir()
    for word in ("seven", "yes", "stop"):
        shutil.copy(sorted((sample / word).glob("*.wav"))[0], f"clips/clip_{word}.wav")
    soundfile.write("clips/clip_noise.wav", np.random.default_rng(0).normal(0, 0.01, 16_000), 16_000)
    shutil.copy(sorted((sample / "bed").glob("*.wav"))[0], "clips/=bed.wav")
    runs = {"own": [], "all": ["--prompted"], "cut": ["--below", "0.06", "0.05"]}
    answers = {}
    for name, options in runs.items():
        assert run(capsys, "submit", "clips", "--output", f"{name}.csv", "--quiet", *options)[0] == 0
        rows = [line.split(",") for line in Path(f"{name}.csv").read_text().splitlines()]
        assert rows[0] == ["fname", "label"] and rows[1][0] == "'=bed.wav"  # which no spreadsheet computes
        assert [row[0] for row in rows[2:]] == [f"clip_{word}.wav" for word in ("noise", "seven", "stop", "yes")]
        answers[name] = dict(rows[1:])
    for found in answers.values():
        assert (found["clip_yes.wav"], found["clip_stop.wav"]) == ("yes", "stop")
    # Other words and noise are rejected by the encoder's own thresholds, unless both are prompts.
    for name in ("own", "cut"):
        assert (answers[name]["clip_seven.wav"], answers[name]["clip_noise.wav"]) == ("unknown", "silence")
    assert "unknown" not in answers["all"].values()
    assert sorted(Path().glob("*.part")) == []


def test_spot_ranks_words_it_has_never_met(capsys: pytest.CaptureFixture[str]) -> None:
    clip = sorted((Path(__file__).parents[2] / "sample" / "seven").glob("*.wav"))[0]
    code, out, _ = run(capsys, "spot", clip, "--words", "lamp,kettle,seven,window,zorblat")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and lines[0][0] == "seven" and len(lines) == 5
    assert [float(line[1]) for line in lines] == sorted((float(line[1]) for line in lines), reverse=True)
    answer = json.loads(run(capsys, "spot", clip, "--words", "lamp,seven", "--top", "1", "--json")[1])
    assert [score["word"] for score in answer["scores"]] == ["seven"]


def test_a_guessed_pronunciation_is_said(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    clip = sorted((Path(__file__).parents[2] / "sample" / "yes").glob("*.wav"))[0]
    run(capsys, "spot", clip, "--words", "yes,zorblat")
    assert "'zorblat' is not in CMUdict; it is read as /Z" in caplog.text


def test_spot_answers_for_the_good_recordings_among_bad_ones(
    capsys: pytest.CaptureFixture[str], write_tone: Callable[..., Path], tmp_path: Path
) -> None:
    good = write_tone(tmp_path / "good.flac", rate=44_100, seconds=3)
    (tmp_path / "bad.wav").write_bytes(b"")
    code, out, err = run(capsys, "spot", tmp_path / "bad.wav", good, "--words", "yes,no")
    assert code == 2 and "good.flac" in out and len(out.splitlines()) == 3
    assert err.splitlines()[0] == f"kws-imagebind spot: {tmp_path}/bad.wav: the file is empty (0 bytes)"
    assert "good.flac: no word scores 0.5 or more" in err and len(err.splitlines()) == 2


def test_spot_tells_when_words_are_said_in_a_longer_recording(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sample = Path(__file__).parents[2] / "sample"
    pause, parts = np.zeros(16_000), []
    for word in ("seven", "marvin", "yes"):
        parts += [pause, soundfile.read(sorted((sample / word).glob("*.wav"))[0])[0]]
    soundfile.write(tmp_path / "long.wav", np.concatenate([*parts, pause]), 16_000)
    code, out, err = run(capsys, "spot", tmp_path / "long.wav", "--words", "yes,seven,lamp")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and not err and lines[0] == ["start", "end", "word", "score"]
    assert [line[2] for line in lines[1:]] == ["seven", "yes"] and lines[1][0] in ("0:01.0", "0:01.1")
    answer = json.loads(run(capsys, "spot", tmp_path / "long.wav", "--words", "yes,seven,lamp", "--json")[1])
    assert [hit["word"] for hit in answer["detections"]] == ["seven", "yes"] and answer["threshold"] == 0.5
    assert {score["word"] for score in answer["scores"][:2]} == {"yes", "seven"}
    strict = json.loads(
        run(capsys, "spot", tmp_path / "long.wav", "--words", "yes,seven", "--threshold", "1", "--json")[1]
    )
    assert strict["detections"] == [] and len(strict["scores"]) == 2


def test_a_threshold_asks_a_short_recording_whether_the_word_was_said_at_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = sorted((Path(__file__).parents[2] / "sample" / "yes").glob("*.wav"))[0]
    found = json.loads(run(capsys, "spot", clip, "--words", "yes,no", "--threshold", "0.5", "--json")[1])
    assert [hit["word"] for hit in found["detections"]] == ["yes"]
    assert not json.loads(run(capsys, "spot", clip, "--words", "lamp,kettle", "--threshold", "0.5", "--json")[1])[
        "detections"
    ]
    assert "detections" not in json.loads(run(capsys, "spot", clip, "--words", "yes,no", "--json")[1])


def test_the_first_answer_does_not_wait_for_what_it_does_not_need() -> None:
    clip = sorted((Path(__file__).parents[2] / "sample" / "yes").glob("*.wav"))[0]
    code = (
        "import sys; from kws_imagebind.cli import main; code = main(['spot', sys.argv[1], '--words', 'yes,no']);"
        "print(*sorted({'torchaudio', 'torchmetrics', 'matplotlib', 'sklearn', 'jinja2', 'safetensors'} & set("
        "sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(clip)], capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) - {"jinja2"} == {"safetensors"}  # some releases of torch bring jinja2


def test_silence_holds_no_word(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    code, out, err = run(capsys, "spot", tmp_path / "silence.wav", "--words", "yes,no")
    assert code == 2 and not out and "holds only silence" in err


def test_a_terminal_without_unicode_and_a_reader_that_leaves_are_no_trouble(tmp_path: Path) -> None:
    clip = sorted((Path(__file__).parents[2] / "sample" / "yes").glob("*.wav"))[0]
    command = [sys.executable, "-m", "kws_imagebind", "spot", str(clip), "--words", "yes,no"]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(command, capture_output=True, env=ascii_only, check=True).stdout
    assert shown.startswith(b"yes ") and b"###" in shown
    unread = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert unread.stdout is not None and unread.stderr is not None
    unread.stdout.close()
    assert unread.stderr.read() == b"" and unread.wait() == 141
    unread.stderr.close()


def test_list_names_what_exists(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "list", "--json")[1])
    assert "phonebind" in found["encoders"] and {"v2-35", "v2-10", "digits"} <= set(found["tasks"])
    assert set(found["datasets"]) == {"sample", "speech-commands", "folder", "pictures"}
    text = run(capsys, "list")[1]
    assert all(name in text for names in found.values() for name in names)


def test_runs_are_compared_and_written_for_mteb(capsys: pytest.CaptureFixture[str]) -> None:
    for name, options in (("a", []), ("b", ["--limit", "300"])):
        run(capsys, "evaluate", "--task", "v2-10", "--output", name, *options)
    code, out, _ = run(capsys, "compare", "a", "b/predictions.csv", "--json")
    found = json.loads(out)
    assert code == 0 and found["n"] == 90 and found["pairs"][0]["difference"]["estimate"] == 0
    text = run(capsys, "compare", "a", "b")[1]
    assert "a less b" in text and "by speaker (9 speakers)" in text
    assert "chose from different candidates" not in text
    ten = "yes,no,up,down,left,right,on,off,stop,go"
    run(capsys, "evaluate", "--keywords", f"{ten},visual", "--output", "c")
    assert (
        "a and c chose from different candidates (10 words and 11 words; 'visual'"
        in run(capsys, "compare", "a", "c")[1]
    )
    code, _, err = run(capsys, "compare", "a", "--mteb", "mteb.json")
    assert code == 2 and "has 4,074 clips and this run 90" in err and not Path("mteb.json").exists()
    words = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
    rows = [
        f"{words[i % 10]}/0cb74144_nohash_{i}.wav,{words[i % 10]},{words[i % 10 if i % 4 else 0]}" for i in range(4_074)
    ]
    Path("whole.csv").write_text("path,label,prediction\n" + "\n".join(rows))
    assert run(capsys, "compare", "whole.csv", "--mteb", "mteb.json")[0] == 0
    result = json.loads(Path("mteb.json").read_text())
    assert (
        result["task_name"] == "SpeechCommandsZeroshotv0.02" and result["scores"]["test"][0]["hf_subset"] == "default"
    )
    right = sum(row.split(",")[1] == row.split(",")[2] for row in rows)
    assert result["scores"]["test"][0]["main_score"] == pytest.approx(right / 4_074)


def test_a_report_is_made_again_from_the_table_without_torch(tmp_path: Path) -> None:
    table = "".join(f"{i}.wav,{'yes' if i % 2 else 'no'},yes\n" for i in range(40))
    (tmp_path / "any.csv").write_text("path,label,prediction\n" + table)
    code = (
        "import sys; from kws_imagebind.cli import main; main(['report', 'any.csv', '--output', 'out']);"
        "sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=here, check=False).returncode == 0
    assert (tmp_path / "out" / "report.html").is_file() and (tmp_path / "out" / "report.md").is_file()


WRONG = {
    "unknown set of prompts 'singing'": ["evaluate", "--prompts", "singing", "--limit", "2"],
    "not allowed with argument --prompts": ["evaluate", "--prompts", "speech", "--template", "{}"],
    "the prompt needs a validation split": ["prompts", "--task", "digits"],
    "'nowhere' is not a folder": ["submit", "nowhere", "--output", "s.csv"],
    "'bad' holds no recording of its own": ["submit", "bad", "--output", "s.csv"],
    "which are not both among the labels": [
        "submit",
        "bad",
        "--output",
        "s.csv",
        "--keywords",
        "yes,no",
        "--below",
        "0",
        "1",
    ],
    "has no labels silence and unknown": ["evaluate", "--reject", "--task", "v2-10", "--limit", "2"],
    "so there is no temperature": ["evaluate", "--reject", "--calibrate"],
    "has no clip of other words and no background noise": ["evaluate", "--open-set"],
    "row 2: the label 'lamp' is not one of the 10 words": ["report", "few.csv", "--task", "v2-10"],
    "no column label, prediction": ["report", "clip.csv"],
    "is not one of the 2 words (no, yes)": ["report", "few.csv", "--keywords", "no,yes"],
    "a comparison needs at least two": ["compare", "few.csv"],
    "few.csv, row 2: the label is empty": ["compare", "bad/few.csv", "few.csv"],
    "nowhere/x.csv cannot be read": ["compare", "few.csv", "nowhere/x.csv"],
    "'few.csv' is named twice; expected different runs": ["compare", "few.csv", "few.csv"],
    "'bad/../few.csv', which is 'few.csv', is named twice": ["compare", "few.csv", "./bad/../few.csv"],
    "2 runs for one MTEB result": ["compare", "few.csv", "other.csv", "--mteb", "m.json"],
    "and this run has 'lamp'": ["compare", "few.csv", "--mteb", "m.json"],
    "unknown task 'sc36'": ["evaluate", "--task", "sc36"],
    "unknown encoder 'phonebin' (did you mean phonebind?)": ["evaluate", "--encoder", "phonebin"],
    "unknown data set 'sampel'": ["evaluate", "--dataset", "sampel"],
    "no Speech Commands v0.02": ["evaluate", "--dataset", "speech-commands"],
    "has no split 'test'": ["evaluate", "--dataset", "speech-commands", "--split", "test"],
    "listed twice": ["evaluate", "--keywords", "yes,no,yes"],
    "the only keyword": ["evaluate", "--keywords", "yes"],
    "'XX' in": ["evaluate", "--keywords", "yes,lamp=/L XX/"],
    "holds digits": ["spot", "clip.wav", "--words", "yes,7"],
    "there is no such file": ["spot", "missing.wav", "--words", "yes,no"],
    "needs one '{}'": ["evaluate", "--template", "nothing"],
    "not available here": ["evaluate", "--device", "cuda:77"],
    "'meta' is not available": ["evaluate", "--device", "meta"],
    "no precision 'int2'": ["evaluate", "--precision", "int2"],
    "kws-imagebind evaluate: unrecognized arguments: --nonsense; see kws-imagebind evaluate --help": [
        "evaluate",
        "--nonsense",
    ],
    "kws-imagebind: unrecognized arguments: --nonsense; see kws-imagebind --help": ["--nonsense", "list"],
    "kws-imagebind describe: 'words' stands alone; name a folder or a table with --data words;": ["describe", "words"],
    "'clip.wav' is not a folder but a recording; expected one that holds a folder for each word, or use "
    "'kws-imagebind spot clip.wav --words A,B'": ["describe", "--data", "clip.wav"],
    "'clip.csv' is not a folder but a file; expected one": ["describe", "--data", "clip.csv"],
    "'gone' is not a folder: nothing is there; expected one": ["describe", "--data", "gone"],
    "'words/yes' holds 1 recording of its own, but no folder with the name of a word; expected recordings such as "
    "'words/yes/yes/1.wav'": ["describe", "--data", "words/yes"],
    "'bad' holds no folder with the name of a word; expected": ["describe", "--data", "bad"],
    "clips.parquet is not a Parquet file; expected a table": ["describe", "--data", "clips.parquet"],
    "unknown data set 'gone' (did you mean folder?); available: sample": ["describe", "--dataset", "gone"],
    '\'words\' is a folder and not the name of a data set; write kws.load_dataset("folder", root="words"), or --data '
    "words on the command line": ["describe", "--dataset", "words"],
    "needs a validation split to choose on": ["evaluate", "--calibrate"],
    "leave that out, or measure a data set with splits": ["evaluate", "--calibrate", "--data", "words"],
    "it has no splits; name what to learn from with --support DIR": ["few-shot", "--data", "words"],
    "'words.csv' is the name of a file; expected words with commas": ["spot", "clip.wav", "--words", "words.csv"],
    "clip.wav: lasts 1.0 s, so nothing is heard at 99 s": ["spot", "clip.wav", "--words", "yes,no", "--explain", "99"],
    "from 1, got '0'": ["evaluate", "--limit", "0"],
    "invalid choice: 'evalute'": ["evalute"],
    "required: --words": ["spot", "clip.wav"],
    "a number from 0 to 1, got 'loud'": ["spot", "clip.wav", "--words", "yes", "--threshold", "loud"],
    "from 0 to 1, got '1.5'": ["spot", "clip.wav", "--words", "yes", "--threshold", "1.5"],
    "'nowhere'": ["evaluate", "--data", "nowhere"],
    "'clip.wav' is a file, and a folder is expected": ["evaluate", "--cache", "clip.wav"],
    "cannot create 'clip.wav/report'": ["evaluate", "--output", "clip.wav/report", "--limit", "2"],
}


@pytest.mark.parametrize("reason", WRONG)
def test_bad_input_ends_with_one_clear_line(capsys: pytest.CaptureFixture[str], reason: str) -> None:
    soundfile.write("clip.wav", np.zeros(16_000), 16_000)
    Path("bad").mkdir()
    for word in ("yes", "no"):
        Path("words", word).mkdir(parents=True)
        soundfile.write(f"words/{word}/1.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    Path("clip.csv").write_text("path\nclip.wav\n")
    Path("clips.parquet").write_text("path\nclip.wav\n")
    for name, row in (("few.csv", "a.wav,lamp,yes"), ("other.csv", "b.wav,yes,yes"), ("bad/few.csv", "a.wav,,yes")):
        Path(name).write_text(f"path,label,prediction\n{row}\n")
    code, _, err = run(capsys, *WRONG[reason], *(["--quiet"] if WRONG[reason][0] == "evaluate" else []))
    assert code == 2 and reason in err and len(err.strip().splitlines()) == 1, err


def test_bad_clips_stop_or_are_listed(capsys: pytest.CaptureFixture[str], tones: Path) -> None:
    bad = {"1000/empty_nohash_0.wav": b"", "440/noise_nohash_0.wav": b"no sound", "440/cut_nohash_0.wav": b"RIFF"}
    for name, content in bad.items():
        (tones / name).write_bytes(content)
    for number, word in (("440", "lamp"), ("1000", "kettle"), ("3000", "window")):
        (tones / number).rename(tones / word)
    code, _, err = run(capsys, "evaluate", "--data", tones, "--quiet", "--no-cache")
    assert code == 2 and len(err.splitlines()) == 1 and "nohash" in err
    code, out, _ = run(capsys, "evaluate", "--data", tones, "--on-error", "skip", "--json", "--quiet")
    results = json.loads(out)
    assert code == 0 and results["n"] == 24 and len(results["skipped"]) == 3
    assert all(skip["reason"] for skip in results["skipped"])


def test_the_module_runs_as_the_command_does() -> None:
    shown = subprocess.run([sys.executable, "-m", "kws_imagebind", "--version"], capture_output=True, check=True)
    assert shown.stdout.startswith(b"kws-imagebind 0.")

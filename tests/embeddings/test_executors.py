"""Tables made in parts: the same whoever makes them and however often a run was stopped, nothing lost or repeated."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kws_imagebind.audio.signal import AudioError
from kws_imagebind.cli import main
from kws_imagebind.datasets import load_dataset
from kws_imagebind.datasets.base import DatasetError
from kws_imagebind.datasets.registry import stream_dataset
from kws_imagebind.embeddings import table
from kws_imagebind.embeddings.embed import Embeddings, embed
from kws_imagebind.embeddings.executors import local, parts
from kws_imagebind.embeddings.executors.parts import ExecutorError, Parts
from kws_imagebind.encoders import EncoderError
from tests.conftest import ToneEncoder

pytest.importorskip("pyarrow")
ROOT = Path(__file__).parents[2]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra 'scale')")

# Notes each clip that it encodes, and is as slow or as mortal as its environment says.
ENCODER = """
import os, signal, time
from pathlib import Path
from tests.conftest import ToneEncoder

class Encoder(ToneEncoder):
    def encode_audio(self, waveforms):
        with open(os.environ["HEARD"], "a") as file:
            file.write("x" * len(waveforms))
        time.sleep(float(os.environ.get("SLOW", 0)))
        mark = Path(os.environ.get("DIES_ONCE", "/"))
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_audio(waveforms)
"""


def made(encoder: ToneEncoder, tones: Path, output: Path, part: int = 5, **options: object) -> Parts:
    return parts.prepare(output, stream_dataset("folder", root=tones), encoder, 4, "raise", part, **options)  # type: ignore[arg-type]


def finished(encoder: ToneEncoder, found: Parts, output: Path) -> parts.Summary:
    return parts.run(found, output, lambda p, numbers, tell: local.execute(p, numbers, tell, encoder))


def test_parts_make_the_table_that_memory_makes(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    output = tmp_path / "clips.parquet"
    summary = finished(tone_encoder, made(tone_encoder, tones, output), output)
    whole, loaded = embed(tone_encoder, load_dataset("folder", root=tones)), Embeddings.load(output)
    assert summary == parts.Summary(clips=24, skipped=0, parts=5, found=0)
    assert torch.allclose(loaded.features, whole.features, atol=1e-6) and torch.equal(loaded.targets, whole.targets)
    assert loaded.utterances == whole.utterances and loaded.contents == whole.contents
    assert loaded.dataset.keywords == whole.dataset.keywords and loaded.fingerprint == whole.fingerprint
    assert not parts.folder_of(output).exists()


def test_a_folder_comes_as_a_stream_in_the_same_order(tones: Path, tmp_path: Path) -> None:
    for name in ("a", "a b", "a-b", "B"):  # "a b/" is before "a/", as keys are
        (tmp_path / "words" / name).mkdir(parents=True)
        for take in ("z", "1"):
            (tmp_path / "words" / name / f"{take}.wav").touch()
    (tmp_path / "words" / "a" / "notes.txt").touch()
    dataset, stream = (make("folder", root=tmp_path / "words") for make in (load_dataset, stream_dataset))
    found = tuple(stream.utterances)
    assert found == dataset.utterances and [each.key for each in found] == sorted(each.key for each in found)
    assert stream.note() == dataset.note and "1 files left out" in dataset.note
    chosen = stream_dataset("folder", root=tmp_path / "words", keywords="b,A")
    assert [each.label for each in chosen.utterances] == ["b", "b", "A", "A"]
    with pytest.raises(DatasetError, match="has no clip of cat"):
        list(stream_dataset("folder", root=tones, keywords="cat").utterances)


def test_finished_parts_are_not_encoded_again(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    output = tmp_path / "clips.parquet"
    found = made(tone_encoder, tones, output)
    for number in (0, 3):
        found.encode(number, tone_encoder)
    (found.folder / ".part-000001.parquet.99.part").write_bytes(b"half")
    tone_encoder.heard.clear()
    told: list[tuple[int, int]] = []
    again = made(tone_encoder, tones, output)
    summary = parts.run(
        again, output, lambda p, numbers, tell: local.execute(p, numbers, tell, tone_encoder),
        lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert summary.found == 2 and sum(tone_encoder.heard) == 14 and len(Embeddings.load(output)) == 24
    assert told[0] == (10, 24) and told[-1] == (24, 24) and told == sorted(told)


def test_a_part_of_a_changed_recording_is_encoded_again(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    found = made(tone_encoder, tones, tmp_path / "clips.parquet")
    found.encode(0, tone_encoder)
    found.encode(1, tone_encoder)
    assert parts.missing(found) == [2, 3, 4]
    found.listing[1][0].path.touch()
    assert parts.missing(found) == [1, 2, 3, 4]
    found.path(0).write_bytes(found.path(0).read_bytes()[:-9])
    assert parts.missing(found) == [0, 1, 2, 3, 4]


def test_bad_clips_are_skipped_even_where_they_fill_a_part(
    tone_encoder: ToneEncoder, tones: Path, tmp_path: Path
) -> None:
    output = tmp_path / "clips.parquet"
    for clip in sorted((tones / "1000").iterdir())[:5]:
        clip.write_bytes(b"")
    found = parts.prepare(output, stream_dataset("folder", root=tones), tone_encoder, 4, "skip", 4)
    assert finished(tone_encoder, found, output).skipped == 5
    loaded = Embeddings.load(output)
    assert len(loaded) == 19 and [each.key.split("/")[0] for each in loaded.skipped] == ["1000"] * 5


def test_a_run_that_met_a_bad_clip_goes_on_without_it(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    output = tmp_path / "clips.parquet"
    bad = sorted((tones / "440").iterdir())[0]  # keys begin with 1000, 3000, 440
    good = bad.read_bytes()
    bad.write_bytes(b"")
    found = made(tone_encoder, tones, output)
    with pytest.raises(AudioError, match="the file is empty"):
        finished(tone_encoder, found, output)
    again = parts.prepare(output, stream_dataset("folder", root=tones), tone_encoder, 4, "skip", 5)
    assert parts.missing(again) == [3, 4]
    for number in (3, 4):
        again.encode(number, tone_encoder)
    bad.write_bytes(good)
    strict = made(tone_encoder, tones, output)  # which takes no part with a clip left out
    assert parts.missing(strict) == [3]
    summary = finished(tone_encoder, strict, output)
    assert (summary.clips, summary.skipped, summary.found) == (24, 0, 4)


def test_another_run_is_not_mixed_in(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    output = tmp_path / "clips.parquet"
    made(tone_encoder, tones, output, part=7)  # nothing was encoded, so nothing is lost
    made(tone_encoder, tones, output).encode(0, tone_encoder)
    with pytest.raises(ExecutorError, match="unfinished run with another --part; repeat that run"):
        made(tone_encoder, tones, output, part=6)
    other = ToneEncoder()
    other.fingerprint = "tone-2"
    with pytest.raises(ExecutorError, match="with another fingerprint"):
        made(other, tones, output)
    found = made(tone_encoder, tones, output)
    with pytest.raises(EncoderError, match=r"are of encoder 'tone' \(tone-1\), and a worker has 'tone' \(tone-2\)"):
        found.encode(0, other)
    next((tones / "440").iterdir()).unlink()
    with pytest.raises(ExecutorError, match="with another list of clips"):
        made(tone_encoder, tones, output)
    with parts.alone(output), pytest.raises(ExecutorError, match="another run is writing"), parts.alone(output):
        pass


def test_a_finished_table_is_only_written_over_by_its_own_job(
    tone_encoder: ToneEncoder, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "clips.parquet"
    finished(tone_encoder, made(tone_encoder, tones, output), output)
    before = output.read_bytes()
    monkeypatch.chdir(tmp_path)
    # The same job once more, named from elsewhere, stopped and gone on with, in other parts: the same table.
    for place, part in ((tones, 5), (Path("tones"), 7)):
        made(tone_encoder, place, output, part=part).encode(0, tone_encoder)
        assert finished(tone_encoder, made(tone_encoder, place, output, part=part), output).found == 1
        assert len(Embeddings.load(output)) == 24
    output.write_bytes(before)

    def refused(reason: str, encoder: ToneEncoder, root: Path, **options: str) -> None:
        with pytest.raises(ExecutorError) as caught, parts.alone(output):
            parts.prepare(output, stream_dataset("folder", root=root, **options), encoder, 4, "raise", 5)
        said = str(caught.value)
        assert said.startswith(
            f"'{output}' already holds 24 vectors of data set 'folder', task 'folder' by encoder 'tone'"
        )
        assert reason in said and said.endswith("; choose another --output, or remove the file") and "\n" not in said
        assert output.read_bytes() == before and not parts.folder_of(output).exists()

    other = ToneEncoder()
    other.fingerprint = "tone-2"
    refused("by encoder 'tone' (tone-1), and encoder 'tone' (tone-2) is asked for", other, tones)
    refused("data set 'folder' (1000, 440) is asked for", tone_encoder, tones, keywords="440,1000")
    copies = tmp_path / "copies"
    shutil.copytree(tones, copies)  # the same names, and perhaps other sounds
    first = sorted((tones / "1000").iterdir())[0]
    refused(f"'{first}' among them is not among the clips asked for", tone_encoder, copies)
    chosen = tmp_path / "chosen.parquet"
    for words in ("440,1000", "1000,440"):
        stream = stream_dataset("folder", root=tones, keywords=words)
        assert finished(tone_encoder, parts.prepare(chosen, stream, tone_encoder, 4, "raise", 5), chosen).clips == 16
    # A clip more loses nothing; a clip less would.
    (tones / "3000" / "more_nohash_0.wav").write_bytes(first.read_bytes())
    finished(tone_encoder, made(tone_encoder, tones, output), output)
    assert len(Embeddings.load(output)) == 25
    (tones / "3000" / "more_nohash_0.wav").unlink()
    with pytest.raises(ExecutorError, match=r"25 vectors of .*/more_nohash_0\.wav' among them is not among the clips"):
        made(tone_encoder, tones, output)


def test_a_finished_table_lacks_the_clips_that_were_skipped(
    tone_encoder: ToneEncoder, tones: Path, tmp_path: Path
) -> None:
    output = tmp_path / "clips.parquet"
    sorted((tones / "3000").iterdir())[2].write_bytes(b"")
    for _ in range(2):
        found = parts.prepare(output, stream_dataset("folder", root=tones), tone_encoder, 4, "skip", 5)
        assert finished(tone_encoder, found, output).skipped == 1


def test_only_what_cannot_be_read_is_written_over_where_there_is_no_table(
    tone_encoder: ToneEncoder, tones: Path, tmp_path: Path
) -> None:
    output = tmp_path / "clips.parquet"
    finished(tone_encoder, made(tone_encoder, tones, tmp_path / "good.parquet"), tmp_path / "good.parquet")
    good = (tmp_path / "good.parquet").read_bytes()
    for content in (b"", good[: len(good) // 2]):
        output.write_bytes(content)
        finished(tone_encoder, made(tone_encoder, tones, output), output)
        assert output.read_bytes() == good
    output.write_bytes(b"my notes")
    with pytest.raises(ExecutorError, match="is there already, and is not a table that 'kws-imagebind embed' wrote"):
        made(tone_encoder, tones, output)
    assert output.read_bytes() == b"my notes"


def test_lost_clips_are_never_joined(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    found = made(tone_encoder, tones, tmp_path / "clips.parquet")
    for number in range(5):
        found.encode(number, tone_encoder)
    found.path(4).write_bytes(found.path(0).read_bytes())
    with pytest.raises(ExecutorError, match="hold 25 of 24 clips"):
        found.join(tmp_path / "clips.parquet")


def test_names_that_are_not_utf8_are_found_again(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    clip = next((tones / "440").iterdir())
    clip.rename(clip.with_name(os.fsdecode(b"\xff.wav")))
    output = tmp_path / "clips.parquet"
    assert finished(tone_encoder, made(tone_encoder, tones, output), output).clips == 24


# The command, killed and started again -----------------------------------------------------------------------------


def command(tmp_path: Path, tones: Path, output: str, *more: str) -> list[str]:
    (tmp_path / "slow.py").write_text(ENCODER)
    asked = f"embed --data {tones} --encoder {tmp_path}/slow.py:Encoder --output {tmp_path}/{output}"
    how = "--part 4 --batch-size 2 --no-cache --quiet"
    return [sys.executable, "-m", "kws_imagebind", *asked.split(), *how.split(), *more]


def own_lines(stderr: str) -> list[str]:
    """What is not Ray's own log, of which a line comes before it can be told to be quiet."""
    return [line for line in stderr.splitlines() if not line.startswith("[20")]


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    # Within a long path Ray's sockets have no room.
    return {**os.environ, "PYTHONPATH": str(ROOT), "HEARD": str(tmp_path / "heard"), "OMP_NUM_THREADS": "1", **more}


def killed_and_started_again(tmp_path: Path, tones: Path, *more: str) -> str:
    """Kills a run when it has written two of six parts; returns what the second run says."""
    asked = command(tmp_path, tones, "killed.parquet", *more)
    run = subprocess.Popen(asked, env=environment(tmp_path, SLOW="0.3"), stderr=subprocess.DEVNULL)
    folder = parts.folder_of(tmp_path / "killed.parquet")
    for _ in range(2000):  # on a busy machine Ray takes a minute to start
        if len(list(folder.glob("part-*"))) >= 2 or run.poll() is not None:
            break
        time.sleep(0.1)
    assert len(list(folder.glob("part-*"))) >= 2
    run.send_signal(signal.SIGKILL)
    run.wait(timeout=30)
    assert run.returncode == -signal.SIGKILL and not (tmp_path / "killed.parquet").exists()
    done = subprocess.run(asked, env=environment(tmp_path), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def plain(tmp_path: Path, tones: Path) -> bytes:
    done = subprocess.run(
        command(tmp_path, tones, "plain.parquet"), env=environment(tmp_path), check=True, timeout=120,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0
    return (tmp_path / "plain.parquet").read_bytes()


def test_a_killed_run_goes_on_to_the_same_table(tmp_path: Path, tones: Path) -> None:
    said = killed_and_started_again(tmp_path, tones)
    assert "of 6 parts were there already" in said and said.count("\n") == 1
    assert len((tmp_path / "heard").read_text()) <= 24 + 4  # of the part that was under way
    assert (tmp_path / "killed.parquet").read_bytes() == plain(tmp_path, tones)


@needs_ray
def test_ray_writes_the_same_table_though_workers_die(tmp_path: Path, tones: Path) -> None:
    asked = command(tmp_path, tones, "ray.parquet", "--engine", "ray", "--workers", "2")
    dies = environment(tmp_path, DIES_ONCE=str(tmp_path / "died"))
    done = subprocess.run(asked, env=dies, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "died").exists() and "wrote 24 vectors of 200 numbers" in done.stderr
    assert len(own_lines(done.stderr)) == 1, done.stderr
    assert (tmp_path / "ray.parquet").read_bytes() == plain(tmp_path, tones)


@needs_ray
def test_a_killed_run_of_ray_goes_on_to_the_same_table(tmp_path: Path, tones: Path) -> None:
    said = killed_and_started_again(tmp_path, tones, "--engine", "ray", "--workers", "2")
    assert "of 6 parts were there already" in said
    assert (tmp_path / "killed.parquet").read_bytes() == plain(tmp_path, tones)


@needs_ray
def test_ray_says_what_is_wrong_in_one_line(tmp_path: Path, tones: Path) -> None:
    next((tones / "440").iterdir()).write_bytes(b"")
    asked = command(tmp_path, tones, "ray.parquet", "--engine", "ray", "--workers", "1")
    done = subprocess.run(asked, env=environment(tmp_path), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2 and "the file is empty" in done.stderr and len(own_lines(done.stderr)) == 1, done.stderr


def test_what_the_engines_lack_is_said_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tones: Path, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    for more, reason in (
        (("--engine", "ray"), "--engine ray needs Ray; install ray[data]"),
        (("--workers", "2"), "--workers is for --engine ray"),
        (("--dataset", "pictures"), "encoder 'phonebind' takes no pictures; imagebind does"),
    ):
        assert main(["embed", "--data", str(tones), "--output", "out.parquet", "--quiet", *more]) == 2
        said = capsys.readouterr().err
        assert reason in said and said.count("\n") == 1
        assert not list(tmp_path.glob("out*"))


def test_a_damaged_job_is_said(tone_encoder: ToneEncoder, tones: Path, tmp_path: Path) -> None:
    found = made(tone_encoder, tones, tmp_path / "clips.parquet")
    assert json.loads((found.folder / parts.JOB).read_text())["clips"] == 24
    found.encode(0, tone_encoder)
    (found.folder / parts.JOB).write_text("{")
    with pytest.raises(ExecutorError, match="is damaged; delete"):
        made(tone_encoder, tones, tmp_path / "clips.parquet")
    assert table.is_table(found.folder / parts.LISTING)

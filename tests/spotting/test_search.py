"""Search in recordings: what is found, where, and what is left out; and the commands."""

from __future__ import annotations

import base64
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from kws_imagebind.audio.signal import AudioError
from kws_imagebind.cli import main
from kws_imagebind.embeddings.embed import embed
from kws_imagebind.embeddings.index import ClipIndex, VectorIndexError
from kws_imagebind.encoders import load_encoder
from kws_imagebind.readouts.arithmetic import QueryError, combine
from kws_imagebind.reporting.search_page import PageHit, search_page
from kws_imagebind.spotting.search import find, index_recordings, recordings, same_recording, snippet
from tests.conftest import ToneEncoder

pytest.importorskip("faiss")
pytest.importorskip("pyarrow")
SAMPLE = Path(__file__).parents[2] / "sample"
SAID = ("marvin", "happy", "seven", "house")  # in the long recording, one every two seconds


class WindowTone(ToneEncoder):
    """A tone encoder that hears one second at once."""

    window = 1.0

    def confidence(self) -> None:
        raise AssertionError("search needs no confidence")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A long recording of four words by one voice, and short clips of other voices."""
    folder = tmp_path / "library"
    folder.mkdir()
    parts = []
    for word in SAID:
        waveform, rate = soundfile.read(sorted((SAMPLE / word).glob("*.wav"))[0])
        parts += [waveform[:rate], np.zeros(2 * rate - len(waveform[:rate]))]
    soundfile.write(folder / "long.wav", np.concatenate(parts), 16_000)
    for word in ("marvin", "yes"):
        (folder / word).mkdir()
        shutil.copy(sorted((SAMPLE / word).glob("*.wav"))[1], folder / word)
    return folder


@pytest.fixture
def index(library: Path) -> ClipIndex:
    return index_recordings(library, load_encoder("phonebind", device="cpu"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def text(word: str) -> np.ndarray:
    return load_encoder("phonebind", device="cpu").encode_text([word]).numpy()


def test_words_are_found_where_they_are_said(index: ClipIndex, library: Path) -> None:
    for place, word in enumerate(SAID):
        hits = [hit for hit in find(index, text(word), 3) if hit.path.endswith("long.wav")]
        assert hits and abs(hits[0].start - 2 * place) < 0.75, word
    best = find(index, text("yes"), 1)[0]
    assert best.path.endswith("yes/" + Path(best.path).name) and best.label == "yes" and best.seconds is None


def test_windows_are_a_hop_apart_and_silence_is_left_out(tmp_path: Path) -> None:
    rate, time = 16_000, np.arange(16_000 * 6) / 16_000
    tone = np.where((time >= 2) & (time < 4), 0.5 * np.sin(2 * np.pi * 1000 * time), 0.0)
    soundfile.write(tmp_path / "tone.wav", tone, rate)
    index = index_recordings(tmp_path, WindowTone(), hop=0.5)
    starts = [row.start for row in index.rows]
    assert starts == [1.0 + 0.5 * i for i in range(1, 6)] or starts == [1.5, 2.0, 2.5, 3.0, 3.5]
    assert {row.key for row in index.rows} == {f"tone.wav#{start:.2f}" for start in starts} and index.hop == 0.5
    assert all(row.seconds == 1.0 for row in index.rows)
    soundfile.write(tmp_path / "silent.wav", np.zeros(rate * 4), rate)
    assert len(index_recordings(tmp_path, WindowTone(), hop=0.5)) == 5
    with pytest.raises(AudioError, match="none of the 1 recordings holds any sound"):
        index_recordings(tmp_path / "silent.wav", WindowTone())
    with pytest.raises(VectorIndexError, match="a hop of 0 s"):
        index_recordings(tmp_path, WindowTone(), hop=0)


def test_windows_may_be_shorter_than_what_the_encoder_hears(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(np.arange(16_000 * 4)), 16_000)
    index = index_recordings(tmp_path, WindowTone(), hop=0.25, window=0.5)
    assert all(abs(row.seconds - 0.5) < 1e-9 for row in index.rows[2:-2]) and len(index) > 12
    for window in (0.0, 1.5):
        with pytest.raises(VectorIndexError, match="expected more than 0 and at most 1"):
            index_recordings(tmp_path, WindowTone(), window=window)
    with pytest.raises(VectorIndexError, match="hears whole recordings"):
        index_recordings(tmp_path, ToneEncoder(), window=0.5)


def test_hits_in_one_recording_do_not_overlap(index: ClipIndex) -> None:
    hits = find(index, text("marvin"), 8)
    middles = sorted(hit.start + 0.5 for hit in hits if hit.path.endswith("long.wav"))
    assert min(np.diff(middles)) >= 0.5 and [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)


def test_the_query_and_its_copies_can_be_left_out(index: ClipIndex, library: Path, tmp_path: Path) -> None:
    clip = next((library / "marvin").iterdir())
    shutil.copy(clip, tmp_path / "renamed.wav")
    vector = load_encoder("phonebind", device="cpu").encode_audio(
        [torch.from_numpy(soundfile.read(clip, dtype="float32")[0])]
    )
    assert find(index, vector.numpy(), 1)[0].path == str(clip)
    left = find(index, vector.numpy(), 1, same_recording(index, tmp_path / "renamed.wav"))
    assert left[0].path.endswith("long.wav")
    assert find(index, vector.numpy(), 1, duplicates=0.98)[0].path.endswith("long.wav")
    everything = find(index, vector.numpy(), len(index), {row.content for row in index.rows})
    assert everything == []


def test_snippets_are_the_sound_of_the_hit(library: Path, index: ClipIndex) -> None:
    whole, _ = soundfile.read(library / "long.wav", dtype="float32")
    hit = next(hit for hit in find(index, text("seven"), 3) if hit.path.endswith("long.wav"))
    first = max(0, round((hit.start - 0.1) * 16_000))
    expected = whole[first : round((hit.start + hit.seconds + 0.1) * 16_000)]
    np.testing.assert_allclose(snippet(hit, 16_000).numpy(), expected, atol=1e-6)


def test_arithmetic_is_that_of_unit_vectors() -> None:
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.5])
    torch.testing.assert_close(combine(torch.stack([a, b]), [1.0, -1.0]), torch.tensor([0.5**0.5, -(0.5**0.5)]))
    torch.testing.assert_close(combine(torch.stack([a, b]), [2.0, 0.0]), torch.tensor([1.0, 0.0]))
    with pytest.raises(QueryError, match="cancel each other out"):
        combine(torch.stack([a, a]), [1.0, -1.0])
    with pytest.raises(QueryError, match="1 weights for 2 queries"):
        combine(torch.stack([a, b]), [1.0])
    with pytest.raises(QueryError, match="one finite number"):
        combine(torch.stack([a, b]), [1.0, float("nan")])


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.sources += [value or "" for name, value in attributes if name == "src"]


def test_the_page_plays_hits_and_escapes_names() -> None:
    evil = '"><script>alert(1)</script>'
    page = search_page(evil, [PageHit(evil, "0:01.0", 0.5, evil, b"RIFF"), PageHit("b.wav", "", 0.4)], evil)
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.names and tags.names.count("audio") == 1 and tags.names.count("tr") == 3
    assert base64.b64decode(tags.sources[0].partition(",")[2]) == b"RIFF" and "not available" in page


def test_the_commands(capsys: pytest.CaptureFixture[str], library: Path, tmp_path: Path) -> None:
    place = tmp_path / "my.index"
    code, _, err = run(capsys, "index", library, "--output", place, "--quiet")
    assert code == 0 and "clips of 3 recordings" in err and "(exact)" in err
    page = tmp_path / "page.html"
    code, out, _ = run(capsys, "search", place, "marvin", "--top", "2", "--json", "--html", page)
    answer = json.loads(out)
    assert code == 0 and {Path(hit["path"]).name for hit in answer["hits"]} >= {"long.wav"}
    tags = Tags()
    tags.feed(page.read_text())
    sounds = [base64.b64decode(source.partition(",")[2]) for source in tags.sources]
    assert len(sounds) == 2 and all(soundfile.info(io.BytesIO(sound)).samplerate == 16_000 for sound in sounds)
    clip = next((library / "marvin").iterdir())
    code, out, _ = run(capsys, "search", place, "--like", clip, "--top", "1", "--json")
    assert json.loads(out)["hits"][0]["path"] == str(clip)
    code, out, _ = run(capsys, "search", place, "--like", clip, "--top", "1", "--not-same-recording")
    assert code == 0 and "long.wav" in out and "0:00" in out
    code, out, _ = run(capsys, "search", place, "yes", "--add", "marvin:0.01", "--top", "1", "--json")
    assert json.loads(out)["hits"][0]["label"] == "yes" and json.loads(out)["query"] == "yes + 0.01 × marvin"
    code, out, _ = run(capsys, "search", place, "yes", "--add", "marvin:50", "--top", "1", "--json")
    assert "marvin" in json.loads(out)["hits"][0]["path"] or json.loads(out)["hits"][0]["start"] < 0.5
    code, _, err = run(capsys, "index", place / "clips.parquet", "--output", tmp_path / "h", "--kind", "hnsw")
    assert code == 0 and "hnsw, which finds" in err
    code, out, _ = run(capsys, "search", tmp_path / "h", "seven", "--top", "1")
    assert code == 0 and "long.wav" in out


def test_a_table_can_be_searched(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kws_imagebind.datasets import load_dataset

    embed(ToneEncoder(), load_dataset("folder", root=tones)).save(tmp_path / "tones.parquet")
    (tmp_path / "tone.py").write_text("from tests.conftest import ToneEncoder\n\nload = ToneEncoder\n")
    asked = ("search", tmp_path / "tones.parquet", "1000", "--encoder", f"{tmp_path / 'tone.py'}:load")
    code, out, err = run(capsys, *asked, "--top", "8", "--json")
    assert code == 0 and {hit["label"] for hit in json.loads(out)["hits"]} == {"1000"}, err


def test_bad_input_gets_one_line(capsys: pytest.CaptureFixture[str], library: Path, tmp_path: Path) -> None:
    place = tmp_path / "my.index"
    run(capsys, "index", library / "marvin", "--output", place, "--quiet")

    def refused(reason: str, *arguments: str | Path) -> None:
        code, _, err = run(capsys, *arguments)
        assert code == 2 and reason in err and err.count("\n") == 1, err

    refused("the best 9 are asked for; expected 1 to 1", "search", place, "yes", "--top", "9")
    refused("there is nothing to look for", "search", place)
    refused("does not exist; expected an index", "search", tmp_path / "none", "yes")
    refused("is not an index", "search", library, "yes")
    (tmp_path / "cat.jpg").write_bytes(b"x")
    refused("encoder 'phonebind' takes no pictures", "search", place, "--like", tmp_path / "cat.jpg", "--top", "1")
    refused("'gone.wav' does not exist", "search", place, "--like", "gone.wav", "--top", "1")
    refused("expected a finite weight", "search", place, "yes", "--add", "no:nan", "--top", "1")
    refused("cancel each other out", "search", place, "yes", "--add", "yes:-1", "--top", "1")
    (tmp_path / "tone.py").write_text("from tests.conftest import ToneEncoder\n\nload = ToneEncoder\n")
    refused("the index is of encoder 'phonebind'", "search", place, "9", "--encoder", f"{tmp_path / 'tone.py'}:load")
    refused("there is no recording in it", "index", tmp_path / "my.index", "--output", tmp_path / "b", "--quiet")
    refused("does not exist; expected a folder", "index", tmp_path / "gone", "--output", tmp_path / "b", "--quiet")
    refused("is not an index; choose another name", "index", library, "--output", library, "--quiet")
    (library / "broken.wav").write_bytes(b"RIFF")
    refused("broken.wav", "index", library, "--output", tmp_path / "b", "--quiet")
    code, _, err = run(capsys, "index", library, "--output", tmp_path / "b", "--quiet", "--on-error", "skip")
    assert code == 0 and "skipped: " in err and len(ClipIndex.load(tmp_path / "b")) > 3
    assert recordings(library / "long.wav") == [library / "long.wav"]

"""pocketsphinx as a scorer: held against the package's own keyword spotter, and through the command line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from kws_imagebind.cli import main
from kws_imagebind.encoders.base import EncoderError, Scorer
from kws_imagebind.encoders.registry import load_encoder
from kws_imagebind.text.phonemes import PronunciationError

pocketsphinx = pytest.importorskip("pocketsphinx")

SAMPLE = Path(__file__).parents[2] / "sample"
WORDS = ["seven", "yes", "left", "wow"]


def clip(word: str) -> torch.Tensor:
    path = sorted((SAMPLE / word).glob("*.wav"))[0]
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 16_000
    return torch.from_numpy(samples)


def by_the_package(word: str, tmp_path: Path) -> dict[str, float]:
    """The same search with the package's own dictionary and words."""
    phrases = tmp_path / "words.kws"
    phrases.write_text("".join(f"{each} /1e-300/\n" for each in WORDS))
    decoder = pocketsphinx.Decoder(
        lm=None, kws_plp=1e-20, kws_delay=1, pl_window=0, cmn="batch", loglevel="FATAL",
    )  # fmt: skip
    decoder.add_kws("words", str(phrases))
    decoder.activate_search("words")
    decoder.start_utt()
    samples = (clip(word) * 32_767).round().to(torch.int16)
    decoder.process_raw(samples.numpy().tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    found: dict[str, float] = {}
    for each in decoder.seg():
        name = each.word.strip()
        found[name] = max(found.get(name, -math.inf), 1024 * math.log(each.prob))
    return found


def test_scores_are_those_of_the_package_s_keyword_spotter(tmp_path: Path) -> None:
    scorer = load_encoder("pocketsphinx")
    assert isinstance(scorer, Scorer)
    for word in ("seven", "yes"):
        expected = by_the_package(word, tmp_path)
        row = scorer.score([clip(word)], WORDS)[0]
        for name, score in zip(WORDS, row.tolist(), strict=True):
            if name in expected:
                assert score == pytest.approx(expected[name], abs=1e-3)
            else:
                assert score == pytest.approx(min(expected.values()) - 10)


def test_batches_and_the_order_of_the_words_change_nothing() -> None:
    scorer = load_encoder("pocketsphinx")
    clips = [clip("seven"), clip("left"), clip("seven")]
    at_once = scorer.score(clips, WORDS)  # type: ignore[attr-defined]
    assert torch.equal(at_once[0], at_once[2])
    assert torch.equal(at_once[1], scorer.score(clips[1:2], WORDS)[0])  # type: ignore[attr-defined]
    turned = scorer.score(clips, WORDS[::-1])  # type: ignore[attr-defined]
    assert torch.allclose(turned.flip(1), at_once)


def test_words_that_its_dictionary_lacks_get_a_pronunciation() -> None:
    scorer = load_encoder("pocketsphinx")
    said = scorer.pronunciations  # type: ignore[attr-defined]
    assert "zyzzyvic" not in scorer._dictionary and said("zyzzyvic")[0]  # type: ignore[attr-defined]
    assert said("tomato") == (("T", "AH", "M", "EY", "T", "OW"), ("T", "AH", "M", "AA", "T", "OW"))
    assert said("/S EH V AH N/") == (("S", "EH", "V", "AH", "N"),)
    own = scorer.score([clip("seven")], ["yes", "zyzzyvic", "x=/S EH V AH N/", "seven"])[0]  # type: ignore[attr-defined]
    assert own[2] == own[3] == own.max()
    with pytest.raises(PronunciationError, match="holds digits"):
        scorer.score([clip("seven")], ["yes", "7"])  # type: ignore[attr-defined]


def test_short_silent_and_loud_clips_are_scored() -> None:
    scorer = load_encoder("pocketsphinx")
    clips = [torch.zeros(10), torch.zeros(16_000), 3 * clip("yes"), torch.zeros(48_000)]
    assert scorer.score(clips, WORDS).isfinite().all()  # type: ignore[attr-defined]
    with pytest.raises(EncoderError, match="waveform 0 has the shape"):
        scorer.score([torch.zeros(2, 16_000)], WORDS)  # type: ignore[attr-defined]


def test_evaluate_takes_it_on_the_sample_and_on_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write_tone: Callable[..., Path]
) -> None:
    cache = ["--cache", str(tmp_path / "cache"), "--json", "--quiet"]
    assert main(["evaluate", "--encoder", "pocketsphinx", "--limit", "12", *cache]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["protocol"]["kind"] == "likelihood" and results["n"] == 12
    assert results["card"]["licence"] == "BSD-2-Clause" and results["card"]["bytes"] > 1e6
    assert main(["evaluate", "--encoder", "pocketsphinx", "--limit", "12", *cache]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["cached"] == 12 and again["metrics"] == results["metrics"]
    folder = ["--dataset", "folder", "--data", str(SAMPLE), "--keywords", "seven,yes", "--open-set", "--limit", "6"]
    assert main(["evaluate", "--encoder", "pocketsphinx", *folder, *cache]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cached"] == 0  # other words are other scores
    assert {each["rule"] for each in found["open_set"]} == {"best score", "margin"}


def test_it_hears_real_speech_commands(real_clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--encoder", "pocketsphinx", "--data", str(real_clips), "--split", "validation"]
    assert main([*command, "--task", "v2-10", "--limit", "60", "--json", "--quiet", "--no-cache"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"]["low"] > 0.5  # chance is 0.1


@pytest.mark.parametrize("arguments", [["spot", "CLIP", "--words", "yes,no"], ["evaluate", "--reject", "--limit", "2"]])
def test_what_needs_vectors_refuses_it(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], write_tone: Callable[..., Path]
) -> None:
    path = write_tone(tmp_path / "clip.wav")
    command = [str(path) if each == "CLIP" else each for each in arguments]
    assert main([*command, "--encoder", "pocketsphinx"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_without_the_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(EncoderError, match="needs the package pocketsphinx; install"):
        load_encoder("pocketsphinx")


def test_it_runs_on_the_cpu_only() -> None:
    assert load_encoder("pocketsphinx", device="cpu").name == "pocketsphinx"
    with pytest.raises(EncoderError, match="runs on the CPU only, not on 'cuda'"):
        load_encoder("pocketsphinx", device="cuda")


def test_its_fingerprint_names_the_release_and_the_search() -> None:
    assert load_encoder("pocketsphinx").fingerprint == f"pocketsphinx-{_release()}-kws-2-1e-20"


def _release() -> str:
    from importlib.metadata import version

    return version("pocketsphinx")


def test_clipping_stays_within_sixteen_bits() -> None:
    scorer = load_encoder("pocketsphinx")
    loud = torch.from_numpy(np.sign(np.sin(np.arange(16_000) / 9)).astype(np.float32)) * 5
    assert torch.equal(scorer.score([loud], WORDS), scorer.score([loud / 5], WORDS))  # type: ignore[attr-defined]

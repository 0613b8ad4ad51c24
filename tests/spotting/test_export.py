"""The exported file hears what PyTorch hears, with nothing of this package around it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import kws_imagebind as kws
from kws_imagebind.audio.files import load_audio
from kws_imagebind.audio.signal import fit
from kws_imagebind.encoders.phonebind import PhoneBindEncoder, PhoneBindLarge
from kws_imagebind.models.phonebind import SAMPLES
from kws_imagebind.spotting.export import FrontEnd, apart_in_window
from kws_imagebind.spotting.judge import Judge
from kws_imagebind.spotting.windows import tenths
from tests.models.test_ensemble import files, members
from tests.spotting.test_spotting import RATE, SAMPLE, clip, joined

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_spotter.py"


@pytest.fixture(scope="module")
def encoder() -> PhoneBindEncoder:
    return PhoneBindEncoder.from_weights(device="cpu")


def sample_windows(count: int) -> tuple[list[str], torch.Tensor]:
    paths = sorted(SAMPLE.glob("*/*.wav"))[:: max(1, 315 // count)]
    return [path.parent.name for path in paths], torch.stack([fit(load_audio(path, RATE), SAMPLES) for path in paths])


def test_the_front_end_is_that_of_the_encoder(encoder: PhoneBindEncoder) -> None:
    _, windows = sample_windows(20)
    with torch.inference_mode():
        found = FrontEnd(encoder.front_end)(windows)
    expected = torch.stack([encoder.mel(window).T for window in windows])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.mean()))


@pytest.mark.parametrize("int8", [False, True])
def test_the_file_gives_pytorchs_cosines_and_scores(tmp_path: Path, encoder: PhoneBindEncoder, int8: bool) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from kws_imagebind.spotting.export import export, session_of

    labels, windows = sample_windows(105)
    scorer = kws.ZeroShotClassifier(encoder, sorted(set(labels)))
    made = export(encoder, scorer, tmp_path / "spotter.onnx", threshold={"yes": 0.7}, int8=int8)
    assert made.bytes == made.path.stat().st_size <= (2_100_000 if int8 else 3_000_000)
    cosines, scores = session_of(made.path).run(None, {"waveforms": windows.numpy()})
    expected = scorer(encoder.encode_audio(list(windows))).values.numpy()
    assert np.abs(cosines - expected).max() < (0.02 if int8 else 1e-4)
    assert (cosines.argmax(1) == expected.argmax(1)).mean() >= (0.99 if int8 else 1.0)
    # One window by itself, unsmoothed, judged as a stream's are.
    judge = Judge(encoder, scorer)
    vectors, spelling = encoder.encode_mel(torch.stack([encoder.mel(window) for window in windows]))
    assert judge.speech and judge.speller
    others = vectors @ judge.fillers.T
    judged = judge.speech(
        scorer(vectors).values,
        others.topk(10, dim=1).values.mean(1, keepdim=True),
        others.std(1, correction=0, keepdim=True),
        judge.speller(spelling),
        judge.speller.phonemes,
        apart_in_window(tenths(windows, RATE))[:, None],
    )
    assert np.abs(scores - judged.numpy()).max() < (0.2 if int8 else 1e-3)
    about = session_of(made.path).get_modelmeta().custom_metadata_map
    assert json.loads(about["words"]) == list(scorer.labels) and json.loads(about["thresholds"])["yes"] == 0.7
    assert json.loads(about["thresholds"])["no"] == 0.5 and json.loads(about["card"])["licence"] == "MIT"
    assert about["fingerprint"] == encoder.fingerprint and about["precision"] == ("int8" if int8 else "float32")


def test_an_ensemble_is_exported_with_all_its_front_ends(
    tmp_path: Path, encoder: PhoneBindEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from kws_imagebind.spotting.export import export, session_of

    files(tmp_path, members())
    whole = PhoneBindLarge.from_weights(tmp_path, device="cpu")
    monkeypatch.setattr(PhoneBindLarge, "speech_confidence", lambda _: encoder.speech_confidence())
    scorer = kws.ZeroShotClassifier(whole, ["yes", "left", "data"])
    made = export(whole, scorer, tmp_path / "spotter.onnx")
    _, windows = sample_windows(20)
    cosines, _ = session_of(made.path).run(None, {"waveforms": windows.numpy()})
    assert np.abs(cosines - scorer(whole.encode_audio(list(windows))).values.numpy()).max() < 1e-4
    about = session_of(made.path).get_modelmeta().custom_metadata_map
    assert json.loads(about["card"])["name"] == "phonebind-large"


def test_enrolled_words_are_exported_with_their_examples(tmp_path: Path, encoder: PhoneBindEncoder) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from kws_imagebind.spotting.export import export, session_of

    sample = Path(__file__).parents[2] / "sample"
    words = kws.enrol(encoder, {"yes": sorted((sample / "yes").glob("*.wav"))[:2], "no": ()}, {"yes": 0.6})
    made = export(encoder, words, tmp_path / "spotter.onnx")
    _, windows = sample_windows(20)
    cosines, _ = session_of(made.path).run(None, {"waveforms": windows.numpy()})
    assert np.abs(cosines - words(encoder.encode_audio(list(windows))).values.numpy()).max() < 1e-4
    about = session_of(made.path).get_modelmeta().custom_metadata_map
    assert json.loads(about["thresholds"]) == {"yes": 0.6, "no": 0.5}


def test_the_example_finds_what_spot_finds(tmp_path: Path, encoder: PhoneBindEncoder) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from kws_imagebind.spotting.export import export

    samples, _ = joined(0.6, clip("happy"), 0.6, clip("left", 2), 0.6, clip("stop", 2), 0.6)
    soundfile.write(tmp_path / "said.wav", samples, RATE)
    words = ["left", "stop", "kettle"]
    export(encoder, words, tmp_path / "spotter.onnx")
    command = [sys.executable, str(EXAMPLE), str(tmp_path / "spotter.onnx"), str(tmp_path / "said.wav")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    expected = kws.detect(tmp_path / "said.wav", words, encoder)
    assert [line.split()[2] for line in told] == [hit.word for hit in expected] == ["left", "stop"]
    assert len(EXAMPLE.read_text().splitlines()) <= 40


def test_what_cannot_be_exported_is_said(tmp_path: Path, encoder: PhoneBindEncoder) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from kws_imagebind.spotting.export import export

    with pytest.raises(ValueError, match=r"does not end in \.onnx"):
        export(encoder, ["yes"], tmp_path / "spotter.bin")
    with pytest.raises(ValueError, match="expected a number from 0 to 1"):
        export(encoder, ["yes"], tmp_path / "spotter.onnx", threshold=3)
    assert not list(tmp_path.iterdir())

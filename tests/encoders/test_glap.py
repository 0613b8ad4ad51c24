"""GLAP through the command line, held against its own package: a tiny model of the real classes, random weights."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch

from kws_imagebind.cli import main
from kws_imagebind.encoders.base import Encoder, EncoderError
from kws_imagebind.encoders.registry import load_encoder

glap_model = pytest.importorskip("glap_model")

from tests.encoders import checkpoints  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # notices of other libraries about their own future

WORDS = ["yes", "no", "follow"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a test reached for a network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    checkpoints.quiet()


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return checkpoints.glap(tmp_path, monkeypatch)


def test_glap_equals_its_package(checkpoint: Path) -> None:
    from glap_model.models import GLAPInference

    encoder = load_encoder(f"glap:{checkpoint}", device="cpu")
    assert isinstance(encoder, Encoder) and encoder.sample_rate == 16_000 and encoder.dim == 8
    model = GLAPInference.from_pretrained(str(checkpoint)).eval()
    generator = torch.Generator().manual_seed(1)
    waveforms = [0.1 * torch.randn(round(16_000 * seconds), generator=generator) for seconds in (1.0, 0.7, 1.0)]
    with torch.inference_mode():
        audio = torch.cat([model.encode_audio(waveform[None]) for waveform in waveforms])
        text = model.encode_text(WORDS)
        scores = torch.cat([model.score_forward(waveform[None], text=WORDS) for waveform in waveforms])
    assert torch.allclose(encoder.encode_audio(waveforms), audio, atol=1e-5)
    assert torch.allclose(encoder.encode_text(WORDS), text, atol=1e-5)
    own = 100 * encoder.encode_audio(waveforms) @ encoder.encode_text(WORDS).T
    assert torch.allclose(own, scores, atol=1e-3)
    assert encoder.encode_audio([torch.zeros(10)]).isfinite().all()


def test_the_command_line_runs_it(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--encoder", f"glap:{checkpoint}", "--keywords", "yes,no", "--limit", "4", "--no-cache"]
    assert main([*command, "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 4 and found["card"]["licence"] == "Apache-2.0" and found["protocol"]["templates"] == ["{}"]


def test_missing_weights_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(EncoderError, match=r"GLAP \(about 3.4 GB, Apache-2.0\) are not .* and HF_HUB_OFFLINE is set; "):
        load_encoder("glap")
    with pytest.raises(EncoderError, match=r"there is no checkpoint file 'nowhere\.pt'"):
        load_encoder("glap:nowhere.pt")
    monkeypatch.setattr("kws_imagebind.encoders.glap.is_offline", lambda: False)

    def unreachable(url: str, path: str) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(EncoderError, match=r"cannot be fetched \(no route to host\); fetch them with"):
        load_encoder("glap")


def test_another_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(EncoderError, match=r"other\.pt' cannot be loaded: [^\n]+$"):
        load_encoder(f"glap:{path}")

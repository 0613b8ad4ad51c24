"""What every encoder has, and the sentence for one that lacks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kws_imagebind.cli import main
from kws_imagebind.encoders import EncoderError, load_encoder
from kws_imagebind.encoders.base import Encoder, audio_fingerprint, check_encoder, check_vectors
from tests.conftest import ToneEncoder

GIVEN: dict[str, Any] = {
    "name": "mine",
    "sample_rate": 16_000,
    "dim": 3,
    "fingerprint": "mine-1",
    "default_template": "{}",
    "encode_audio": lambda self, waveforms: torch.eye(3)[: len(waveforms)],
    "encode_text": lambda self, texts: torch.eye(3)[: len(texts)],
}


def made(**changed: Any) -> object:
    return type("Mine", (), {name: value for name, value in (GIVEN | changed).items() if value is not ...})()


def test_an_encoder_passes_as_it_is(tone_encoder: ToneEncoder) -> None:
    for encoder in (tone_encoder, made(), load_encoder("phonebind", device="cpu")):
        assert check_encoder(encoder) is encoder


@pytest.mark.parametrize("name", GIVEN)
def test_a_missing_attribute_is_named_with_its_kind(name: str) -> None:
    kind = "a method" if name.startswith("encode") else "a whole number" if name in ("dim", "sample_rate") else "a text"
    with pytest.raises(EncoderError, match=f"^Mine is not an encoder: it has no attribute '{name}'; expected {kind}"):
        check_encoder(made(**{name: ...}))


def test_the_protocol_and_the_check_ask_for_the_same() -> None:
    assert set(GIVEN) == {*Encoder.__annotations__, *(name for name in vars(Encoder) if name.startswith("encode"))}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("dim", "3", "Mine.dim is '3'; expected a whole number"),
        ("dim", 0, "Mine.dim is 0; expected a whole number"),
        ("sample_rate", True, "Mine.sample_rate is True"),
        ("fingerprint", None, "Mine.fingerprint is None; expected a text"),
        ("encode_text", "text", "Mine.encode_text is 'text'; expected a method: texts -> tensor"),
    ],
)
def test_an_attribute_of_the_wrong_kind_is_shown(name: str, value: object, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        check_encoder(made(**{name: value}))


def test_a_class_is_not_an_encoder() -> None:
    with pytest.raises(
        EncoderError, match=r"ToneEncoder is a class, not an encoder; create one, as in ToneEncoder\(\)"
    ):
        check_encoder(ToneEncoder)


def test_vectors_that_are_no_tensor_are_named() -> None:
    with pytest.raises(EncoderError, match=r"'mine' returned a ndarray; expected a torch.Tensor of shape \(n, dim\)"):
        check_vectors(np.eye(3), 3, check_encoder(made()))  # type: ignore[arg-type]


def test_phonebinds_texts_change_its_fingerprint_and_not_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    import kws_imagebind.encoders.phonebind as module

    before = load_encoder("phonebind", device="cpu")
    monkeypatch.setattr(module, "bundled_digest", lambda path: f"another {path.name}")
    after = load_encoder("phonebind", device="cpu")
    assert before.fingerprint != after.fingerprint
    assert audio_fingerprint(before) == audio_fingerprint(after) != before.fingerprint
    assert audio_fingerprint(ToneEncoder()) == ToneEncoder.fingerprint


def test_the_ten_lines_of_the_docs_are_an_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text(encoding="utf-8")
    code = text.partition("## Your own in ten lines")[2].partition("```python\n")[2].partition("```")[0]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 10
    (tmp_path / "mine.py").write_text(code)
    command = [
        "evaluate",
        "--encoder",
        f"{tmp_path / 'mine.py'}:Mine",
        "--limit",
        "8",
        "--no-cache",
        "--json",
        "--quiet",
    ]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["encoder"] == "mine" and found["n"] == 8

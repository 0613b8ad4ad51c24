"""PhoneBind's towers: shapes, invariances, and weights that survive a round trip."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kws_imagebind.encoders.base import EncoderError
from kws_imagebind.encoders.phonebind import WEIGHTS, PhoneBindEncoder
from kws_imagebind.models.phonebind import (
    SAMPLES,
    PhoneBind,
    PhoneBindConfig,
    features,
    load,
    phoneme_indices,
    save,
)
from kws_imagebind.phonemes import lookup

SMALL = PhoneBindConfig(mels=16, stem=(4, 8), width=24, blocks=1, text_width=16, text_blocks=1, dim=12)


@pytest.fixture(scope="module")
def model() -> PhoneBind:
    torch.manual_seed(0)
    return PhoneBind(SMALL).eval()


@pytest.fixture(scope="module")
def bundled() -> PhoneBind:
    return load(WEIGHTS)


def noise(count: int) -> torch.Tensor:
    return torch.randn(count, SAMPLES, generator=torch.Generator().manual_seed(1)) * 0.1


def test_both_towers_end_in_unit_vectors_of_one_space(model: PhoneBind) -> None:
    heard, read = model.encode_audio(noise(3)), model.encode_text([lookup("lamp")[0], lookup("window")[0]])
    assert heard.shape == (3, 12) and read.shape == (2, 12)
    torch.testing.assert_close(torch.cat([heard, read]).norm(dim=1), torch.ones(5))


def test_the_spelling_has_a_frame_every_30_ms(model: PhoneBind) -> None:
    spelling = model.audio(torch.zeros(2, 16, 98))[1]
    assert spelling.shape == (2, 33, 40)


def test_gain_does_not_matter(bundled: PhoneBind) -> None:
    clips = noise(2)
    with torch.inference_mode():
        torch.testing.assert_close(bundled.encode_audio(clips), bundled.encode_audio(clips * 1e-3), atol=1e-4, rtol=0)


def test_silence_is_heard_without_nan(bundled: PhoneBind) -> None:
    with torch.inference_mode():
        assert bundled.encode_audio(torch.zeros(1, SAMPLES)).isfinite().all()


def test_features_are_standardised_and_floored() -> None:
    mel = torch.rand(3, 16, 98, generator=torch.Generator().manual_seed(0)) ** 8
    x = features(mel)
    torch.testing.assert_close(x.mean((1, 2)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std((1, 2)), torch.ones(3), atol=2e-3, rtol=0)
    torch.testing.assert_close(features(mel * 50), x)


def test_padding_of_a_batch_of_pronunciations_changes_nothing(bundled: PhoneBind) -> None:
    short, long = lookup("go")[0], lookup("antidisestablishmentarianism")[0]
    with torch.inference_mode():
        together = bundled.encode_text([short, long])
        alone = torch.cat([bundled.encode_text([short]), bundled.encode_text([long])])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_the_order_of_phonemes_matters(bundled: PhoneBind) -> None:
    with torch.inference_mode():
        tack, cat = bundled.encode_text([("T", "AE", "K"), ("K", "AE", "T")])
    assert tack @ cat < 0.9


def test_a_saved_model_is_loaded_as_it_was_but_for_float16(model: PhoneBind, tmp_path: Path) -> None:
    save(model, tmp_path / "model.safetensors", {"note": "x"})
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    loaded = load(tmp_path / "model.safetensors")
    assert loaded.config == SMALL and not loaded.training
    with torch.inference_mode():
        similarity = (loaded.encode_audio(noise(4)) * model.encode_audio(noise(4))).sum(1)
    assert similarity.min() > 0.999
    assert phoneme_indices([("AA",)]).tolist() == [[1]]


def test_a_file_that_holds_no_phonebind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    for name in ("weights.safetensors", "missing.safetensors"):
        with pytest.raises(EncoderError, match="holds no PhoneBind weights"):
            PhoneBindEncoder.from_weights(tmp_path / name)

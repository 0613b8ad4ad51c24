"""PhoneBind's towers: shapes, invariances, and weights that survive a round trip."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kws_imagebind.audio.files import load_audio
from kws_imagebind.audio.signal import fit
from kws_imagebind.encoders import load_encoder
from kws_imagebind.encoders.base import EncoderError
from kws_imagebind.encoders.phonebind import WEIGHTS, PhoneBindEncoder
from kws_imagebind.models.int8 import from_int8, to_int8
from kws_imagebind.models.phonebind import (
    SAMPLES,
    PhoneBind,
    PhoneBindConfig,
    by_band,
    features,
    grown,
    load,
    phoneme_indices,
    save,
)
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.text.phonemes import lookup
from kws_imagebind.text.tasks import SPEECH_COMMANDS_WORDS

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


@cache
def clips() -> torch.Tensor:
    """Every recording of the bundled sample, (n, samples)."""
    paths = sorted((Path(__file__).parents[2] / "sample").glob("*/*.wav"))
    return torch.stack([fit(load_audio(path, 16_000), SAMPLES) for path in paths])


def test_both_towers_end_in_unit_vectors_of_one_space(model: PhoneBind) -> None:
    heard, read = model.encode_audio(noise(3)), model.encode_text([lookup("lamp")[0], lookup("window")[0]])
    assert heard.shape == (3, 12) and read.shape == (2, 12)
    torch.testing.assert_close(torch.cat([heard, read]).norm(dim=1), torch.ones(5))


def test_the_spelling_has_a_frame_every_30_ms(model: PhoneBind) -> None:
    spelling = model.audio(torch.zeros(2, 16, 98))[1]
    assert spelling.shape == (2, 33, 40)


@pytest.mark.parametrize("more", [{"blocks": 2}, {"bands": True}, {"blocks": 1, "bands": True}])
def test_a_grown_model_hears_the_same_until_it_learns(more: dict[str, Any]) -> None:
    torch.manual_seed(0)
    small = PhoneBind(replace(SMALL, bands=False)).eval()
    larger = grown(small, **more).eval()
    assert len(larger.audio.blocks) == 1 + more.get("blocks", 0)
    assert larger.config.bands == more.get("bands", False)
    x = torch.randn(3, 16, 100)
    with torch.inference_mode():
        for found, expected in zip(larger.audio(x), small.audio(x), strict=True):
            assert torch.allclose(found, expected, atol=1e-6)
    for learns in (larger.audio.blocks[-1].get_parameter("scale"), larger.audio.stem1.weight):
        gradient = torch.autograd.grad(larger.audio(x)[0][:, 0].sum(), learns)[0]
        assert gradient[:, -1].abs().max() > 0 if learns.ndim > 1 else gradient.abs().max() > 0


def test_a_band_by_itself_is_free_of_the_microphone() -> None:
    x, equaliser = torch.randn(2, 16, 98), torch.randn(2, 16, 1)
    torch.testing.assert_close(by_band(x + equaliser), by_band(x))
    assert by_band(x).mean(2).abs().max() < 1e-6
    still = by_band(torch.zeros(1, 16, 98) + equaliser[:1])
    assert still.abs().max() < 1e-5


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


def test_a_file_of_the_first_release_is_still_read(tmp_path: Path) -> None:
    """It does not say that it has no residual blocks in its stem."""
    path, model = tmp_path / "model.safetensors", PhoneBind(replace(SMALL, stem_blocks=0)).eval()
    save(model, path, {})
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    assert config.pop("stem_blocks") == 0
    save_file(tensors, path, metadata={"config": json.dumps(config)})
    assert load(path).config == model.config


def test_int8_storage_is_half_as_large_and_says_the_same(bundled: PhoneBind, tmp_path: Path) -> None:
    save(bundled, tmp_path / "whole.safetensors", {})
    save(bundled, tmp_path / "small.safetensors", {"note": "x"}, storage="int8")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "small")]
    assert sizes[1] < 0.56 * sizes[0]
    loaded = load(tmp_path / "small.safetensors")
    assert loaded.config == bundled.config
    for (name, kept), original in zip(loaded.state_dict().items(), bundled.state_dict().values(), strict=True):
        if original.ndim > 1:  # no number is off by more than half a step of its row
            step = original.flatten(1).abs().amax(1).view(-1, *[1] * (original.ndim - 1)) / 127
            assert bool(((kept - original).abs() <= 0.51 * step + 1e-3 * original.abs()).all()), name
    waveforms = clips()
    words = [lookup(word)[0] for word in SPEECH_COMMANDS_WORDS]
    with torch.inference_mode():
        before, after = (each.encode_audio(waveforms) for each in (bundled, loaded))
        read, again = (each.encode_text(words) for each in (bundled, loaded))
    assert float((before * after).sum(1).min()) > 0.999 and float((read * again).sum(1).min()) > 0.999
    assert float(((before @ read.T).argmax(1) == (after @ again.T).argmax(1)).float().mean()) >= 0.995
    save(loaded, tmp_path / "again.safetensors", {}, storage="int8")  # what was stored is stored as it was
    for name, kept in load(tmp_path / "again.safetensors").state_dict().items():
        torch.testing.assert_close(kept, loaded.state_dict()[name], atol=1e-6, rtol=1e-6)


def test_rows_of_int8_are_scaled_one_by_one() -> None:
    table = torch.randn(40, 3, 5) * torch.logspace(-4, 4, 40)[:, None, None]
    stored, scale = to_int8(table)
    assert stored.dtype == torch.int8 and scale.shape == (40,)
    assert int(stored.abs().max()) == 127 and bool((stored.flatten(1).abs().amax(1) == 127).all())
    worst = ((from_int8(stored, scale) - table).abs().flatten(1).amax(1) / table.abs().flatten(1).amax(1)).max()
    assert float(worst) <= 0.5 / 127 + 1e-6


def _spoilt(tensors: dict[str, torch.Tensor], how: str) -> None:
    name = "audio.blocks.0.expand.weight"
    scale = tensors[f"{name}:scale"]
    match how:
        case "no scales":
            del tensors[f"{name}:scale"]
        case "too few scales":
            tensors[f"{name}:scale"] = scale[1:].clone()
        case "a scale that is not finite":
            scale[3] = float("nan")
        case "a scale below zero":
            scale[0] = -1.0
        case "scales of another kind":
            tensors[f"{name}:scale"] = scale.half()
        case "scales of nothing":
            tensors["audio.norm.bias:scale"] = scale.clone()
        case "a tensor gone":
            del tensors[name], tensors[f"{name}:scale"]
        case "a tensor of another shape":
            tensors[name] = tensors[name][:, 1:].clone()
        case "a number that is not finite":
            tensors["audio.norm.bias"][0] = float("inf")


@pytest.mark.parametrize(
    "how",
    ["no scales", "too few scales", "a scale that is not finite", "a scale below zero", "scales of another kind",
     "scales of nothing", "a tensor gone", "a tensor of another shape", "a number that is not finite", "cut short"],
)  # fmt: skip
def test_damaged_int8_weights_are_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "model.safetensors"
    save(PhoneBind(replace(SMALL, width=64)), path, {}, storage="int8")
    PhoneBindEncoder.from_weights(path, device="cpu")
    if how == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        _spoilt(tensors, how)
        save_file(tensors, path, metadata=metadata)
    with pytest.raises(EncoderError, match="does not hold PhoneBind weights"):
        PhoneBindEncoder.from_weights(path, device="cpu")


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_smaller_numbers_say_the_same(precision: str) -> None:
    whole, small = (load_encoder("phonebind", device="cpu", precision=each) for each in ("fp32", precision))
    assert small.audio_fingerprint.startswith(f"{whole.audio_fingerprint}-{precision}")
    waveforms = list(clips())
    before = whole.encode_audio(waveforms)
    after = torch.cat([small.encode_audio(waveforms[start : start + 50]) for start in range(0, len(waveforms), 50)])
    assert float((before * after).sum(1).min()) > 0.999
    scorer = ZeroShotClassifier(whole, SPEECH_COMMANDS_WORDS)
    same = scorer(before).values.argmax(1) == ZeroShotClassifier(small, SPEECH_COMMANDS_WORDS)(after).values.argmax(1)
    assert float(same.float().mean()) >= 0.995
    torch.testing.assert_close(small.encode_audio(waveforms[:1]), after[:1], atol=5e-3, rtol=0)


def test_half_precision_is_for_a_gpu() -> None:
    with pytest.raises(EncoderError, match="no precision 'fp16' on cpu; choose fp32, bf16, int8"):
        load_encoder("phonebind", device="cpu", precision="fp16")


def test_a_file_that_holds_no_phonebind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    for name, reason in (("weights", "does not hold PhoneBind weights"), ("missing", "there is no such file")):
        with pytest.raises(EncoderError, match=rf"{name}\.safetensors'.*{reason}"):
            PhoneBindEncoder.from_weights(tmp_path / f"{name}.safetensors")

"""ImageBind's towers against what the reference computed from the same formula weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kws_imagebind.audio.resample import resample
from kws_imagebind.encoders.imagebind import frontend
from kws_imagebind.encoders.imagebind.tokenizer import tokenize
from kws_imagebind.models.imagebind import ImageBind, ImageBindConfig, StateDictError
from kws_imagebind.models.transformer import TransformerConfig
from tests.golden import formula_weights as formula

GOLDEN = Path(__file__).parents[1] / "golden"
SHARED = Path(__file__).parents[3] / "shared" / "golden"
SALT = "public"
SMALL = ImageBindConfig.sizes(audio=(96, 3, 6), text=(48, 3, 4), vision=(64, 2, 4), dim=40)
SHAPES = json.loads((GOLDEN / "small_shapes.json").read_text())


def small_weights(*modalities: str) -> dict[str, torch.Tensor]:
    return formula.state_dict(SALT, SHAPES, modalities or ("audio", "text", "vision"))


def small_model(*modalities: str) -> ImageBind:
    with torch.device("meta"):
        model = ImageBind(SMALL, modalities or ("audio", "text", "vision"))
    model.load_state_dict(small_weights(*model.modalities), assign=True)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model() -> ImageBind:
    return small_model()


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    """Eight recordings of three windows each, sixteen texts, three images."""
    recordings = []
    for index in range(len(formula.WAVEFORMS)):
        samples, rate = formula.waveform(SALT, index)
        windows = frontend.cut_windows(resample(torch.from_numpy(samples), rate, 16_000))
        recordings.append(frontend.normalise(frontend.mel_images(windows)).expand(3, -1, -1, -1))
    images = [formula.image(SALT, index) for index in range(3)]
    return {"audio": torch.stack(recordings), "text": tokenize(formula.TEXTS), "vision": torch.stack(images)}


@pytest.mark.parametrize("modality", ["audio", "text", "vision"])
def test_outputs_are_the_references(model: ImageBind, inputs: dict[str, torch.Tensor], modality: str) -> None:
    expected = torch.from_numpy(np.load(GOLDEN / "small.npz")[modality])
    found = model({modality: inputs[modality]})[modality]
    assert torch.allclose(found, expected, atol=1e-3, rtol=0)
    assert torch.cosine_similarity(found, expected).min() > 0.99999


@pytest.mark.full_size
@pytest.mark.skipif(not SHARED.exists(), reason="the full-size golden files are not here")
@pytest.mark.parametrize("modality", ["audio", "text", "vision"])
def test_full_size_outputs_are_the_references(inputs: dict[str, torch.Tensor], modality: str) -> None:
    with torch.device("meta"):
        huge = ImageBind(ImageBindConfig.huge(), (modality,))
    shapes = json.loads((SHARED / "huge_shapes.json").read_text())
    huge.load_state_dict(formula.state_dict(SALT, shapes, (modality,)), assign=True)
    expected = torch.from_numpy(np.load(SHARED / "huge.npz")[modality])
    with torch.inference_mode():
        found = huge({modality: inputs[modality]})[modality]
    assert torch.allclose(found, expected, atol=1e-3, rtol=0)
    assert torch.cosine_similarity(found, expected).min() > 0.99999


@pytest.mark.skipif(not SHARED.exists(), reason="the full-size list of tensors is not here")
def test_full_size_model_has_exactly_the_published_tensors() -> None:
    with torch.device("meta"):
        huge = ImageBind(ImageBindConfig.huge())
    published = json.loads((SHARED / "huge_shapes.json").read_text())
    ours = {name: list(value.shape) for name, value in huge.state_dict().items()}
    assert ours == {name: shape for name, shape in published.items() if name.split(".")[1] in huge.modalities}


def test_all_six_modalities_of_the_checkpoint_may_be_given() -> None:
    everything = formula.state_dict(SALT, SHAPES, ("audio", "text", "vision", "depth", "thermal", "imu"))
    ImageBind(SMALL, ("text",)).load_state_dict(everything)


def test_only_the_modalities_asked_for_are_built() -> None:
    model = small_model("audio")
    assert all(name.split(".")[1] == "audio" for name, _ in model.named_parameters())
    with pytest.raises(ValueError, match="built without text; it has audio"):
        model.embed("text", tokenize(["yes"]))
    with pytest.raises(ValueError, match="unknown modality"):
        ImageBind(SMALL, ("smell",))


def test_wrong_tensors_are_named() -> None:
    weights = small_weights("audio")
    weights["modality_trunks.audio.blocks.9.norm_1.bias"] = weights.pop("modality_heads.audio.2.weight")
    weights["modality_preprocessors.audio.cls_token"] = torch.zeros(1, 1, 95)
    with pytest.raises(StateDictError) as error:
        ImageBind(SMALL, ("audio",)).load_state_dict(weights)
    assert "1 missing (modality_heads.audio.2.weight)" in str(error.value)
    assert "1 unexpected (modality_trunks.audio.blocks.9.norm_1.bias)" in str(error.value)
    assert "modality_preprocessors.audio.cls_token is (1, 1, 95), not (1, 1, 96)" in str(error.value)


def test_a_tensor_of_an_unheard_of_modality_is_named() -> None:
    weights = small_weights("text") | {"modality_heads.smell.0.weight": torch.zeros(3)}
    with pytest.raises(StateDictError, match=r"unexpected .modality_heads\.smell\.0\.weight"):
        ImageBind(SMALL, ("text",)).load_state_dict(weights)


def test_batch_size_changes_nothing(model: ImageBind, inputs: dict[str, torch.Tensor]) -> None:
    for modality, rows in inputs.items():
        together = model({modality: rows})[modality]
        alone = torch.cat([model({modality: row[None]})[modality] for row in rows])
        assert torch.allclose(together, alone, atol=2e-5)


def test_what_follows_the_end_of_a_text_changes_nothing(model: ImageBind) -> None:
    short = tokenize(["a person saying yes"])
    beside_a_long_one = tokenize(["a person saying yes", "word " * 100])
    assert torch.allclose(model.embed("text", short), model.embed("text", beside_a_long_one)[:1], atol=1e-6)


def test_embeddings_are_unit_and_outputs_are_scaled(model: ImageBind, inputs: dict[str, torch.Tensor]) -> None:
    unit = model.embed("audio", inputs["audio"][:, 0])
    scaled = model({"audio": inputs["audio"][:, :1]})["audio"]
    assert torch.allclose(unit.norm(dim=-1), torch.ones(8))
    assert torch.allclose(scaled, 20 * unit, atol=1e-5)


def test_text_scale_is_capped() -> None:
    weights = small_weights("text") | {"modality_postprocessors.text.1.log_logit_scale": torch.tensor(9.0)}
    model = ImageBind(SMALL, ("text",))
    model.load_state_dict(weights)
    assert torch.allclose(model({"text": tokenize(["yes"])})["text"].norm(), torch.tensor(100.0))


def test_an_image_is_a_video_of_two_equal_frames(model: ImageBind, inputs: dict[str, torch.Tensor]) -> None:
    images = inputs["vision"]
    clips = images[:, None, :, None].expand(-1, 2, -1, 2, -1, -1)  # (B, 2 clips, 3, 2 frames, 224, 224)
    assert torch.allclose(model({"vision": clips})["vision"], model({"vision": images})["vision"], atol=1e-5)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="5 heads do not divide 96"):
        TransformerConfig(dim=96, depth=1, heads=5)

"""The ImageBind encoder on checkpoint files of the official layout, written here from formula weights."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kws_imagebind import load_encoder
from kws_imagebind.audio.resample import resample
from kws_imagebind.cli import main
from kws_imagebind.encoders import Encoder, EncoderError
from kws_imagebind.encoders.imagebind import download as imagebind_download
from kws_imagebind.encoders.imagebind import frontend
from kws_imagebind.encoders.imagebind import weights as weights
from kws_imagebind.encoders.imagebind.encoder import ImageBindEncoder, resolve_precision
from kws_imagebind.models.checkpoint import data_start
from kws_imagebind.models.imagebind import ImageBind, ImageBindConfig
from tests.checkpoint_server import serve
from tests.models.test_imagebind import GOLDEN, SALT, SHAPES, SMALL, formula, small_model

SIX = ("audio", "text", "vision", "depth", "thermal", "imu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with all six modalities, as `torch.save` writes it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.save(formula.state_dict(SALT, SHAPES, SIX), folder / "imagebind_huge.pth")
    return folder


def load(folder: Path, **options: object) -> ImageBindEncoder:
    options = {"precision": "fp32", "device": "cpu", "config": SMALL} | options
    return load_encoder("imagebind", weights=folder, **options)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> ImageBindEncoder:
    return load(folder)


@pytest.fixture(scope="module")
def waveforms() -> list[torch.Tensor]:
    found = []
    for index in range(len(formula.WAVEFORMS)):
        samples, rate = formula.waveform(SALT, index)
        found.append(resample(torch.from_numpy(samples), rate, 16_000)[0])
    return found


def golden(modality: str) -> torch.Tensor:
    return F.normalize(torch.from_numpy(np.load(GOLDEN / "small.npz")[modality]), dim=-1)


MONO = [index for index, (_, _, channels) in enumerate(formula.WAVEFORMS) if channels == 1]


def test_it_is_an_encoder(encoder: ImageBindEncoder) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.default_template == "a person saying {}"
    assert encoder.dim == 40


def test_audio_is_the_references(encoder: ImageBindEncoder, waveforms: list[torch.Tensor]) -> None:
    found = encoder.encode_audio([waveforms[index] for index in MONO])
    assert torch.allclose(found, golden("audio")[MONO], atol=1e-4)


def test_text_is_the_references_in_any_order(encoder: ImageBindEncoder) -> None:
    assert torch.allclose(encoder.encode_text(formula.TEXTS), golden("text"), atol=1e-4)
    assert torch.allclose(encoder.encode_text(formula.TEXTS[::-1]), golden("text").flip(0), atol=1e-4)


def test_images_are_the_references(encoder: ImageBindEncoder) -> None:
    images = torch.stack([formula.image(SALT, index) for index in range(3)])
    assert torch.allclose(encoder.encode_image(images), golden("vision"), atol=1e-4)


def test_vectors_are_unit_float32(encoder: ImageBindEncoder, waveforms: list[torch.Tensor]) -> None:
    for vectors in (encoder.encode_audio(waveforms), encoder.encode_text(["yes"] * 20)):
        assert vectors.dtype == torch.float32
        assert torch.allclose(vectors.norm(dim=-1), torch.ones(len(vectors)))


def test_nothing_gives_no_rows(encoder: ImageBindEncoder) -> None:
    assert encoder.encode_audio([]).shape == encoder.encode_text([]).shape == encoder.encode_image([]).shape == (0, 40)


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-5), ("bf16", 2e-2), ("int8", 1e-3)])
def test_batch_size_changes_nothing(folder: Path, waveforms: list[torch.Tensor], precision: str, most: float) -> None:
    encoder = load(folder, precision=precision)
    together = encoder.encode_audio(waveforms * 2)
    alone = torch.cat([encoder.encode_audio([waveform]) for waveform in waveforms])
    differences = (together - alone.repeat(2, 1)).abs()
    assert differences.max() <= most


def test_a_short_clip_is_encoded_once_and_a_long_one_three_times() -> None:
    seen = []

    def embed(_: str, rows: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return F.normalize(rows.flatten(1)[:, :5] + 9, dim=-1)

    encoder = ImageBindEncoder(embed, 5, torch.device("cpu"), torch.float32, "none")
    encoder.encode_audio([torch.rand(16_000), torch.rand(32_000), torch.rand(48_000)])
    assert sum(seen) == 1 + 1 + 3


def test_a_clip_below_one_frame_does_not_crash(encoder: ImageBindEncoder) -> None:
    assert encoder.encode_audio([torch.rand(200)]).isfinite().all()


@pytest.mark.parametrize("padding", frontend.PADDINGS)
def test_padding_changes_short_clips_only(
    encoder: ImageBindEncoder, folder: Path, waveforms: list[torch.Tensor], padding: str
) -> None:
    other = load(folder, padding=padding)
    short, full = waveforms[0], waveforms[2]
    assert (other.fingerprint == encoder.fingerprint) == (padding == "log-mel")
    same = F.cosine_similarity(other.encode_audio([short]), encoder.encode_audio([short]))
    assert (same > 0.99999) == (padding == "log-mel")
    assert torch.allclose(other.encode_audio([full]), encoder.encode_audio([full]), atol=1e-6)


def test_unknown_padding_is_refused(folder: Path) -> None:
    with pytest.raises(EncoderError, match="available: log-mel, silence, repeat, centre"):
        load(folder, padding="reflect")


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.999), ("int8", 0.99)])
def test_smaller_numbers_say_nearly_the_same(
    encoder: ImageBindEncoder, folder: Path, waveforms: list[torch.Tensor], precision: str, least: float
) -> None:
    smaller = load(folder, precision=precision)
    assert smaller.audio_fingerprint.startswith(f"{encoder.audio_fingerprint}-{precision}")
    images = torch.stack([formula.image(SALT, index) for index in range(3)])
    for found, expected in [
        (smaller.encode_audio(waveforms), encoder.encode_audio(waveforms)),
        (smaller.encode_text(formula.TEXTS), encoder.encode_text(formula.TEXTS)),
        (smaller.encode_image(images), encoder.encode_image(images)),
    ]:
        cosine = F.cosine_similarity(found, expected)
        assert cosine.min() > least
        assert cosine.min() < 1 - 1e-7  # or it was not smaller at all


def test_precisions_are_those_of_the_device() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert resolve_precision("auto", cpu) in ("fp32", "bf16")
    assert resolve_precision("fp16", cuda) == "fp16"
    for precision, device in [("fp16", cpu), ("int8", cuda), ("fp8", cpu)]:
        with pytest.raises(EncoderError, match=f"no precision '{precision}' on {device.type}; choose fp32, bf16"):
            resolve_precision(precision, device)


def test_a_subset_is_the_same_encoder(encoder: ImageBindEncoder, folder: Path, tmp_path: Path) -> None:
    with serve((folder / "imagebind_huge.pth").read_bytes()) as url:
        imagebind_download.download(tmp_path, ["audio", "text"], weights.Source(url), quiet=True)
    subset = load(tmp_path)
    assert subset.fingerprint == encoder.fingerprint
    assert torch.equal(subset.encode_text(["yes"]), encoder.encode_text(["yes"]))
    with pytest.raises(EncoderError, match="--modalities audio,text,vision"):
        subset.encode_image(torch.zeros(1, 3, 224, 224))
    path = tmp_path / weights.subset_name(["audio", "text"])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EncoderError, match="cut short"):
        load(tmp_path)


def test_from_module_is_the_same_encoder(encoder: ImageBindEncoder, waveforms: list[torch.Tensor]) -> None:
    class Official(nn.Module):
        """Takes and returns what the official package's model does."""

        def __init__(self) -> None:
            super().__init__()
            self.model = small_model()
            self.load_state_dict, self.state_dict = self.model.load_state_dict, self.model.state_dict

        def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return self.model(inputs)

    wrapped = ImageBindEncoder.from_module(Official())
    assert wrapped.fingerprint == encoder.fingerprint
    assert torch.allclose(wrapped.encode_audio(waveforms), encoder.encode_audio(waveforms), atol=1e-5)
    assert torch.allclose(wrapped.encode_text(["yes", "no"]), encoder.encode_text(["yes", "no"]), atol=1e-5)


def test_unpublished_weights_are_called_so(
    encoder: ImageBindEncoder, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert encoder.name == "imagebind (not the published weights)"
    load(folder)
    assert "says nothing about ImageBind" in caplog.text


def test_without_weights_it_says_what_to_download(tmp_path: Path) -> None:
    with pytest.raises(EncoderError) as error:
        load(tmp_path)
    message = str(error.value)
    assert "kws-imagebind download imagebind --modalities audio,text" in message
    assert "1.76 GB" in message
    assert "CC BY-NC-SA 4.0" in message


def test_the_folder_can_be_set_by_a_variable(
    encoder: ImageBindEncoder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KWS_IMAGEBIND_CHECKPOINTS", str(folder))
    assert load_encoder("imagebind", config=SMALL, device="cpu", precision="fp32").fingerprint == encoder.fingerprint


@pytest.mark.parametrize("name", ["imagebind_huge.pth", "imagebind_huge.audio-text.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x05\x06 and no more", b"\xff" * 300])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EncoderError, match=f"{name}' does not hold ImageBind weights"):
        load(tmp_path)


def test_tensors_that_differ_are_named(tmp_path: Path) -> None:
    state = formula.state_dict(SALT, SHAPES)
    del state["modality_trunks.audio.blocks.2.attn.bias_k"]
    state["modality_heads.text.proj.1.weight"] = torch.zeros(41, 48)
    torch.save(state, tmp_path / "imagebind_huge.pth")
    with pytest.raises(EncoderError) as error:
        load(tmp_path)
    assert "modality_trunks.audio.blocks.2.attn.bias_k" in str(error.value)
    assert "modality_heads.text.proj.1.weight is (41, 48), not (40, 48)" in str(error.value)


def test_a_new_model_is_not_made_with_random_weights(folder: Path) -> None:
    towers = load(folder)._embed
    expected = formula.state_dict(SALT, SHAPES, ("audio", "text"))
    model: ImageBind = towers._models["audio"]  # type: ignore[attr-defined]
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_command_line_downloads_and_evaluates(
    folder: Path,
    tones: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ImageBindConfig, "huge", classmethod(lambda _: SMALL))
    monkeypatch.setenv("KWS_IMAGEBIND_CHECKPOINTS", str(tmp_path / "weights"))
    evaluate = [
        "evaluate",
        "--encoder",
        "imagebind",
        "--data",
        str(tones),
        "--keywords",
        "440,1000",
        "--no-cache",
        "--json",
    ]
    assert main(evaluate) == 2
    assert "kws-imagebind download imagebind" in capsys.readouterr().err
    content = (folder / "imagebind_huge.pth").read_bytes()
    with serve(content) as url:
        monkeypatch.setattr(weights, "PUBLISHED", weights.Source(url, len(content)))
        assert main(["download", "imagebind", "--modalities", "audio,text"]) == 0
        assert main(["download", "imagebind", "--modalities", "audio,smell"]) == 2
    assert capsys.readouterr().out.strip().endswith("imagebind_huge.audio-text.safetensors")
    assert main(evaluate) == 0
    results = json.loads(capsys.readouterr().out)
    assert (results["n"], results["encoder"], results["templates"]) == (16, "imagebind", ["a person saying {}"])
    monkeypatch.undo()
    monkeypatch.setattr(ImageBindConfig, "huge", classmethod(lambda _: SMALL))
    monkeypatch.setenv("KWS_IMAGEBIND_CHECKPOINTS", str(tmp_path / "weights"))
    assert main(evaluate) == 0  # the same file, once it is no longer what is published
    assert json.loads(capsys.readouterr().out)["encoder"] == "imagebind (not the published weights)"


WEIGHT = "modality_trunks.audio.blocks.1.mlp.fc1.weight"


def flipped(path: Path, name: str = WEIGHT) -> None:
    """Invert every byte of one tensor and leave the checksums as they are."""
    record = weights.Weights.open(path).records[name]
    content = bytearray(path.read_bytes())
    with path.open("rb") as file:
        start = data_start(file, record)
    content[start : start + record.size] = bytes(byte ^ 0xFF for byte in content[start : start + record.size])
    path.write_bytes(content)


@pytest.mark.parametrize("subset", [False, True])
def test_a_damaged_tensor_is_named_at_every_start(folder: Path, tmp_path: Path, subset: bool) -> None:
    content = (folder / "imagebind_huge.pth").read_bytes()
    with serve(content) as url:
        path = imagebind_download.download(
            tmp_path, ["audio", "text"] if subset else None, weights.Source(url), quiet=True
        )
    load(tmp_path)  # and note that all is well
    flipped(path)
    for _ in range(2):
        with pytest.raises(EncoderError, match=f"{WEIGHT} is damaged .* remove the file and download again"):
            load(tmp_path)


def test_a_file_is_checked_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "imagebind_huge.pth"
    path.write_bytes((folder / path.name).read_bytes())
    checked: list[str] = []
    monkeypatch.setattr(weights, "_check", lambda _, record: checked.append(record.name))
    first = load(tmp_path).fingerprint
    assert WEIGHT in checked
    checked.clear()
    weights._verified.clear()  # as in another process
    assert load(tmp_path).fingerprint == first
    assert checked == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_widths_are_used(
    encoder: ImageBindEncoder, waveforms: list[torch.Tensor], tmp_path: Path, dtype: torch.dtype
) -> None:
    state = {name: value.to(dtype) for name, value in formula.state_dict(SALT, SHAPES).items()}
    torch.save(state, tmp_path / "imagebind_huge.pth")
    found = load(tmp_path).encode_audio(waveforms[:1])
    assert F.cosine_similarity(found, encoder.encode_audio(waveforms[:1])) > 0.999


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(384, 96, dtype=torch.int64), "is of the kind I64"),
        (torch.full((384, 96), float("nan")), "not finite numbers"),
    ],
)
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: torch.Tensor, said: str) -> None:
    torch.save(formula.state_dict(SALT, SHAPES) | {WEIGHT: value}, tmp_path / "imagebind_huge.pth")
    with pytest.raises(EncoderError, match=f"{WEIGHT} .*{said}"):
        load(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"\xff\xfe",
        b"[1]",
        b'{"__metadata__": {"crc32": "7"}}',
        b'{"__metadata__": {"crc32": "{}"}, "a": 3}',
        b'{"__metadata__": {"crc32": "{\\"a\\": 1}"}, "a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
    ],
)
def test_odd_headers_are_refused(tmp_path: Path, header: bytes) -> None:
    name = "imagebind_huge.audio-text.safetensors"
    (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    with pytest.raises(EncoderError, match=f"{name}' does not hold ImageBind weights"):
        load(tmp_path)


@pytest.mark.parametrize(
    "pickled", [b"\x80\x02\x8e" + b"\xff" * 7 + b"\x0f.", b"X\x01\x00\x00\x00\xff.", b"I1x\n.", b"}K\x01K\x02s."]
)
def test_hostile_pickles_are_refused(tmp_path: Path, pickled: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "imagebind_huge.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    with pytest.raises(EncoderError, match="does not hold ImageBind weights"):
        load(tmp_path)


def test_a_bare_text_is_refused(encoder: ImageBindEncoder) -> None:
    with pytest.raises(EncoderError, match=r"texts are a list; for the one text 'yes' give \['yes'\]"):
        encoder.encode_text("yes")


@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, "fp32"), (torch.bfloat16, "bf16")])
def test_a_modules_precision_is_that_of_its_parameters(dtype: torch.dtype, precision: str) -> None:
    assert ImageBindEncoder.from_module(small_model().to(dtype)).precision == precision

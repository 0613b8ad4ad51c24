"""Several PhoneBinds as one encoder: its cosines are the mean of its members', and its files are held to their sums."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import kws_imagebind as kws
from kws_imagebind.encoders.base import EncoderError, FrameEncoder, RejectingEncoder, VariantEncoder, check_encoder
from kws_imagebind.encoders.confidence import Confidence
from kws_imagebind.encoders.phonebind import FURTHER, WEIGHTS, PhoneBindEncoder, PhoneBindLarge
from kws_imagebind.files import SUMS, sha256
from kws_imagebind.models.ensemble import Ensemble, load_members
from kws_imagebind.models.phonebind import SAMPLES, PhoneBind, PhoneBindConfig, load, save
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.training.phonebind.confidence import chosen_encoder
from kws_imagebind.training.phonebind.ensemble import assemble, main

SMALL = PhoneBindConfig(mels=16, stem=(4, 8), width=24, blocks=1, text_width=16, text_blocks=1, dim=12)
# Of other sizes, and one of them with mels of its own.
CONFIGS = (SMALL, replace(SMALL, stem_blocks=0, dim=20, width=32), replace(SMALL, mels=24, low=20.0, blocks=2))


def members(seed: int = 0) -> list[PhoneBind]:
    torch.manual_seed(seed)
    return [PhoneBind(config).eval() for config in CONFIGS]


def noise(count: int) -> torch.Tensor:
    return torch.randn(count, SAMPLES, generator=torch.Generator().manual_seed(1)).cumsum(1) * 0.01


def files(folder: Path, models: Sequence[PhoneBind]) -> list[Path]:
    """The members' own files, and the two of the ensemble."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.safetensors" for number in range(len(models))]
    for model, path in zip(models, paths, strict=True):
        save(model, path, {"note": f"of {path.stem}"}, storage="int8")
    (folder / WEIGHTS.name).write_bytes(paths[0].read_bytes())
    assemble(paths[1:], folder / FURTHER.name)
    return paths


def test_its_cosines_are_the_mean_of_its_members(tmp_path: Path) -> None:
    paths = files(tmp_path, members())
    whole = PhoneBindLarge.from_weights(tmp_path, device="cpu")
    alone = [PhoneBindEncoder.from_weights(path, device="cpu") for path in paths]
    assert check_encoder(whole) and whole.dim == sum(each.dim for each in alone) == 44
    clips, words = list(noise(5)), ["/L AE M P/", "/K EH T AH L/", "/G OW/"]
    heard, read = whole.encode_audio(clips), whole.encode_text(words)
    torch.testing.assert_close(torch.cat([heard, read]).norm(dim=1), torch.ones(8), atol=1e-6, rtol=0)
    means = torch.stack([each.encode_audio(clips) @ each.encode_text(words).T for each in alone]).mean(0)
    torch.testing.assert_close(heard @ read.T, means, atol=1e-6, rtol=0)
    assert float(means.std()) > 1e-3  # and they are not all alike


def test_a_word_scores_as_the_pronunciation_with_the_best_mean(tmp_path: Path) -> None:
    paths = files(tmp_path, members())
    whole = PhoneBindLarge.from_weights(tmp_path, device="cpu")
    alone = [PhoneBindEncoder.from_weights(path, device="cpu") for path in paths]
    words = ["data", "either", "tomato", "route"]
    clips = list(noise(40))
    cosines = ZeroShotClassifier(whole, words)(whole.encode_audio(clips)).values
    own = {text: whole.variants(text) for text in words}
    assert all(len(said) > 1 for said in own.values())
    each = {
        text: torch.stack([one.encode_audio(clips) @ one.encode_text(said).T for one in alone])
        for text, said in own.items()
    }
    of_means = torch.stack([each[text].mean(0).amax(1) for text in words], 1)
    of_members = torch.stack([each[text].amax(2).mean(0) for text in words], 1)
    torch.testing.assert_close(cosines, of_means, atol=1e-6, rtol=0)
    assert float((of_members - of_means).max()) > 1e-4  # members disagree about which one it is


def test_frames_give_what_the_sound_gives_and_the_first_member_spells(tmp_path: Path) -> None:
    first = files(tmp_path, members())[0]
    whole, alone = PhoneBindLarge.from_weights(tmp_path, device="cpu"), PhoneBindEncoder.from_weights(first)
    assert isinstance(whole, FrameEncoder) and isinstance(whole, VariantEncoder) and isinstance(whole, RejectingEncoder)
    clips = noise(3)
    frames = torch.stack([whole.mel(clip) for clip in clips])
    assert frames.shape == (3, whole.front_end.frames(SAMPLES), whole.front_end.mels) and frames.shape[2] == 16 + 24
    vectors, spelling = whole.encode_mel(frames)
    torch.testing.assert_close(vectors, whole.encode_audio(list(clips)), atol=1e-4, rtol=0)
    own = alone.encode_mel(torch.stack([alone.mel(clip) for clip in clips]))[1]
    torch.testing.assert_close(spelling, own, atol=1e-5, rtol=0)
    assert tuple(spelling.shape[1:]) == whole.spelled


def test_members_with_the_same_front_end_share_its_frames() -> None:
    torch.manual_seed(0)
    model = Ensemble([PhoneBind(SMALL), PhoneBind(replace(SMALL, dim=20)), PhoneBind(SMALL)]).eval()
    assert len(model.front_ends) == 1
    torch.testing.assert_close(model.mel(noise(2)), model.members[0].mel(noise(2)))


def test_an_ensemble_has_members() -> None:
    with pytest.raises(ValueError, match="without members"):
        Ensemble([])


def test_the_file_holds_the_members_in_8_bits_with_their_digests(tmp_path: Path) -> None:
    models = members()
    paths = files(tmp_path, models)
    loaded = load_members(tmp_path / FURTHER.name)
    assert [each.config for each in loaded] == list(CONFIGS[1:])
    for kept, path in zip(loaded, paths[1:], strict=True):  # the files were in 8 bits before, so nothing changes
        for name, tensor in load(path).state_dict().items():
            torch.testing.assert_close(kept.state_dict()[name], tensor, atol=1e-6, rtol=1e-6)
    with safe_open(tmp_path / FURTHER.name, "pt") as file:
        about = file.metadata()["members"]
    assert all(sha256(path) in about and f"of {path.stem}" in about for path in paths[1:])
    assemble(paths[1:], tmp_path / "again.safetensors")
    assert sha256(tmp_path / "again.safetensors") == sha256(tmp_path / FURTHER.name)


def test_the_fingerprint_follows_every_member_and_their_order(tmp_path: Path) -> None:
    models, others = members(), members(seed=1)
    folders = {"same": models, "again": models, "swapped": [models[0], models[2], models[1]]}
    folders |= {f"other {place}": [*models[:place], others[place], *models[place + 1 :]] for place in range(3)}
    for name, these in folders.items():
        for path in files(tmp_path / name, these):
            path.unlink()
    # Metadata of several keys are written in no fixed order, so the first member's file is the same only as a copy.
    for name in ("again", "swapped", "other 1", "other 2"):
        (tmp_path / name / WEIGHTS.name).write_bytes((tmp_path / "same" / WEIGHTS.name).read_bytes())
    prints = {name: PhoneBindLarge.from_weights(tmp_path / name, device="cpu") for name in folders}
    assert prints["again"].digest != prints["swapped"].digest
    for kind in ("fingerprint", "audio_fingerprint", "digest"):
        found = [getattr(prints[name], kind) for name in folders if name != "again"]
        assert len(set(found)) == len(found)
    heard = {name: encoder.encode_audio(list(noise(1))) for name, encoder in prints.items()}
    torch.testing.assert_close(heard["same"], heard["again"])
    swapped = torch.cat([heard["same"][:, :12], heard["same"][:, 32:], heard["same"][:, 12:32]], 1)
    torch.testing.assert_close(heard["swapped"], swapped)


def _spoilt(folder: Path, how: str) -> None:
    path = folder / FURTHER.name
    match how:
        case "gone":
            path.unlink()
        case "the first gone":
            (folder / WEIGHTS.name).unlink()
        case "cut short":
            path.write_bytes(path.read_bytes()[:-100])
        case "a single model":
            path.write_bytes((folder / "1.safetensors").read_bytes())
        case _:
            with safe_open(path, "pt") as file:
                metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if how == "a member too many":
                tensors["2.log_scale"] = torch.zeros(())
            elif how == "a tensor gone":
                del tensors["1.audio.norm.bias"]
            save_file(tensors, path, metadata=metadata)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("gone", rf"cannot read '.*{FURTHER.name}': there is no such file or folder"),
        ("the first gone", rf"cannot read '.*{WEIGHTS.name}': there is no such file or folder"),
        ("cut short", "does not hold PhoneBind weights"),
        ("a single model", "does not hold PhoneBind weights"),
        ("a member too many", r"does not hold PhoneBind weights \(2.log_scale belongs to none of 2 members\)"),
        ("a tensor gone", "does not hold PhoneBind weights"),
    ],
)
def test_missing_and_damaged_files_are_refused(tmp_path: Path, how: str, reason: str) -> None:
    files(tmp_path, members())
    _spoilt(tmp_path, how)
    with pytest.raises(EncoderError, match=reason):
        PhoneBindLarge.from_weights(tmp_path, device="cpu")


@pytest.mark.parametrize("name", [WEIGHTS.name, FURTHER.name])
def test_bundled_files_are_held_to_their_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import kws_imagebind.encoders.phonebind as module

    for file in (WEIGHTS.name, FURTHER.name, SUMS):
        (tmp_path / file).write_bytes((WEIGHTS.parent / file).read_bytes())
    monkeypatch.setattr(module, "WEIGHTS", tmp_path / WEIGHTS.name)
    monkeypatch.setattr(module, "FURTHER", tmp_path / FURTHER.name)
    monkeypatch.setattr(PhoneBindLarge, "weights", tmp_path / FURTHER.name)
    PhoneBindLarge.from_weights(device="cpu")
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EncoderError, match=rf"'.*{name}', a part of this package, is damaged: .*; install the package"):
        PhoneBindLarge.from_weights(device="cpu")
    (tmp_path / name).unlink()
    with pytest.raises(EncoderError, match=rf"'.*{name}', a part of this package, is missing; install the package"):
        PhoneBindLarge.from_weights(device="cpu")


def test_what_holds_no_phonebind_is_no_member(tmp_path: Path) -> None:
    (tmp_path / "nothing.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"'.*nothing.safetensors' does not hold PhoneBind weights"):
        assemble([tmp_path / "nothing.safetensors"], tmp_path / FURTHER.name)
    with pytest.raises(OSError, match=r"missing.safetensors': there is no such file"):
        assemble([tmp_path / "missing.safetensors"], tmp_path / FURTHER.name)
    assert [path.name for path in tmp_path.iterdir()] == ["nothing.safetensors"]


def test_the_command_assembles_and_refuses_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files(tmp_path, members())
    output = tmp_path / "new" / FURTHER.name
    given = ["ensemble", str(tmp_path / "1.safetensors"), str(tmp_path / "2.safetensors"), "--output"]
    monkeypatch.setattr("sys.argv", [*given, str(output)])
    main()
    assert sha256(output) == sha256(tmp_path / FURTHER.name) and "2 members" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*given, str(output / FURTHER.name)])
    with pytest.raises(SystemExit):
        main()
    assert "is a file, and a folder is expected" in capsys.readouterr().err


@pytest.fixture(scope="module")
def bundled() -> PhoneBindLarge:
    return PhoneBindLarge.from_weights(device="cpu")


def test_the_bundled_ensemble_has_a_card_of_all_its_members(bundled: PhoneBindLarge) -> None:
    assert isinstance(bundled.model, Ensemble)
    sizes = [sum(each.numel() for each in member.parameters()) for member in bundled.model.members]
    assert bundled.card.parameters == sum(sizes) and len(sizes) > 1
    assert bundled.card.bytes == WEIGHTS.stat().st_size + FURTHER.stat().st_size
    assert bundled.card.name == bundled.name == "phonebind-large" and bundled.card.saw_speech_commands is False
    alone = kws.load_encoder("phonebind", device="cpu")
    assert alone.card.bytes == WEIGHTS.stat().st_size and alone.card.parameters == sizes[0]  # type: ignore[attr-defined]
    first = bundled.model.members[0].state_dict()
    assert all(torch.equal(first[name], tensor) for name, tensor in load(WEIGHTS).state_dict().items())


def test_the_bundled_ensemble_finds_words_in_long_recordings(tmp_path: Path, bundled: PhoneBindLarge) -> None:
    sample = Path(__file__).parents[2] / "sample"
    said = ["yes", "left", "seven"]
    pause = np.zeros(16_000, dtype=np.float32)
    clips = [soundfile.read(sorted((sample / word).glob("*.wav"))[0], dtype="float32")[0] for word in said]
    soundfile.write(
        tmp_path / "long.wav", np.concatenate([pause, *(x for clip in clips for x in (clip, pause))]), 16_000
    )
    hits = kws.detect(tmp_path / "long.wav", [*said, "marvin"], encoder=bundled)
    assert [hit.word for hit in hits] == said
    listener = kws.Listener([*said, "marvin"], encoder=bundled)
    samples = soundfile.read(tmp_path / "long.wav", dtype="float32")[0]
    heard = [hit for block in np.array_split(samples, 23) for hit in listener.hear(block, 16_000)] + listener.finish()
    assert [hit.word for hit in heard] == said
    assert all(one.time < other.time for one, other in pairwise(heard))


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_smaller_numbers_say_the_same(bundled: PhoneBindLarge, precision: str) -> None:
    small = PhoneBindLarge.from_weights(device="cpu", precision=precision)
    assert small.audio_fingerprint.startswith(f"{bundled.audio_fingerprint}-{precision}")
    clips = list(noise(8))
    assert float((bundled.encode_audio(clips) * small.encode_audio(clips)).sum(1).min()) > 0.995


def test_numbers_are_kept_for_all_members_together(tmp_path: Path) -> None:
    files(tmp_path, members())
    arguments = argparse.Namespace(encoder="phonebind-large", weights=tmp_path)
    encoder = chosen_encoder(arguments)
    with pytest.raises(EncoderError, match=r"no 'phonebind-large.*confidence --data DIR --encoder phonebind-la"):
        encoder.confidence()
    numbers = Confidence(20.0, -10.0, -8.0)
    numbers.write(encoder.confidence_file, encoder.digest, {"rejection": {"silence": 0.1, "unknown": 0.02}})
    assert encoder.confidence() == numbers and encoder.rejection() == (0.1, 0.02)
    assert encoder.speech_confidence() is None  # until it is fitted
    save(members(seed=1)[0], tmp_path / WEIGHTS.name, {})  # another default beside the same members
    with pytest.raises(EncoderError, match="is for other weights"):
        chosen_encoder(arguments).confidence()

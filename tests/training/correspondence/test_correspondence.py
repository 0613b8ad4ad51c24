"""Training which picture belongs to which sound: never stuck, resumable, blind to labels, from files to retrieval."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("lightning", reason="training needs the extra 'supervised'")
pytest.importorskip("PIL", reason="pictures need Pillow")

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.cli import main
from kws_imagebind.datasets import load_dataset
from kws_imagebind.datasets.audio_visual import AudioVisualFolder, MomentConfig
from kws_imagebind.datasets.reading_aloud import Box, WordPainter, bundled_fonts
from kws_imagebind.encoders import EncoderError, load_encoder
from kws_imagebind.encoders.avenet import AVENetEncoder, load_network
from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.models.avenet import AVENetConfig, build
from kws_imagebind.training.correspondence import loop as loops
from kws_imagebind.training.correspondence.evaluate import correspondence, directions, encode, same_label
from kws_imagebind.training.correspondence.localisation import Page, score
from kws_imagebind.training.correspondence.loop import CorrespondenceEpoch, CorrespondenceLoop, fit
from kws_imagebind.training.correspondence.pairs import SpokenWords, VideoMoments
from kws_imagebind.training.correspondence.recipes import CorrespondenceRecipe, published, small
from kws_imagebind.training.correspondence.train import (
    CorrespondencePlan,
    Part,
    begin,
    reading_aloud,
    report,
    train,
    videos,
)
from kws_imagebind.training.supervised.clips import split
from kws_imagebind.training.supervised.recipes import Augmentation, TrainingError

SOUND = FrontEnd(seconds=0.4, window=480, hop=320, mels=20)
CONFIG = AVENetConfig((24, 24), SOUND.shape, width=1 / 16, embedding=32)
TOY = CorrespondenceRecipe(
    "avenet", CONFIG, SOUND, epochs=12, batch=16, rate=3e-3, tiny_rate=1e-2, schedule="cosine", choice=1.0
)
HERTZ = (200.0, 500.0, 1_200.0, 2_800.0)
COLOURS = ((230, 30, 30), (30, 230, 30), (30, 30, 230), (220, 220, 30))


@dataclass(frozen=True)
class Toys:
    """Patches of a colour that have a tone: which one, a network has to find out."""

    kinds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.kinds)

    def waveforms(self, index: Sequence[int]) -> Tensor:
        times = torch.arange(SOUND.samples) / SOUND.sample_rate
        rows = [0.3 * torch.sin(2 * math.pi * HERTZ[self.kinds[each]] * times + each) for each in index]
        return torch.stack(rows)

    def batch(self, index: Sequence[int], random: np.random.Generator) -> tuple[Tensor, Tensor]:
        pictures = random.integers(0, 256, (len(index), 24, 24, 3)).astype(np.uint8)
        for picture, each in zip(pictures, index, strict=True):
            x, y = random.integers(0, 12, 2)
            picture[y : y + 12, x : x + 12] = COLOURS[self.kinds[each]]
        return torch.from_numpy(pictures), self.waveforms(index)


TRAINING, VALIDATION = Toys(tuple(range(4)) * 16), Toys(tuple(range(4)) * 4)


def learnt(folder: Path, seed: int = 0, recipe: CorrespondenceRecipe = TOY) -> tuple[list[CorrespondenceEpoch], dict]:
    torch.manual_seed(seed)
    network = build(recipe.network, recipe.config)
    relevance = same_label([str(each) for each in VALIDATION.kinds])
    made = CorrespondenceLoop(network, TRAINING, VALIDATION, SOUND, recipe, relevance, folder, seed, "cpu")
    return fit(made), network.state_dict()


@pytest.mark.parametrize("seed", range(5))
def test_no_seed_is_stuck_at_chance(seed: int, tmp_path: Path) -> None:
    """With four kinds, a quarter of the negatives match by accident, so that 0.875 is the most that can be right."""
    history, _ = learnt(tmp_path, seed)
    best = min(history, key=lambda each: each.validation_loss)
    assert best.validation_accuracy > 0.7 and best.validation_loss < 0.6


@pytest.mark.parametrize("network", ["avolnet", "l3net"])
def test_the_other_networks_learn_too(network: str, tmp_path: Path) -> None:
    history, _ = learnt(tmp_path, 0, replace(TOY, network=network))
    assert min(each.validation_loss for each in history) < 0.62


def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(TOY, epochs=3)
    whole, weights = learnt(tmp_path / "whole", recipe=recipe)
    real, seen = loops.encode, []

    def once(*arguments: object) -> object:
        seen.append(0)
        if len(seen) == 2:
            raise SystemExit
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loops, "encode", once)
        with pytest.raises(KeyboardInterrupt):
            learnt(tmp_path / "cut", recipe=recipe)
    again, others = learnt(tmp_path / "cut", recipe=recipe)
    assert [replace(each, seconds=0) for each in again] == [replace(each, seconds=0) for each in whole]
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_training_does_not_depend_on_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known for evaluation may be anything; the weights and the chosen epoch are the same."""
    recipe = replace(TOY, epochs=2)
    _, weights = learnt(tmp_path / "labels", recipe=recipe)
    monkeypatch.setattr(f"{__name__}.same_label", lambda labels: np.ones((len(labels), len(labels))))
    _, others = learnt(tmp_path / "none", recipe=recipe)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert not any("label" in each.name for each in dataclasses.fields(VideoMoments))


@pytest.mark.parametrize("recipe", [published(), small(), small("avolnet")])
def test_the_networks_hear_what_the_front_end_gives(recipe: CorrespondenceRecipe) -> None:
    assert recipe.sound.shape == recipe.config.sound
    assert published().sound.shape == (257, 200) and published().config.channels == (64, 128, 256, 512)


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    relevance = np.ones((1, 1))
    network = build("avenet", CONFIG)
    with pytest.raises(TrainingError, match="1 training and 16 validation pairs"):
        fit(CorrespondenceLoop(network, Toys((0,)), VALIDATION, SOUND, TOY, relevance, tmp_path))


def test_pairs_told_right_by_hand() -> None:
    odds = np.array([[1.0, -1.0, 2.0], [-1.0, -1.0, -1.0], [-1.0, 3.0, 1.0]], np.float32)
    # sound 0: own right, others right; sound 1: own wrong, one of two right; sound 2: own right, one of two right.
    assert correspondence(odds).tolist() == [1.0, 0.25, 0.75]
    known = np.array([[0, 0, 0], [1, 0, 1], [1, 0, 0]], bool)  # the picture 0 belongs to all sounds
    assert correspondence(odds, known).tolist() == [1.0, 0.0, 1.0]


def test_no_query_finds_its_own_recording(tmp_path: Path) -> None:
    network = build("avenet", CONFIG)
    encoded = encode(network, VALIDATION, SOUND, 0)
    for direction in directions(encoded, same_label([str(each) for each in VALIDATION.kinds]), [None] * 16):
        assert direction.allowed is not None and not direction.allowed.diagonal().any()
        assert direction.allowed.sum() == 16 * 15


WORDS = "yes,stop,seven,go,left,house"
DRAWS = 5  # of pictures for each clip that is reported


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> CorrespondencePlan:
    """Reading aloud, learnt from five voices of the bundled sample."""
    torch.set_num_threads(1)
    changes = Augmentation(shift=0.1, noise=0.0, speed=0.12, frequency_mask=5, time_mask=10, masks=1)
    recipe = replace(small("avenet", epochs=150), batch=15, rate=2e-3, augmentation=changes)
    folder = tmp_path_factory.mktemp("aloud")
    parts = split(load_dataset("sample", keywords=WORDS))
    plan = CorrespondencePlan(reading_aloud(parts, recipe, folder / "cache"), folder / "run", recipe, device="cpu")
    train(plan)
    return plan


def test_reading_aloud_is_learnt_from_the_sample(spoken: CorrespondencePlan) -> None:
    """Voices and fonts are other ones. Of 30 clips of five voices, 12 of two others are told from others well enough.

    With six words, a sixth of the negatives match by accident, so that 91.7 % is the most that can be right; with other
    labels only it is 100 %.
    """
    part = spoken.material.testing
    assert part is not None and len(part.pairs) == 12
    pairs = part.pairs
    assert isinstance(pairs, SpokenWords)
    many = np.tile(np.arange(12), DRAWS)
    clips = replace(pairs.clips, rows=pairs.clips.rows[many], identities=part.identities * DRAWS)
    clips = replace(clips, targets=clips.targets[many])
    drawn = replace(pairs, clips=clips, written=pairs.written * DRAWS)
    found = report(spoken, Part(drawn, same_label(drawn.written), drawn.written, part.groups * DRAWS, clips.identities))
    voices = {each.speaker for each in spoken.material.learnt}
    assert not voices & set(spoken.material.testing.groups)
    assert not set(bundled_fonts("training")) & set(bundled_fonts("testing"))
    assert found.apart.low < found.apart.estimate and found.apart.estimate > 0.65
    across = [each for each in found.directions if each.name in ("image to audio", "audio to image")]
    assert all(each.measures["ndcg@30"].estimate > each.chance["ndcg@30"] + 0.1 for each in across)
    saved = json.loads((spoken.output / "correspondence_results.json").read_text())
    page = (spoken.output / "retrieval.html").read_text()
    assert page.count("<audio") >= 25 and page.count("<img") >= 25 and "http:" not in page and "https:" not in page
    assert all((spoken.output / name).is_file() for name in ("history.png", "classes.png", "spectrograms.png"))
    assert saved["n"] == 12 * DRAWS and saved["correspondence"]["chance"] == 0.5 and len(saved["directions"]) == 4


def test_a_run_is_an_encoder_of_sounds_and_pictures(
    spoken: CorrespondencePlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    encoder = load_encoder(str(spoken.output), "cpu")
    assert isinstance(encoder, AVENetEncoder) and encoder.name == f"avenet:{spoken.output}"
    painter = WordPainter(bundled_fonts("testing"), spoken.recipe.config.image)
    picture = tmp_path / "go.png"
    Image.fromarray(painter.word("go", np.random.default_rng(0))[0]).save(picture)
    vectors = encoder.encode_image([picture, picture])
    assert vectors.shape == (2, 128) and torch.allclose(vectors.norm(dim=1), torch.ones(2))
    assert encoder.encode_audio([torch.randn(16_000) * 0.1]).shape == (1, 128) and not len(encoder.encode_audio([]))
    with pytest.raises(EncoderError, match="reads no texts"):
        encoder.encode_text(["go"])
    drawings = tmp_path / "drawings"
    for word in ("go", "left"):
        (drawings / word).mkdir(parents=True)
        Image.fromarray(painter.word(word, np.random.default_rng(1))[0]).save(drawings / word / "1.png")
    options = ["--encoder", str(spoken.output), "--keywords", "go,left", "--no-cache", "--quiet", "--json"]
    assert main(["retrieve", *options, "--images", str(drawings)]) == 0
    found = [each["direction"] for each in json.loads(capsys.readouterr().out)["directions"]]
    assert found == ["audio to audio", "audio to audio of other speakers", "image to audio", "audio to image"]
    pytest.importorskip("faiss")
    pytest.importorskip("pyarrow")
    sample = tmp_path / "clips"
    for each in load_dataset("sample", keywords="go,left").utterances[:6]:
        (sample / each.label).mkdir(parents=True, exist_ok=True)
        (sample / each.label / each.path.name).write_bytes(each.path.read_bytes())
    index = tmp_path / "index"
    assert main(["index", str(sample), "--output", str(index), "--encoder", str(spoken.output), "--quiet"]) == 0
    assert main(["search", str(index), "--like", str(picture), "--top", "3", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["hits"]) == 3
    assert main(["search", str(index), "go"]) == 2
    assert "reads no texts" in capsys.readouterr().err


def test_what_learnt_is_not_reported(spoken: CorrespondencePlan) -> None:
    material = spoken.material
    words = material.training.written  # type: ignore[attr-defined]
    speakers = tuple(each.speaker for each in material.learnt)
    with pytest.raises(MetricError, match="also chose what the network learnt"):
        report(spoken, Part(material.training, same_label(words), words, speakers, material.learnt))


def test_a_finished_run_is_not_overwritten_and_damage_is_named(spoken: CorrespondencePlan, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds a finished training"):
        train(spoken)
    (tmp_path / "correspondence.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"correspondence\.json' is damaged"):
        load_encoder(str(tmp_path))
    with pytest.raises(EncoderError, match="holds no finished training"):
        load_encoder(f"avenet:{tmp_path / 'none'}")


def test_avol_net_begins_with_the_towers_of_ave_net(spoken: CorrespondencePlan, tmp_path: Path) -> None:
    recipe = replace(spoken.recipe, network="avolnet", epochs=1)
    trained, fresh = load_network(spoken.output)[1], build("avolnet", recipe.config).eval()
    begin(fresh, spoken.output)
    sounds = torch.randn(2, 1, *recipe.config.sound)
    with torch.no_grad():  # the vector before the norm is the one that AVE-Net normalises
        assert torch.allclose(fresh.sound_vectors(sounds), trained.sound_vectors(sounds), atol=1e-5)
    plan = CorrespondencePlan(spoken.material, tmp_path / "avol", recipe, spoken.output, device="cpu")
    train(plan)
    assert load_network(plan.output)[0].network == "avolnet"
    found = report(plan).localisation
    assert found is not None and found.hits.n == 12 and found.words == 6 and 0 < found.chance < 1 / 6
    assert (plan.output / "localisation.png").is_file()
    with pytest.raises(TrainingError, match="only avolnet begins"):
        train(CorrespondencePlan(spoken.material, tmp_path / "ave", spoken.recipe, spoken.output, device="cpu"))


def test_the_peak_of_a_map_is_judged_by_the_box_of_the_word() -> None:
    """Four words in the quarters of a picture; the second, at the top right, is spoken."""
    boxes = (Box(0, 0, 10, 10), Box(10, 0, 20, 10), Box(0, 10, 10, 20), Box(10, 10, 20, 20))
    heat = np.array([[0.0, 2.0], [1.0, 0.0]], np.float32)
    page = Page(np.zeros((20, 20, 3), np.uint8), ("a", "b", "c", "d"), boxes, 1, heat)
    assert page.peak == (15.0, 5.0) and page.hit and page.chance == 0.25
    missed = replace(page, spoken=2)
    assert not missed.hit
    found = score([page, missed, page, page], ["x", "x", "y", "y"])
    assert found.hits.estimate == 0.75 and found.hits.n == 4 and found.chance == 0.25


def test_videos_go_from_files_to_retrieval(tmp_path: Path, one_thread: None) -> None:
    """Shapes with their own tones; three of the files cannot be used."""
    pytest.importorskip("av", reason="videos need PyAV")
    from tests.datasets.videos import KINDS, RATE, write

    root = tmp_path / "videos"
    for kind in KINDS:
        for number in range(8):
            write(root / kind / f"{number}.mkv", kind, 1.6, seed=number)
    write(root / "square" / "silent.mkv", "square", 1.6, silent=True)
    write(root / "square" / "black.mkv", "black", 1.6)
    (root / "square" / "broken.mp4").write_bytes(b"no video")
    sound = FrontEnd(sample_rate=RATE, seconds=1.0, hop=320, mels=20)
    recipe = replace(TOY, config=replace(CONFIG, image=(32, 32)), sound=sound, epochs=60, batch=14)
    folder = AudioVisualFolder(root, MomentConfig((32, 32), RATE, 1.0, moments=6))
    material = videos(folder, tmp_path / "cache")
    assert "24 videos; 3 left out: 1 broken, 1 silent, 1 black" in material.note
    plan = CorrespondencePlan(material, tmp_path / "run", recipe, device="cpu")
    train(plan)
    found = report(plan)
    assert found.accuracy.estimate > 0.6
    across = next(each for each in found.directions if each.name == "image to audio")
    assert across.measures["ndcg@30"].estimate > across.chance["ndcg@30"]  # which of four videos is 0.9


def test_a_batch_of_videos_has_negatives_of_other_videos_on_the_same_grid(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="videos need PyAV")
    from kws_imagebind.datasets.audio_visual import GRID
    from tests.datasets.videos import RATE, write

    for number in range(4):
        write(tmp_path / "v" / f"{number}.mkv", "square", 2.0 + 0.33 * number, seed=number)
    shards = AudioVisualFolder(tmp_path / "v", MomentConfig((24, 24), RATE, 1.0, moments=5)).decoded(tmp_path / "c")
    steps = shards.times / GRID
    assert np.abs(steps - steps.round()).max() < 1e-9
    pairs, random = VideoMoments(shards, (0, 1, 2, 3)), np.random.default_rng(0)
    for _ in range(20):
        frames, sounds = pairs.batch([2, 0, 3], random)
        for frame, sound, row in zip(frames.numpy(), sounds.numpy(), (2, 0, 3), strict=True):
            own = slice(shards.first[row], shards.first[row + 1])
            place = [(each == frame).all() for each in shards.frames[own]].index(True)
            matching = [np.array_equal(each / np.float32(32_768), sound) for each in shards.sounds[own]]
            assert matching[place]  # the frame's own second of sound, and of this video


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "run")]
    assert main(["train", "avenet", *output, "--balance", "weights"]) == 2
    assert "--balance does not go with 'avenet'" in capsys.readouterr().err
    assert main(["train", "light-cnn", *output, "--size", "published"]) == 2
    assert "--size does not go with 'light-cnn'" in capsys.readouterr().err
    assert main(["train", "avenet", *output, "--data", str(tmp_path / "none")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert main(["train", "avenet", *output, "--segments", "list.csv"]) == 2
    assert "--segments and --ontology label videos" in capsys.readouterr().err
    assert main(["train", "avenet", *output, "--begin", str(tmp_path)]) == 2
    assert "--begin does not go with 'avenet'" in capsys.readouterr().err
    assert main(["train", "avolnet", *output, "--begin", str(tmp_path)]) == 2
    assert "holds no finished training" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

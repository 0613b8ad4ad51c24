"""A run folder as a scorer and as an encoder; folders that are damaged or do not fit get a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.datasets.base import ClipIdentity, Dataset, Utterance
from kws_imagebind.datasets.sample import sample_folder
from kws_imagebind.embeddings.embed import embed
from kws_imagebind.encoders import load_encoder
from kws_imagebind.encoders.base import Encoder, EncoderError, Scorer, check_encoder, check_vectors
from kws_imagebind.encoders.cards import Card
from kws_imagebind.encoders.trained import LearntClip, TrainedNetwork, TrainedRun, learnt_clips, read_run, unit
from kws_imagebind.evaluation.run import Plan, Run
from kws_imagebind.evaluation.submission import Submission
from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.models.networks import Architecture, build
from kws_imagebind.readouts.likelihood import readout_of

WORDS = ("yes", "no", "stop")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with random weights: what a folder holds does not depend on what was learnt."""
    torch.manual_seed(0)
    front_end = FrontEnd(mean=-5.0, deviation=4.0)
    architecture = Architecture("bc-resnet:1", len(WORDS), front_end.shape)
    run = TrainedRun(
        "bc-resnet:1", WORDS, architecture, front_end, None, Card("bc-resnet:1", trained_on=("Speech Commands",))
    )
    made = tmp_path / "run"
    made.mkdir()
    clips = [
        LearntClip("training", f"{word}/1.wav", word, ClipIdentity(f"{i:064x}", "anna")) for i, word in enumerate(WORDS)
    ]
    run.save(made, build(architecture), unit(torch.rand(len(WORDS), 32)), clips)
    return made


def clips(*lengths: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(length, generator=random) for length in lengths]


def test_a_run_is_read_as_it_was_written(folder: Path) -> None:
    run = read_run(folder)
    assert run.labels == WORDS and run.front_end == FrontEnd(mean=-5.0, deviation=4.0)
    assert run.architecture.shape == (40, 98) and run.card.saw_speech_commands
    assert [each.label for each in learnt_clips(folder)] == list(WORDS)
    assert learnt_clips(folder)[1].identity == ClipIdentity(f"{1:064x}", "anna")


def test_a_folder_is_both_a_scorer_and_an_encoder(folder: Path) -> None:
    network = load_encoder(str(folder))
    assert isinstance(network, TrainedNetwork) and isinstance(network, Encoder) and isinstance(network, Scorer)
    assert check_encoder(network).dim == 32
    heard = clips(16_000, 400, 40_000)  # clips of other lengths than a second
    check_vectors(network.encode_audio(heard), 3, network)
    check_vectors(network.encode_text(["no", "YES"]), 2, network)
    assert network.score(heard, WORDS).exp().sum(1).tolist() == pytest.approx([1, 1, 1])
    assert network.encode_audio([]).shape == (0, 32) and network.score([], WORDS).shape == (0, 3)


def test_a_batch_changes_nothing(folder: Path) -> None:
    network = TrainedNetwork.from_folder(folder)
    heard = clips(16_000, 9_000, 20_000)
    alone = torch.cat([network.logits([each]) for each in heard])
    assert torch.allclose(network.logits(heard), alone, atol=1e-5)


def test_columns_follow_the_keywords_whatever_their_case(folder: Path) -> None:
    network = TrainedNetwork.from_folder(folder)
    heard = clips(16_000)
    whole, part = network.score(heard, WORDS), network.score(heard, ["Stop", "yes"])
    assert torch.equal(part, whole[:, [2, 0]])


def test_words_that_it_did_not_learn_are_named(folder: Path) -> None:
    network = TrainedNetwork.from_folder(folder)
    with pytest.raises(EncoderError, match=r"learnt no, stop, yes, and not lamp; name only its words with --keywords"):
        network.score(clips(16_000), ["yes", "lamp"])
    with pytest.raises(EncoderError, match="and not lamp"):
        network.encode_text(["lamp"])


def test_its_scores_say_that_it_learnt_the_words(folder: Path) -> None:
    network = TrainedNetwork.from_folder(folder)
    _, readout = readout_of(network, WORDS)
    assert readout.protocol.kind == "supervised" and readout.protocol.readout == "bc-resnet:1"
    assert [clip.speaker for clip in readout.protocol.support] == ["anna"] * 3
    with pytest.raises(EncoderError, match="has no prompts"):
        readout_of(network, WORDS, ["a person saying {}"])


def yes_and_no() -> Dataset:
    root = sample_folder()
    files = [path for word in ("yes", "no") for path in sorted((root / word).glob("*.wav"))[:4]]
    return Dataset("mine", tuple(Utterance(p, p.parent.name, p.name[:8], f"{p.parent.name}/{p.name}") for p in files),
                   ("yes", "no"), "mine")  # fmt: skip


def test_it_is_evaluated_mapped_and_refused_on_clips_that_trained(folder: Path) -> None:
    pytest.importorskip("sklearn", reason="a map needs scikit-learn")
    network, dataset = TrainedNetwork.from_folder(folder), yes_and_no()
    result = Run.prepare(dataset, Plan(map=True), folder).measure(network, embed)
    assert result.n == 8 and result.map is not None and len(result.map) == 8
    table = (folder / "clips.csv").read_text().splitlines()
    content = embed(network, dataset).identities[3].content
    (folder / "clips.csv").write_text("\n".join([*table, f"training,x,yes,,{content}"]) + "\n")
    with pytest.raises(MetricError, match="1 of the 8 reported clips also chose what the scores rest on"):
        Run.prepare(dataset, Plan()).measure(TrainedNetwork.from_folder(folder), embed)


def test_it_labels_a_folder_with_its_own_words(folder: Path) -> None:
    clips_of = sample_folder() / "yes"
    scores, audio = Submission(WORDS).scores(TrainedNetwork.from_folder(folder), clips_of, embed)
    assert scores.labels == WORDS and len(audio) == len(list(clips_of.glob("*.wav")))


def test_a_folder_that_is_no_run_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"is a folder without run.json, so it holds no finished training"):
        load_encoder(str(tmp_path))
    with pytest.raises(EncoderError, match="takes no precision, and 'int8' is given"):
        (tmp_path / "run.json").write_text("{}")
        load_encoder(str(tmp_path), precision="int8")
    with pytest.raises(EncoderError, match="is damaged"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("run.json", lambda text: text[:40], "run.json' is damaged"),
        ("run.json", lambda text: text.replace('"format": 1', '"format": 2'), "of format 2; this version reads 1"),
        ("run.json", lambda text: text.replace('"classes": 3', '"classes": 4'), "does not hold the weights of bc-res"),
        ("clips.csv", lambda text: "", "nothing says which clips the network learnt from"),
        ("clips.csv", lambda text: text.replace("content", "other"), "missing or damaged"),
    ],
)  # fmt: skip
def test_a_damaged_folder_gets_a_sentence(folder: Path, name: str, change: object, message: str) -> None:
    text = (folder / name).read_text()
    (folder / name).write_text(change(text))  # type: ignore[operator]
    with pytest.raises(EncoderError, match=message):
        readout_of(load_encoder(str(folder)), WORDS)


def test_weights_that_are_cut_or_of_another_network_get_a_sentence(folder: Path) -> None:
    weights = folder / "network.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EncoderError, match="does not hold the weights"):
        load_encoder(str(folder))
    save_file({"middles": torch.eye(3), "other": torch.zeros(2)}, weights)
    with pytest.raises(EncoderError, match=r"does not hold the weights of bc-resnet:1 for 3 words"):
        load_encoder(str(folder))


def test_a_copied_folder_is_the_same_encoder_and_other_weights_another(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert load_encoder(str(copy)).fingerprint == load_encoder(str(folder)).fingerprint
    content = json.loads((copy / "run.json").read_text())
    content["front_end"]["mean"] = -6.0
    (copy / "run.json").write_text(json.dumps(content))
    assert load_encoder(str(copy)).fingerprint != load_encoder(str(folder)).fingerprint

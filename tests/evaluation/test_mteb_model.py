"""MTEB both ways, on a task made of local clips: the same predictions as ours, clip by clip."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

import kws_imagebind as kws
from kws_imagebind.encoders.base import EncoderError
from kws_imagebind.encoders.registry import load_encoder

mteb = pytest.importorskip("mteb")
datasets = pytest.importorskip("datasets")

from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification  # noqa: E402
from mteb.models.model_meta import ModelMeta  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # notices of other libraries about their own future

WORDS = ["yes", "no", "seven", "wow", "on", "off"]  # the last two are said in two ways each


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a test reached for a network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


class LocalWords(AbsTaskZeroShotClassification):
    """MTEB's zero-shot task of Speech Commands with other clips and words."""

    metadata = mteb.get_task("SpeechCommandsZeroshotv0.02").metadata.model_copy(
        update={"name": "LocalWords", "dataset": {"path": "local/words", "revision": "1"}}
    )
    input_column_name = "audio"
    label_column_name = "label"

    def load_data(self, **_: object) -> None:
        sample = kws.load_dataset("sample", keywords=WORDS)
        rows = [
            {"audio": {"array": kws.load_audio(u.path, 16_000).numpy(), "sampling_rate": 16_000},
             "label": WORDS.index(u.label)}
            for u in sample.utterances
        ]  # fmt: skip
        self.dataset = {"test": datasets.Dataset.from_list(rows)}
        self.data_loaded = True

    def get_candidate_labels(self) -> list[str]:
        return [word.capitalize() for word in WORDS]


def test_mteb_s_run_of_phonebind_equals_ours_to_the_clip(tmp_path: Path) -> None:
    model = kws.mteb_model("phonebind", device="cpu")
    result = mteb.evaluate(
        model, tasks=[LocalWords()], cache=None, prediction_folder=tmp_path, show_progress_bar=False,
        co2_tracker=False,
    )  # fmt: skip
    dataset = kws.load_dataset("sample", keywords=WORDS)
    encoder = kws.load_encoder("phonebind", device="cpu")
    audio = kws.embed(encoder, dataset)
    own = kws.evaluate(kws.ZeroShotClassifier(encoder, WORDS)(audio), audio)
    assert result.task_results[0].scores["test"][0]["accuracy"] == pytest.approx(own.accuracy.estimate)
    files = list(tmp_path.rglob("*.json"))
    predictions = json.loads(files[0].read_text())["default"]["test"]
    assert [WORDS[int(np.argmax(each))] for each in predictions] == [line.prediction for line in own.predictions]
    scores = np.array(predictions)
    assert np.allclose(scores.max(1), [line.score for line in own.predictions], atol=1e-5)


def test_pairs_of_vectors_are_compared_as_the_matrix_is() -> None:
    model = kws.mteb_model("phonebind", device="cpu")
    texts = torch.utils.data.DataLoader([{"text": word} for word in WORDS], batch_size=4)  # type: ignore[arg-type]
    found = model.encode(texts, task_metadata=None, hf_split="test", hf_subset="default")  # type: ignore[arg-type]
    dim = load_encoder("phonebind", device="cpu").dim
    assert found.shape == (len(WORDS), 2 * dim)  # type: ignore[union-attr]
    turned = found[::-1].copy()  # type: ignore[index]
    assert torch.allclose(model.similarity_pairwise(found, turned), model.similarity(found, turned).diagonal())
    assert torch.allclose(model.similarity(found, found).diagonal(), torch.ones(len(WORDS)), atol=1e-5)


def test_prompts_are_the_encoder_s_own(tone_encoder: object) -> None:
    model = kws.mteb_model(tone_encoder)  # type: ignore[arg-type]
    texts = torch.utils.data.DataLoader([{"text": "440"}, {"text": "1000"}], batch_size=2)  # type: ignore[arg-type]
    found = model.encode(texts, task_metadata=None, hf_split="test", hf_subset="default")  # type: ignore[arg-type]
    assert tone_encoder.read == ["a person whistling 440", "a person whistling 1000"]  # type: ignore[attr-defined]
    assert found.shape == (2, 200) and model.mteb_model_meta.embed_dim == 200  # type: ignore[union-attr]


def test_a_scorer_is_no_model_of_mteb() -> None:
    pytest.importorskip("pocketsphinx")
    with pytest.raises(EncoderError, match="'pocketsphinx' scores words and has no embedding space"):
        kws.mteb_model("pocketsphinx")


class Registered:
    """What MTEB makes of a registered model: here our PhoneBind, so that both ways can be held against each other."""

    def __init__(self, modalities: list[str]) -> None:
        self._inner = kws.mteb_model("phonebind", device="cpu")
        self.mteb_model_meta = self._inner.mteb_model_meta.model_copy(  # type: ignore[union-attr]
            update={"modalities": modalities, "license": "mit", "training_datasets": {"SpeechCommands"}}
        )
        self.encode = self._inner.encode


def test_a_registered_model_as_an_encoder_equals_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mteb, "get_model", lambda name, device: Registered(["audio", "text"]))
    encoder = load_encoder("mteb:laion/larger_clap_general", device="cpu")
    direct = load_encoder("phonebind", device="cpu")
    clips = [0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    assert torch.allclose(encoder.encode_audio(clips), direct.encode_audio(clips), atol=1e-6)
    once = WORDS[:4]  # a registered model has one vector a text
    assert torch.allclose(encoder.encode_text(once), direct.encode_text(once), atol=1e-6)
    with pytest.raises(EncoderError, match=r"returned vectors of shape \(6, 384\); expected \(6, 192\)"):
        encoder.encode_text(WORDS)
    assert encoder.dim == direct.dim and encoder.card.saw_speech_commands  # type: ignore[attr-defined]
    assert encoder.card.licence == "mit" and encoder.card.parameters == 1_434_601  # type: ignore[attr-defined]


def test_what_mteb_cannot_load_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EncoderError, match="'mteb' needs a model after a colon"):
        load_encoder("mteb")
    with pytest.raises(EncoderError, match=r"has no model 'laion/larger_clap_generl' \(did you mean laion/larger_clap"):
        load_encoder("mteb:laion/larger_clap_generl")
    monkeypatch.setattr(mteb, "get_model", lambda name, device: Registered(["text"]))
    with pytest.raises(EncoderError, match="MTEB's model 'intfloat/multilingual-e5-small' has no audio side, only te"):
        load_encoder("mteb:intfloat/multilingual-e5-small", device="cpu")

    def offline(name: str, device: str) -> None:
        raise OSError("couldn't\nconnect")

    monkeypatch.setattr(mteb, "get_model", offline)
    with pytest.raises(EncoderError, match="'laion/larger_clap_general' cannot be loaded: couldn't connect"):
        load_encoder("mteb:laion/larger_clap_general", device="cpu")


def test_the_model_s_card_is_told_to_mteb() -> None:
    meta = kws.mteb_model("phonebind", device="cpu").mteb_model_meta
    assert isinstance(meta, ModelMeta) and meta.n_parameters == 1_434_601 and set(meta.modalities) == {"audio", "text"}

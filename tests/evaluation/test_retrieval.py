"""Retrieval as an evaluation: directions by hand, and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kws_imagebind.cli import main
from kws_imagebind.datasets import load_dataset
from kws_imagebind.embeddings.embed import Embeddings, embed
from kws_imagebind.evaluation.evaluate import evaluate
from kws_imagebind.evaluation.retrieval import measure_directions
from kws_imagebind.readouts.retrieval import directions
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from tests.conftest import ToneEncoder


class SeeingTone(ToneEncoder):
    """A tone encoder whose pictures lie in folders of a number of hertz."""

    def encode_image(self, images: Sequence[Path]) -> torch.Tensor:
        return self.encode_text([path.parent.name for path in images])


@pytest.fixture
def audio(tone_encoder: ToneEncoder, tones: Path) -> Embeddings:
    audio = embed(tone_encoder, load_dataset("folder", root=tones))
    noise = torch.randn(audio.features.shape, generator=torch.Generator().manual_seed(0))
    return replace(audio, features=torch.nn.functional.normalize(audio.features + 0.15 * noise, dim=1))


def test_audio_to_text_at_one_is_the_accuracy(audio: Embeddings, tone_encoder: ToneEncoder) -> None:
    text = ZeroShotClassifier(tone_encoder, audio.dataset.keywords)
    found = {each.name: each for each in measure_directions(directions(audio, text))}
    accuracy = evaluate(text(audio), audio).accuracy
    assert found["audio to text"].measures["recall@1"].estimate == pytest.approx(accuracy.estimate)
    assert found["audio to text"].measures["recall@1"].low == pytest.approx(accuracy.low)
    assert found["audio to text"].chance["recall@1"] == pytest.approx(1 / 3)
    assert (found["text to audio"].queries, found["text to audio"].documents) == (3, 24)
    assert found["text to audio"].chance["recall@5"] == pytest.approx(5 / 24)


def test_without_speakers_the_limits_are_those_of_evaluate(audio: Embeddings, tone_encoder: ToneEncoder) -> None:
    nameless = tuple(replace(each, speaker=None) for each in audio.utterances)
    audio = replace(audio, utterances=nameless, dataset=replace(audio.dataset, utterances=nameless))
    for noise in (0.0, 0.6):  # all right, and some
        moved = torch.randn(audio.features.shape, generator=torch.Generator().manual_seed(0))
        heard = replace(audio, features=torch.nn.functional.normalize(audio.features + noise * moved, dim=1))
        text = ZeroShotClassifier(tone_encoder, audio.dataset.keywords)
        accuracy = evaluate(text(heard), heard).accuracy
        found = next(each for each in measure_directions(directions(heard, text)) if each.name == "audio to text")
        recall = found.measures["recall@1"]
        assert (recall.low, recall.high) == pytest.approx((accuracy.low, accuracy.high))
        assert recall.n == 24 and recall.method == "wilson"


def test_ranks_that_any_order_reaches_are_not_printed(audio: Embeddings, tone_encoder: ToneEncoder) -> None:
    text = ZeroShotClassifier(tone_encoder, audio.dataset.keywords)
    found = {each.name: each for each in measure_directions(directions(audio, text))}
    said = str(found["audio to text"])  # among three words
    assert "recall@1 " in said and "map " in said
    assert "@5" not in said and "@10" not in said and "recall@5" in found["audio to text"].measures
    assert "recall@10" in str(found["text to audio"])  # among 24 clips


def test_audio_to_audio_leaves_out_the_query_and_then_its_speaker(audio: Embeddings) -> None:
    alone, apart = directions(audio)
    assert alone.allowed is not None and not alone.allowed.diagonal().any() and alone.allowed.sum() == 24 * 23
    who = [utterance.speaker for utterance in audio.utterances]
    assert apart.allowed is not None
    for row in range(24):
        assert [who[row] != other for other in who] == apart.allowed[row].tolist()
    value = measure_directions([alone])[0].measures["recall@1"]
    nearest = np.where(alone.allowed, alone.scores, -2).argmax(1)
    hits = [audio.utterances[a].label == audio.utterances[b].label for a, b in enumerate(nearest.tolist())]
    assert value.estimate == pytest.approx(np.mean(hits) / 7)  # of seven others
    nameless = replace(audio, utterances=tuple(replace(u, speaker=None) for u in audio.utterances))
    (only,) = directions(nameless)
    assert "taken as independent" in str(measure_directions([only])[0])


def test_words_without_clips_have_nothing_to_find(tone_encoder: ToneEncoder, tones: Path) -> None:
    audio = embed(tone_encoder, load_dataset("folder", root=tones, keywords="440,1000,5000"))
    found = measure_directions(directions(audio, ZeroShotClassifier(tone_encoder, audio.dataset.keywords)))
    assert (found[0].queries, found[0].left_out) == (2, 1) and "1 without anything to find left out" in str(found[0])


def test_images_search_and_are_found(audio: Embeddings) -> None:
    encoder = SeeingTone()
    images = encoder.encode_text(["440", "1000", "1000"])
    names = [each.name for each in directions(audio, None, images, ["440", "1000", "1000"])]
    assert names[-2:] == ["image to audio", "audio to image"]
    found = measure_directions(directions(audio, None, images, ["440", "1000", "1000"]))
    assert found[-2].measures["hit_rate@1"].estimate == 1 and found[-1].left_out == 8
    with pytest.raises(ValueError, match="1 labels for 3 images"):
        directions(audio, None, images, ["440"])


def test_the_command(capsys: pytest.CaptureFixture[str], tones: Path, tmp_path: Path) -> None:
    Image = pytest.importorskip("PIL.Image")  # noqa: N806
    code = f"{tmp_path / 'tone.py'}:load"
    (tmp_path / "tone.py").write_text("from tests.evaluation.test_retrieval import SeeingTone\n\nload = SeeingTone\n")
    for word in ("440", "1000"):
        (tmp_path / "pictures" / word).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / word / "1.jpg")
    asked = ["retrieve", "--data", str(tones), "--encoder", code, "--no-cache", "--quiet"]
    assert main([*asked, "--images", str(tmp_path / "pictures"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["direction"] for each in found["directions"]] == [
        "text to audio",
        "audio to text",
        "audio to audio",
        "audio to audio of other speakers",
        "image to audio",
        "audio to image",
    ]
    assert found["n"] == 24 and found["directions"][0]["measures"]["map"]["estimate"] == 1
    assert main([*asked]) == 0 and "audio to text: 24 queries, 3 documents" in capsys.readouterr().out
    assert main(["retrieve", "--data", str(tones), "--images", str(tmp_path), "--no-cache", "--quiet"]) == 2
    assert "encoder 'phonebind' takes no pictures" in capsys.readouterr().err

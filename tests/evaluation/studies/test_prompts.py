"""Prompts: named sets, two ways to average, and a choice that testing clips have no part in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kws_imagebind.datasets import Dataset, Utterance
from kws_imagebind.embeddings.embed import Embeddings
from kws_imagebind.evaluation.studies.prompts import by_template, study
from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.text.prompts import BARE, TEMPLATE_SETS, PromptError, check_templates, template_set
from tests.conftest import ToneEncoder

WORDS = ("yes", "no", "up", "down")
DIM = 16


NOISE = {"{}": 1.1, "a person saying {}": 0.5, "a photo of a {}.": 3.0}  # how badly each sentence is read


class Reader:
    """Reads a word through more or less noise, by the sentence it stands in."""

    name, sample_rate, dim, fingerprint, default_template = "reader", 16_000, DIM, "reader-1", "a person saying {}"

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self._read(text) for text in texts])

    def encode_audio(self, waveforms: Sequence[Tensor]) -> Tensor:
        raise NotImplementedError

    def _read(self, text: str) -> Tensor:
        word = next(word for word in WORDS if word in text.replace(".", "").split())
        template = text.replace(word, "{}")
        generator = torch.Generator().manual_seed(sum(map(ord, text)))
        clean = F.one_hot(torch.tensor(WORDS.index(word)), DIM).float()
        return F.normalize(clean + NOISE.get(template, 0.8) * torch.randn(DIM, generator=generator) / DIM**0.5, dim=0)


def clips(split: str | None, seed: int, n: int = 240, speakers: bool = True) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 4
    features = F.normalize(F.one_hot(targets, DIM) + 0.35 * torch.randn(n, DIM, generator=generator), dim=1)
    utterances = tuple(
        Utterance(Path(f"{i}.wav"), WORDS[i % 4], f"s{i % 20}" if speakers else None, f"{seed}/{i}.wav")
        for i in range(n)
    )
    dataset = Dataset("speech-commands", utterances, WORDS, "custom", split)
    return Embeddings(features, targets, utterances, dataset, "reader", "reader-1")


def test_the_best_on_validation_clips_is_chosen_and_tested_against_the_bare_word() -> None:
    found = study(Reader(), WORDS, clips("validation", 1), clips("testing", 2))
    names = [(trial.name, trial.average) for trial in found.trials]
    assert set(names) == {
        ("bare", "embedding"), ("saying", "embedding"), ("clip", "embedding"),
        ("speech", "embedding"), ("speech", "score"),
    }  # fmt: skip
    accuracies = [trial.validation.estimate for trial in found.trials]
    assert accuracies == sorted(accuracies, reverse=True) and found.chosen is found.trials[0]
    bare = next(trial for trial in found.trials if trial.name == "bare")
    assert bare.against_bare is None
    for trial in found.trials:
        if trial.against_bare:
            expected = trial.testing.estimate - bare.testing.estimate
            assert trial.against_bare.difference == pytest.approx(expected)
            assert trial.corrected >= trial.against_bare.p
            assert trial.against_bare.method == "paired-by-speaker"
    assert "chosen on validation clips for reader" in str(found) and "by Holm" in str(found)
    json.dumps(found.as_dict(), allow_nan=False)


def test_testing_clips_have_no_part_in_the_choice() -> None:
    validation = clips("validation", 1)
    one = study(Reader(), WORDS, validation, clips("testing", 2))
    other = clips("testing", 3)
    other = replace(other, features=F.normalize(torch.randn_like(other.features), dim=1))
    again = study(Reader(), WORDS, validation, other)
    assert [trial.name for trial in again.trials] == [trial.name for trial in one.trials]
    assert [trial.validation for trial in again.trials] == [trial.validation for trial in one.trials]


def test_clips_that_chose_are_not_reported() -> None:
    with pytest.raises(MetricError, match="reported clips also chose the prompt"):
        study(Reader(), WORDS, clips("validation", 1), clips("all", 1))


def test_an_encoder_of_sounds_and_other_keywords_are_refused(tone_encoder: ToneEncoder) -> None:
    tone_encoder.default_template = BARE  # type: ignore[misc]
    with pytest.raises(MetricError, match="tone hears sounds, not sentences"):
        study(tone_encoder, WORDS, clips("validation", 1), clips("testing", 2))
    testing = clips("testing", 2)
    testing = replace(testing, dataset=replace(testing.dataset, keywords=(*WORDS, "lamp")))
    with pytest.raises(MetricError, match="of other keywords"):
        study(Reader(), WORDS, clips("validation", 1), testing)


def test_averaging_scores_is_the_mean_of_each_templates_cosines() -> None:
    templates = TEMPLATE_SETS["speech"]
    features = clips("testing", 4).features
    each = [ZeroShotClassifier(Reader(), WORDS, [template])(features).values for template in templates]
    both = ZeroShotClassifier(Reader(), WORDS, templates, average="score")(features)
    torch.testing.assert_close(both.values, torch.stack(each).mean(0))
    assert both.protocol.average == "score"
    ensemble = ZeroShotClassifier(Reader(), WORDS, templates)(features).values
    assert not torch.allclose(ensemble, both.values)
    with pytest.raises(PromptError, match="unknown average 'median'; available: embedding, score"):
        ZeroShotClassifier(Reader(), WORDS, templates, average="median")  # type: ignore[arg-type]


def test_named_sets_are_sound_and_others_are_refused() -> None:
    for name in TEMPLATE_SETS:
        assert check_templates(template_set(name)) == TEMPLATE_SETS[name]
    with pytest.raises(PromptError, match="unknown set of prompts 'singing'; available: bare, saying, clip, speech"):
        template_set("singing")


def test_each_template_is_tried_alone_and_taken_at_its_word() -> None:
    audio = clips(None, 3)
    found = by_template(Reader(), audio)
    assert list(found) == list(dict.fromkeys(t for some in TEMPLATE_SETS.values() for t in some))
    for template, interval in found.items():
        scores = ZeroShotClassifier(Reader(), WORDS, (template,))(audio)
        hits = (scores.values.argmax(dim=1) == audio.targets).double().mean()
        assert interval.estimate == pytest.approx(float(hits)) and interval.method == "wilson-by-speaker"
    assert found["a person saying {}"].estimate > found["a photo of a {}."].estimate


def test_an_encoder_of_sounds_hears_the_whole_sentence(caplog: pytest.LogCaptureFixture) -> None:
    import kws_imagebind as kws

    encoder = kws.load_encoder("phonebind", device="cpu")
    audio = kws.embed(encoder, kws.load_dataset("sample", task="v2-10"))
    found = by_template(encoder, audio, ["{}", "a person saying {}"])
    assert found["{}"].estimate > found["a person saying {}"].estimate + 0.05
    usual = kws.evaluate(ZeroShotClassifier(encoder, audio.dataset.keywords, ["a person saying {}"])(audio), audio)
    assert usual.accuracy.estimate == found["{}"].estimate  # which otherwise leaves the sentence out

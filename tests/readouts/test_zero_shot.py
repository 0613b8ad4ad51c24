"""Prompts, templates and scores."""

from __future__ import annotations

import logging

import pytest
import torch
from torch.nn import functional as F

from kws_imagebind.encoders import Encoder, EncoderError, load_encoder
from kws_imagebind.encoders.base import VariantEncoder, resolve_device
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from kws_imagebind.text.keywords import KeywordError
from kws_imagebind.text.prompts import PromptError
from tests.conftest import ToneEncoder


def test_each_prompt_is_encoded_once(tone_encoder: ToneEncoder) -> None:
    scorer = ZeroShotClassifier(tone_encoder, ["440", "1000"])
    for _ in range(3):
        scorer(F.normalize(torch.rand(5, tone_encoder.dim), dim=1))
    assert tone_encoder.read == ["a person whistling 440", "a person whistling 1000"]


def test_scores_are_cosines_and_permute_with_the_keywords(tone_encoder: ToneEncoder) -> None:
    features = F.normalize(torch.rand(5, tone_encoder.dim), dim=1)
    scores = ZeroShotClassifier(tone_encoder, ["440", "1000", "3000"])(features)
    expected = torch.stack([features[:, 11], features[:, 25], features[:, 75]], 1)
    torch.testing.assert_close(scores.values, expected)
    permuted = ZeroShotClassifier(tone_encoder, ["3000", "440", "1000"])(features)
    torch.testing.assert_close(permuted.values, scores.values[:, [2, 0, 1]])


def test_a_template_ensemble_is_the_renormalised_mean(tone_encoder: ToneEncoder) -> None:
    features = F.normalize(torch.rand(3, tone_encoder.dim), dim=1)
    templates = ["a person whistling {}", "2{}"]  # 440 and 2440 Hz, 960 and 2960 Hz: at right angles
    both = ZeroShotClassifier(tone_encoder, ["440", "960"], templates)(features)
    torch.testing.assert_close(both.values[:, 0], (features[:, 11] + features[:, 61]) / 2**0.5)
    assert both.protocol.templates == tuple(templates)


def test_lists_may_be_texts(tone_encoder: ToneEncoder) -> None:
    scorer = ZeroShotClassifier(tone_encoder, "440,1000", "a whistle of {}")
    assert scorer.labels == ("440", "1000") and scorer.templates == ("a whistle of {}",)


def test_an_encoder_that_reads_meaning_is_given_the_label_of_an_arpabet_keyword(tone_encoder: ToneEncoder) -> None:
    ZeroShotClassifier(tone_encoder, ["440=/F AO R/", "1000"])
    assert tone_encoder.read == ["a person whistling 440", "a person whistling 1000"]


def test_a_word_scores_as_its_best_pronunciation() -> None:
    encoder = load_encoder("phonebind", device="cpu")
    features = encoder.encode_text(["/T AH M EY T OW/", "/T AH M AA T OW/"])
    scores = ZeroShotClassifier(encoder, ["tomato", "potato"])(features)
    torch.testing.assert_close(scores.values[:, 0], torch.ones(2))
    one = ZeroShotClassifier(encoder, ["tomato=/T AH M EY T OW/", "potato"])(features)
    assert one.values[1, 0] < 0.999 and one.labels == ("tomato", "potato")


def test_phonebind_uses_the_word_where_it_is_given_a_carrier(caplog: pytest.LogCaptureFixture) -> None:
    encoder = load_encoder("phonebind", device="cpu")
    with caplog.at_level(logging.WARNING, "kws_imagebind"):
        carried = ZeroShotClassifier(encoder, ["yes", "no"], ["a person saying {}"])
    assert "a person saying {}" in caplog.text and carried.templates == ("{}",)
    features = encoder.encode_text(["yes"])
    assert torch.equal(carried(features).values, ZeroShotClassifier(encoder, ["yes", "no"])(features).values)


def test_bad_templates_and_keywords_are_refused(tone_encoder: ToneEncoder) -> None:
    for template in ("no place", "{} and {}", "{word}", "{}}"):
        with pytest.raises(PromptError, match="needs one"):
            ZeroShotClassifier(tone_encoder, ["440"], [template])
    with pytest.raises(PromptError, match="no template"):
        ZeroShotClassifier(tone_encoder, ["440"], [])
    with pytest.raises(KeywordError, match="twice"):
        ZeroShotClassifier(tone_encoder, ["440", "440"])


def test_encoders_keep_their_protocol() -> None:
    encoder = load_encoder("phonebind", device="cpu")
    assert isinstance(encoder, Encoder) and isinstance(encoder, VariantEncoder)
    audio = encoder.encode_audio([torch.rand(16_000) - 0.5, torch.rand(3_000) - 0.5, torch.rand(40_000) - 0.5])
    text = encoder.encode_text(["lamp", "turn it on"])
    for vectors, count in ((audio, 3), (text, 2)):
        assert vectors.shape == (count, encoder.dim) and vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(count))
    assert encoder.encode_audio([]).shape == encoder.encode_text([]).shape == (0, encoder.dim)


def test_bad_waveforms_names_devices_and_precisions_are_refused() -> None:
    encoder = load_encoder("phonebind", device="cpu")
    for waveform in (torch.zeros(2, 5), torch.zeros(0), torch.tensor([1, 2]), torch.tensor([float("nan")])):
        with pytest.raises(EncoderError, match="waveform 0"):
            encoder.encode_audio([waveform])
    with pytest.raises(EncoderError, match="did you mean phonebind"):
        load_encoder("phonebinder")
    for device in ("cuda:99", "meta", "toaster"):
        with pytest.raises(EncoderError, match="not available here"):
            resolve_device(device)
    with pytest.raises(EncoderError, match="precision 'int3'"):
        load_encoder("phonebind", device="cpu", precision="int3")


def test_bf16_hears_much_the_same() -> None:
    waveforms = [torch.rand(16_000, generator=torch.Generator().manual_seed(seed)) - 0.5 for seed in range(4)]
    full = load_encoder("phonebind", device="cpu").encode_audio(waveforms)
    reduced = load_encoder("phonebind", device="cpu", precision="bf16")
    assert (reduced.encode_audio(waveforms) * full).sum(1).min() > 0.99
    assert reduced.fingerprint != load_encoder("phonebind", device="cpu").fingerprint


def test_many_guessed_words_are_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    encoder = load_encoder("phonebind", device="cpu")
    with caplog.at_level("INFO", logger="kws_imagebind"):
        ZeroShotClassifier(encoder, ["yes", *(f"{start}orblat" for start in ("z", "bl", "kr", "sn", "fl", "gl", "v"))])
        ZeroShotClassifier(encoder, ["zorblat", "yes"])  # said before
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith("7 words are not in CMUdict")

"""Scores of scorers through the data flow of vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import kws_imagebind as kws
from kws_imagebind.encoders.base import EncoderError, check_encoder
from kws_imagebind.encoders.scorer import WithoutVectors
from kws_imagebind.readouts.likelihood import LikelihoodReadout, ScoredClips, readout_of
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier

WORDS = ["440", "1000", "3000"]


class ToneScorer(WithoutVectors):
    """Scores a tone by the energy at a word's number of hertz, in decibels; checks by hand are easy."""

    name = "tones"
    sample_rate = 16_000
    fingerprint = "tones-1"

    def __init__(self) -> None:
        self.heard = 0

    def score(self, waveforms: Sequence[Tensor], keywords: Sequence[str]) -> Tensor:
        self.heard += len(waveforms)
        spectra = [torch.fft.rfft(waveform, 16_000).abs() for waveform in waveforms]
        return torch.stack([20 * torch.log10(each[[int(word) for word in keywords]]) for each in spectra])


def test_scores_come_back_whatever_their_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(50, 7, generator=generator) * 10 ** torch.linspace(-3, 4, 50)[:, None]

    class Given(ToneScorer):
        def score(self, waveforms: Sequence[Tensor], keywords: Sequence[str]) -> Tensor:
            return values

    words = [f"w{i}" for i in range(7)]
    vectors = ScoredClips(Given(), words).encode_audio([torch.zeros(1)] * 50)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(50), atol=1e-6)
    scores = LikelihoodReadout(words)(vectors)
    assert torch.allclose(scores.values, values, rtol=1e-5, atol=1e-6)
    assert torch.equal(scores.values.argmax(1), values.argmax(1))
    assert scores.protocol.kind == "likelihood" and scores.labels == tuple(words)


def test_a_scorer_is_evaluated_and_cached_like_an_encoder(tones: Path, tmp_path: Path) -> None:
    dataset = kws.load_dataset("folder", root=tones)
    scorer = ToneScorer()
    listener, readout = readout_of(scorer, dataset.keywords)
    audio = kws.embed(listener, dataset, cache=tmp_path)
    result = kws.evaluate(readout(audio), audio)
    assert result.accuracy.estimate == 1 and scorer.heard == 24
    again = kws.embed(readout_of(scorer, dataset.keywords)[0], dataset, cache=tmp_path)
    assert again.cached == 24 and scorer.heard == 24
    fewer = readout_of(scorer, dataset.keywords[:2])[0]
    assert fewer.fingerprint != listener.fingerprint  # other words, other scores


def test_an_encoder_keeps_its_prompts(tone_encoder: Callable[..., object]) -> None:
    listener, readout = readout_of(tone_encoder, WORDS)  # type: ignore[arg-type]
    assert listener is tone_encoder and isinstance(readout, ZeroShotClassifier)


@pytest.mark.parametrize("returned", [torch.zeros(1, 2), torch.full((1, 3), torch.nan), torch.zeros(2, 3)])
def test_scores_of_a_wrong_shape_or_not_finite_are_refused(returned: Tensor) -> None:
    class Odd(ToneScorer):
        def score(self, waveforms: Sequence[Tensor], keywords: Sequence[str]) -> Tensor:
            return returned

    with pytest.raises(EncoderError, match=r"scorer 'tones' returned .*; expected finite numbers of shape \(1, 3\)"):
        ScoredClips(Odd(), WORDS).encode_audio([torch.zeros(1)])


def test_a_scorer_says_that_it_has_no_vectors() -> None:
    scorer = ToneScorer()
    for ask in (
        lambda: check_encoder(scorer),
        lambda: ZeroShotClassifier(scorer, WORDS),  # type: ignore[arg-type]
        lambda: ScoredClips(scorer, WORDS).encode_text(["yes"]),
        lambda: scorer.encode_audio,
    ):
        with pytest.raises(EncoderError, match="'tones' scores words and has no embedding space"):
            ask()
    with pytest.raises(EncoderError, match="has no prompts; leave --template"):
        readout_of(scorer, WORDS, ["say {}"])
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = scorer.nothing

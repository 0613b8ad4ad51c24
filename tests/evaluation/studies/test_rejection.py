"""Silence and unknown on tones, whose scores can be told beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import kws_imagebind as kws
from kws_imagebind.evaluation.studies.rejection import INSIDE, NOISE, WORDS, noises, study
from kws_imagebind.metrics.classification import MetricError
from tests.conftest import ToneEncoder


class ReadingToneEncoder(ToneEncoder):
    """As its parent; what is no number, such as "silence", is a tone that no clip has."""

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return super().encode_text([text if text.split()[-1].isdigit() else "7000" for text in texts])


@pytest.fixture
def encoder() -> ReadingToneEncoder:
    return ReadingToneEncoder()


@pytest.fixture
def audio(tones: Path, encoder: ReadingToneEncoder) -> kws.Embeddings:
    return kws.embed(encoder, kws.load_dataset("folder", root=tones))


def test_tones_of_the_keywords_are_told_from_the_rest(audio: kws.Embeddings, encoder: ReadingToneEncoder) -> None:
    quiet = [torch.full((16_000,), 0.5) * torch.hann_window(16_000)] * 5  # a slow swell: no tone of any word
    found = study(encoder, audio, quiet, words=("440", "1000"))
    assert {kind: len(scores) for kind, scores in found.scores.items()} == {INSIDE: 16, WORDS: 8, NOISE: 5}
    assert found.scores[INSIDE].min() > 0.8 > 0.2 > max(found.scores[WORDS].max(), found.scores[NOISE].max())
    assert found.turned_away(WORDS) == 8 and found.turned_away(NOISE) == 5
    assert found.turned_away(INSIDE) <= 0.05 * 16
    assert [outcome.auroc.estimate for outcome in found.outcomes] == [1.0, 1.0, 1.0]
    assert {kind: clips for kind, (clips, _) in found.prompted.items()} == {INSIDE: 16, WORDS: 8, NOISE: 5}
    table = str(found).splitlines()
    assert table[0].split("   ")[-1] == "AUROC" and len(table) == 4
    assert [line.split()[-1] for line in table[2:]] == ["1.000]"] * 2


def test_two_more_prompts_catch_only_what_sounds_like_them(audio: kws.Embeddings, encoder: ReadingToneEncoder) -> None:
    time = torch.arange(16_000) / 16_000
    found = study(encoder, audio, [torch.sin(2 * torch.pi * 7_000 * time)] * 3, words=("440", "1000"))
    assert found.prompted[NOISE] == (3, 3)  # it is just the tone that "silence" stands for
    assert found.prompted[INSIDE] == (16, 0)


def test_the_threshold_accepts_95_of_100(audio: kws.Embeddings, encoder: ReadingToneEncoder) -> None:
    found = study(encoder, audio, noises(4, 16_000), words=("440", "1000"))
    accepted = found.scores[INSIDE] >= found.threshold
    assert accepted.mean() >= 0.95
    assert found.threshold in found.scores[INSIDE]


def test_keywords_are_half_of_the_words_where_none_of_them_is_a_command(
    audio: kws.Embeddings, encoder: ReadingToneEncoder
) -> None:
    with pytest.raises(MetricError, match="1 keywords"):
        study(encoder, audio, [])  # the half of three words is one
    sample = kws.load_dataset("sample", task="digits").subset(60)
    phonebind = kws.load_encoder("phonebind", device="cpu")
    found = study(phonebind, kws.embed(phonebind, sample), [])
    assert found.keywords == ("zero", "one", "two", "three", "four")
    assert set(found.scores) == {INSIDE, WORDS}


def test_noises_are_what_they_are_called() -> None:
    made = noises(60, 16_000, seed=1)
    assert all(noise.shape == (16_000,) and noise.dtype == torch.float32 for noise in made)
    peaks = [float(noise.abs().max()) for noise in made]
    assert peaks == sorted(peaks) and peaks[0] == pytest.approx(0.001) and peaks[-1] == pytest.approx(0.5)
    hertz = np.fft.rfftfreq(16_000, 1 / 16_000)
    band = (hertz > 50) & (hertz < 7_000)
    for index, slope in ((57, 0.0), (58, -1.0), (59, -2.0)):
        power = np.abs(np.fft.rfft(made[index].numpy())) ** 2
        fitted = np.polyfit(np.log(hertz[band]), np.log(power[band]), 1)[0]
        assert fitted == pytest.approx(slope, abs=0.1)
    again = noises(60, 16_000, seed=1)
    assert all(torch.equal(one, other) for one, other in zip(made, again, strict=True))
    assert not torch.equal(made[0], noises(60, 16_000, seed=2)[0])
    assert noises(0, 16_000) == []

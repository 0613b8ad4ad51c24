"""The notebook's few examples and search: halves without a common voice, and hits against a plain product."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import kws_imagebind as kws
from kws_imagebind.datasets import Dataset
from kws_imagebind.embeddings.embed import Embeddings, embed
from kws_imagebind.notebook import readouts
from kws_imagebind.readouts.support import FewShotError
from tests.conftest import ToneEncoder


@pytest.fixture
def audio(tone_encoder: ToneEncoder, tones: Path) -> Embeddings:
    return embed(tone_encoder, kws.load_dataset("folder", root=tones))


def test_halves_share_no_voice_and_lose_no_clip(audio: Embeddings) -> None:
    learn, reported = readouts.halves(audio, seed=3)
    voices = [{clip.speaker for clip in half.utterances} for half in (learn, reported)]
    assert not voices[0] & voices[1] and len(learn) + len(reported) == len(audio)
    for half in (learn, reported):
        rows = [audio.utterances.index(clip) for clip in half.utterances]
        assert torch.equal(half.features, audio.features[rows]) and torch.equal(half.targets, audio.targets[rows])
        assert half.contents == tuple(audio.contents[row] for row in rows)
    assert readouts.halves(audio, seed=3)[0].utterances == learn.utterances


def test_few_examples_are_measured_on_other_voices(tone_encoder: ToneEncoder, audio: Embeddings) -> None:
    scorer = kws.ZeroShotClassifier(tone_encoder, audio.dataset.keywords)
    curve = readouts.few_examples(audio, scorer)
    assert curve.speakers_apart and {point.shots for point in curve.points} == {1, 2, 4}
    assert all(point.accuracy.estimate == 1 for point in curve.points)  # pure tones
    lone = [
        next(row for row, clip in enumerate(audio.utterances) if clip.label == word) for word in audio.dataset.labels
    ]
    with pytest.raises(FewShotError):
        readouts.few_examples(audio.select(lone), scorer)


def test_search_shows_the_nearest_clips(
    audio: Embeddings, monkeypatch: pytest.MonkeyPatch, tone_encoder: ToneEncoder
) -> None:
    shown: list[tuple[str, ...]] = []
    played: list[str] = []
    monkeypatch.setattr(readouts, "tabulate", lambda head, rows: shown.extend(rows))
    monkeypatch.setattr(readouts, "listen", lambda clips: played.extend(clip.key for clip in clips))
    query = audio.features[:1]
    readouts.search(audio, query, top=2, without=[audio.utterances[0]])
    cosines = (audio.features @ query[0])[1:]
    best = cosines.argsort(descending=True, stable=True)[:2].tolist()
    assert shown == [
        (f"{cosines[row]:.2f}", audio.utterances[row + 1].label, audio.utterances[row + 1].speaker) for row in best
    ]
    assert played[0] != audio.utterances[0].key and len(played) == 2


def test_selected_clips_keep_what_is_known_of_them(audio: Embeddings) -> None:
    dataset: Dataset = audio.dataset
    silent = replace(audio, silent=(audio.utterances[0].key, audio.utterances[1].key))
    part = silent.select([1, 3])
    assert part.silent == (audio.utterances[1].key,) and part.dataset is dataset and len(part) == 2

"""Read-outs that learn from clips: against scikit-learn and closed forms, at their limits, and with bad input."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from torch.nn import functional as F

from kws_imagebind.datasets import load_dataset
from kws_imagebind.datasets.base import ClipIdentity
from kws_imagebind.embeddings.embed import Embeddings, embed
from kws_imagebind.readouts.base import Readout
from kws_imagebind.readouts.few_shot import STRENGTH, chosen_strength, class_mean, text_held, zero_shot
from kws_imagebind.readouts.linear_probe import linear_head, logistic
from kws_imagebind.readouts.registry import LEARNING, READOUTS, fit_readout
from kws_imagebind.readouts.support import SAMPLINGS, FewShotError, Pool, Support, sampling
from kws_imagebind.readouts.zero_shot import ZeroShotClassifier
from tests.conftest import ToneEncoder

LABELS = ("440", "1000", "3000")


def toy(n: int = 60, labels: tuple[str, ...] = LABELS, seed: int = 0, spread: float = 0.12) -> Support:
    """Clips around three tones' text vectors, each of ten speakers with a manner of their own."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % len(labels)
    centres = np.eye(200)[[int(label) // 40 for label in labels]] + np.eye(200)[100]
    manner = 0.05 * rng.normal(size=(10, 200))
    features = centres[targets] + spread * rng.normal(size=(n, 200)) + manner[np.arange(n) % 10]
    unit = F.normalize(torch.from_numpy(features).float(), dim=1)
    clips = tuple(ClipIdentity(f"{seed}-{i}", f"s{i % 10}") for i in range(n))
    return Support(unit, torch.from_numpy(targets), labels, clips, shots=n // 3, draws=4)


@pytest.fixture
def text(tone_encoder: ToneEncoder) -> ZeroShotClassifier:
    return ZeroShotClassifier(tone_encoder, LABELS)


@pytest.mark.parametrize("name", list(READOUTS))
def test_every_readout_keeps_the_protocol(name: str, text: ZeroShotClassifier) -> None:
    support, other = toy(), toy(seed=1)
    readout = fit_readout(name, support, text)
    scores = readout(other.features)
    assert isinstance(readout, Readout) and scores.labels == LABELS and scores.values.shape == (60, 3)
    assert torch.equal(scores.values, readout(other).values)  # anything with features will do
    assert scores.protocol == readout.protocol and scores.protocol.readout == name
    if name == "zero-shot":
        assert scores.protocol.kind == "zero-shot" and not scores.protocol.support
    else:
        assert scores.protocol.kind == "few-shot" and scores.protocol.support == support.clips
        assert (scores.protocol.shots, scores.protocol.draws) == (20, 4)
        assert (scores.values.argmax(1) == other.targets).float().mean() > 0.8
    shuffled = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    again = replace(
        support, features=support.features[shuffled], targets=support.targets[shuffled],
        clips=tuple(support.clips[i] for i in shuffled.tolist()),
    )  # fmt: skip
    if name != "linear-head":  # which sees the clips in an order
        torch.testing.assert_close(fit_readout(name, again, text)(other).values, scores.values, atol=2e-3, rtol=0)


def test_the_class_mean_is_scikit_learns() -> None:
    support, other = toy(spread=0.3), toy(seed=1, spread=0.3)
    scores = class_mean(support)(other.features)
    centres = NearestCentroid().fit(support.features.numpy(), support.targets.numpy()).centroids_
    unit = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    np.testing.assert_allclose(scores.values.numpy(), other.features.numpy() @ unit.T, atol=1e-6)


@pytest.mark.parametrize("labels", [LABELS, LABELS[:2]])
def test_logistic_regression_is_scikit_learns(labels: tuple[str, ...]) -> None:
    support, other = toy(labels=labels, spread=0.3), toy(labels=labels, seed=1, spread=0.3)
    mine = logistic(support)(other.features).values.double().log_softmax(1).numpy()
    theirs = LogisticRegression(max_iter=100).fit(support.features.numpy(), support.targets.numpy())
    np.testing.assert_allclose(mine, theirs.predict_log_proba(other.features.numpy()), atol=1e-4)


def test_the_held_classifier_is_the_minimum_that_scipy_finds(text: ZeroShotClassifier) -> None:
    support, strength, scale = toy(n=30, spread=0.3), 2.0, 8.0
    x, y, start = support.features.double().numpy(), support.targets.numpy(), text.weights.double().numpy()

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        logits = scale * x @ (start + flat.reshape(start.shape)).T
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        error = shares - np.eye(3)[y]
        value = -np.log(shares[np.arange(len(y)), y]).sum() + strength / 2 * (flat**2).sum()
        return value, (scale * error.T @ x).ravel() + strength * flat

    found = minimize(loss, np.zeros(start.size), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-14})
    expected = start + found.x.reshape(start.shape)
    held = text_held(support, text, strength, scale)
    np.testing.assert_allclose(held.weights.numpy(), expected, atol=1e-4)


def test_how_often_a_word_was_recorded_says_nothing(text: ZeroShotClassifier) -> None:
    """Every clip of one word given twice is the same as once, in every read-out that weights."""
    support, other = toy(n=30, spread=0.3), toy(seed=1, spread=0.3)
    rows = torch.cat([torch.arange(30), (support.targets == 1).nonzero()[:, 0]])
    twice = replace(
        support, features=support.features[rows], targets=support.targets[rows],
        clips=tuple(support.clips[row] for row in rows.tolist()),
    )  # fmt: skip
    assert support.weights.tolist() == [1.0] * 30 and sum(twice.weights.tolist()) == pytest.approx(40)
    # Weights sum to the number of clips, which the prior is held against.
    mine, theirs = text_held(twice, text, 40.0)(other).values, text_held(support, text, 30.0)(other).values
    torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=0)
    balanced = LogisticRegression(max_iter=100, class_weight="balanced").fit(
        twice.features.numpy(), twice.targets.numpy()
    )
    found = logistic(twice)(other.features).values.double().log_softmax(1).numpy()
    np.testing.assert_allclose(found, balanced.predict_log_proba(other.features.numpy()), atol=1e-4)


def test_an_endless_hold_and_no_clips_are_zero_shot(text: ZeroShotClassifier) -> None:
    other = toy(seed=1, spread=0.3)
    plain = text(other.features).values
    torch.testing.assert_close(text_held(toy(), text, 1e9)(other).values, plain, atol=1e-5, rtol=0)
    none = Support(torch.zeros(0, 200), torch.zeros(0, dtype=torch.int64), LABELS, ())
    assert torch.equal(text_held(none, text)(other).values, plain)
    assert zero_shot(none, text) is text
    assert not torch.allclose(text_held(toy(), text, 1.0)(other).values, plain, atol=1e-2)


def test_a_word_without_clips_keeps_its_text_vector(text: ZeroShotClassifier) -> None:
    support = toy()
    some = support.targets != 1
    part = replace(support, features=support.features[some], targets=support.targets[some])
    held = text_held(part, text, 1.0)
    assert torch.equal(held.weights[1], text.weights[1]) and not torch.allclose(held.weights[0], text.weights[0])
    for learn in (class_mean, logistic, linear_head):
        with pytest.raises(FewShotError, match=r"there are no clips of 1000 for '.*' to learn from; leave them out"):
            learn(part)


def test_words_with_several_pronunciations_score_as_the_best(text: ZeroShotClassifier) -> None:
    several = ZeroShotClassifier.__new__(ZeroShotClassifier)
    several.__dict__.update(text.__dict__)
    several.weights = torch.cat([text.weights, text.weights[:1].roll(3, 1)])
    several.owners = torch.tensor([0, 1, 2, 0])
    other = toy(seed=1)
    held = text_held(toy(), several, 1e9)
    torch.testing.assert_close(held(other).values, several(other.features).values, atol=1e-5, rtol=0)


def test_the_strength_is_chosen_by_clips_of_speakers_left_out(text: ZeroShotClassifier) -> None:
    swapped = replace(toy(n=60), targets=(toy(n=60).targets + 1) % 3)  # the text is wrong: let go
    assert chosen_strength(swapped, text) < 100
    noisy = replace(toy(n=12), features=F.normalize(text.weights[toy(n=12).targets] + 0.15 * toy(n=12).features, dim=1))
    assert chosen_strength(noisy, text) == 1000  # the text is right: hold on
    other = replace(toy(n=90, seed=2), targets=(toy(n=90).targets + 1) % 3)
    right = (text_held(swapped, text, "speakers")(other).values.argmax(1) == other.targets).float().mean()
    assert right > 0.9 > (text(other.features).values.argmax(1) == other.targets).float().mean()
    one = replace(noisy, clips=tuple(ClipIdentity(clip.content, "one") for clip in noisy.clips))
    assert chosen_strength(one, text) == STRENGTH


def test_bad_input_gets_one_sentence(text: ZeroShotClassifier, tone_encoder: ToneEncoder) -> None:
    with pytest.raises(FewShotError, match="there is no encoder to make them"):
        fit_readout("text-held", toy())
    with pytest.raises(FewShotError, match="strength 0"):
        text_held(toy(), text, 0)
    with pytest.raises(FewShotError, match="expected numbers above 0, or the strength 'speakers'"):
        text_held(toy(), text, "much")
    with pytest.raises(FewShotError, match="text vectors of 2 labels for clips of 3"):
        text_held(toy(), ZeroShotClassifier(tone_encoder, LABELS[:2]))
    with pytest.raises(FewShotError, match=r"unknown read-out 'class-men' \(did you mean class-mean\?\)"):
        fit_readout("class-men", toy())
    with pytest.raises(FewShotError, match="unknown protocol 'mine'; available: speakers, mteb, imagebind"):
        sampling("mine")


def test_a_readout_of_ones_own_is_found_by_its_file(tmp_path: Path, text: ZeroShotClassifier) -> None:
    file = tmp_path / "own.py"
    lines = ["from kws_imagebind.readouts.few_shot import class_mean", "learn = lambda support: class_mean(support)"]
    file.write_text("\n".join(lines))
    readout = fit_readout(f"{file}:learn", toy(), text)
    assert torch.equal(readout(toy()).values, class_mean(toy())(toy()).values)
    assert set(LEARNING) < set(READOUTS)


@pytest.fixture
def audio(tone_encoder: ToneEncoder, tones: Path) -> Embeddings:
    return embed(tone_encoder, load_dataset("folder", root=tones))


@pytest.mark.parametrize("name", list(SAMPLINGS))
def test_support_sets_have_so_many_clips_a_word_and_contain_each_other(name: str, audio: Embeddings) -> None:
    pool, protocol = Pool.of([audio], audio.dataset.labels), sampling(name)
    drawn = [pool.draw(protocol, 4, draw, 3) for draw in range(3)]
    for draw, support in enumerate(drawn):
        assert Counter(support.targets.tolist()) == {0: 4, 1: 4, 2: 4} and support.shots == 4 and support.draws == 3
        fewer = pool.draw(protocol, 2, draw, 3)
        assert set(fewer.clips) < set(support.clips) and len(set(support.clips)) == 12
        for clip, feature, target in zip(support.clips, support.features, support.targets, strict=True):
            row = pool.clips.index(clip)
            assert torch.equal(pool.features[row], feature) and pool.targets[row] == target
    assert len({support.clips for support in drawn}) == 3
    assert pool.draw(protocol, 4, 0, 3).clips == drawn[0].clips
    assert pool.everything().kind == "probe" and len(pool.everything()) == 24


def test_fixed_samples_do_not_depend_on_the_encoder_or_the_order(audio: Embeddings) -> None:
    pool = Pool.of([audio], audio.dataset.labels)
    back = torch.arange(23, -1, -1)
    other = Pool(-pool.features[back], pool.targets[back], pool.labels, pool.keys[::-1], pool.clips[::-1])
    chosen = [set(each.draw(sampling("imagebind"), 2, 0, 1).clips) for each in (pool, other)]
    assert chosen[0] == chosen[1]


def test_speakers_give_one_clip_before_any_gives_a_second(audio: Embeddings) -> None:
    pool = Pool.of([audio], audio.dataset.labels)  # three speakers say each word 3, 3 and 2 times
    for draw in range(10):
        support = pool.draw(sampling("speakers"), 3, draw, 10)
        said = Counter((int(t), clip.speaker) for t, clip in zip(support.targets, support.clips, strict=True))
        assert set(said.values()) == {1} and support.speakers_apart


def test_pools_refuse_what_does_not_belong_together(audio: Embeddings) -> None:
    pool = Pool.of([audio], audio.dataset.labels)
    with pytest.raises(FewShotError, match=r"9 clips a word are asked for, but there are fewer of 1000 \(8\), 3000"):
        pool.draw(sampling("mteb"), 9, 0, 1)
    with pytest.raises(FewShotError, match="encoded by another, tone-1"):
        Pool.of([audio, replace(audio, fingerprint="another")], audio.dataset.labels)
    with pytest.raises(FewShotError, match="say 1000, 3000, 440; expected some of yes"):
        Pool.of([audio], ["yes"])
    with pytest.raises(FewShotError, match="all clips to learn from are of speakers that are reported"):
        pool.without_speakers({"speaker0", "speaker1", "speaker2"})
    assert {clip.speaker for clip in pool.without_speakers({"speaker0"}).clips} == {"speaker1", "speaker2"}
    nameless = replace(pool, clips=tuple(ClipIdentity(clip.content) for clip in pool.clips))
    with pytest.raises(FewShotError, match="speakers of 24 of 24 clips to learn from are unknown"):
        nameless.without_speakers({"speaker0"})

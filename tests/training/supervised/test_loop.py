"""Parts of the loop by themselves: batches, the rate, what the network sees of silence, and what a network costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.models.networks import Architecture, build
from kws_imagebind.training.supervised.clips import Clips
from kws_imagebind.training.supervised.complexity import complexity
from kws_imagebind.training.supervised.history import Epoch, best, divergence, read_history, write_history
from kws_imagebind.training.supervised.recipes import NOTHING, Recipe

pytest.importorskip("lightning", reason="training needs the extra 'supervised'")

from kws_imagebind.training.supervised.loop import Loop, _Batches, _factor, _Learner


def loop(targets: list[int], **changes: object) -> Loop:
    """Clips that are all 0.5, with these targets."""
    rows = np.full((len(targets), 16_000), 2**14, dtype=np.int16)
    clips = Clips(rows, np.array(targets), ())
    recipe = Recipe(batch=4, augmentation=NOTHING)
    usual = Loop(
        build(Architecture("bc-resnet:1", 3, (40, 98))), clips, clips, 3, recipe, FrontEnd(), None, None, Path()
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("clips", "sizes"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (3, [3]), (1, [1])])
def test_every_clip_comes_once_an_epoch_and_no_batch_has_one_clip(clips: int, sizes: list[int]) -> None:
    batches = _Batches(loop([0] * clips))
    found = list(batches)
    assert [len(each) for each in found] == sizes and len(batches) == len(sizes)
    assert sorted(chain.from_iterable(found)) == list(range(clips))


def test_batches_follow_from_seed_and_epoch_and_go_on_anywhere() -> None:
    batches = _Batches(loop([0] * 20))
    first = list(batches)
    batches.start = 3
    assert list(batches) == first[3:]
    assert list(batches) == first
    batches.epoch = 1
    assert list(batches) != first
    assert list(_Batches(loop([0] * 20, seed=1))) != first


def test_each_of_two_machines_gets_its_part_of_every_batch() -> None:
    whole = list(_Batches(loop([0] * 20)))
    parts = []
    for part in range(2):
        batches = _Batches(loop([0] * 20))
        batches.part, batches.parts = part, 2
        parts.append(list(batches))
    assert [sorted(one + two) for one, two in zip(*parts, strict=True)] == [sorted(each) for each in whole]


def test_sampling_draws_rare_words_as_often() -> None:
    targets = [0] * 900 + [1] * 90 + [2] * 10
    batches = _Batches(loop(targets, recipe=Recipe(batch=100, balance="sampling")))
    drawn = np.bincount([targets[i] for batch in batches for i in batch], minlength=3)
    assert drawn.sum() == 1_000 and drawn.min() > 270


def test_weights_make_every_word_count_the_same() -> None:
    learner = _Learner(loop([0] * 90 + [1] * 9 + [2], recipe=Recipe(balance="weights")))
    assert learner._weights is not None
    assert (learner._weights * torch.tensor([90, 9, 1])).tolist() == pytest.approx([100 / 3] * 3)


def test_silence_is_heard_at_any_loudness_and_words_as_they_are() -> None:
    seen = []

    class Listening(FrontEnd):
        def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
            seen.append(waveforms)
            return super().__call__(waveforms)

    learner = _Learner(loop([0, 1, 1, 1], quiet_class=1, front_end=Listening()))
    rows, targets = learner._loop.training.batch([0, 1, 2, 3])
    learner._seen(rows, targets, torch.Generator().manual_seed(0))
    loud = seen[0].amax(1)
    assert float(loud[0]) == 0.5 and len(set(loud.tolist())) == 4 and float(loud[1:].max()) < 0.5


def test_the_rate_rises_and_falls_as_published() -> None:
    recipe = Recipe(epochs=200, warmup=5)
    factors = [_factor(recipe, step, 10) for step in range(2_000)]
    assert factors[0] == 1 / 50 and factors[49] == factors[50] == 1.0
    assert factors[1_025] == pytest.approx(0.5) and factors[-1] < 1e-5
    assert np.diff(factors[50:]).max() <= 0 and _factor(replace(recipe, schedule="constant"), 1_999, 10) == 1.0


def test_the_history_is_kept_and_the_first_best_epoch_counts(tmp_path: Path) -> None:
    epochs = [Epoch(n, 1.0 / n, 0.5, 0.75, accuracy, 0.1, 1.5) for n, accuracy in enumerate((0.5, 0.75, 0.75), 1)]
    write_history(tmp_path, epochs)
    assert [each.epoch for each in read_history(tmp_path)] == [1, 2, 3] and read_history(tmp_path)[0] == epochs[0]
    assert best(epochs).epoch == 2


@pytest.mark.parametrize(
    ("losses", "validation", "wrong"),
    [
        ([1.2, 1.3, 0.9], 0.9, None),  # never learnt before, and close to guessing
        ([0.5, 0.9], 0.9, None),
        ([0.5, 1.2], 0.9, "epoch 2 diverged: its training loss is 1.2, where guessing among 3 words has 1.1"),
        ([40.0], 0.9, "epoch 1 diverged: its training loss is 40.0"),
        ([0.5, 0.5], float("nan"), "epoch 2 diverged: its validation loss is not a finite number"),
    ],
)
def test_an_epoch_that_diverges_is_named(losses: list[float], validation: float, wrong: str | None) -> None:
    found = divergence([Epoch(n, loss, 0.5, validation, 0.5, 0.1, 1.0) for n, loss in enumerate(losses, 1)], 3)
    assert found is None if wrong is None else (found or "").startswith(wrong)


def test_the_cost_is_counted() -> None:
    epochs = [Epoch(1, 1, 1, 1, 1, 0.1, seconds) for seconds in (1.0, 9.0, 2.0)]
    probe = Architecture("probe:phonebind", 5, (1, 192))
    found = complexity(build(probe), probe, epochs)
    assert (found.parameters, found.macs, found.seconds_an_epoch) == (5 * 192 + 5 + 1, 5 * 192, 2.0)
    frozen = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, bias=False), torch.nn.Flatten(), torch.nn.Linear(4, 3))
    frozen[0].requires_grad_(False)
    found = complexity(frozen, Architecture("residual", 3, (3, 4)), epochs)
    assert (found.trainable, found.fixed, found.macs) == (15, 18, 2 * 2 * 9 + 4 * 3)

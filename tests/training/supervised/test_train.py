"""Training from clips to a run: it learns, goes on after an interruption, and says what is wrong in a sentence."""

from __future__ import annotations

import errno
import logging
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score

from kws_imagebind.audio.signal import AudioError
from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.datasets import Dataset, load_dataset
from kws_imagebind.datasets.base import Utterance, listed
from kws_imagebind.embeddings.embed import embed
from kws_imagebind.encoders.trained import learnt_clips
from kws_imagebind.evaluation.evaluate import evaluate
from kws_imagebind.evaluation.guards import unseen
from kws_imagebind.evaluation.run import Plan as Measurement
from kws_imagebind.evaluation.run import Run
from kws_imagebind.files import FileProblem
from kws_imagebind.metrics.classification import MetricError
from kws_imagebind.models.networks import NetworkError
from kws_imagebind.training.supervised.artefacts import card, report
from kws_imagebind.training.supervised.clips import split
from kws_imagebind.training.supervised.history import read_history
from kws_imagebind.training.supervised.recipes import TrainingError, customised
from kws_imagebind.training.supervised.train import Plan, Trained, train

from .conftest import recipe
from .tones import WORDS, tone

pytest.importorskip("lightning", reason="training needs the extra 'supervised'")


def test_a_network_learns_tones_of_some_voices_and_knows_them_from_others(finished: tuple[Trained, Plan]) -> None:
    trained, plan = finished
    assert plan.splits.testing is not None
    result = Run.prepare(plan.splits.testing, Measurement()).measure(trained.network, embed)
    assert result.chance == pytest.approx(1 / 3) and result.n == 12
    assert result.accuracy.estimate >= 0.9
    assert result.results.made_by is not None
    assert result.results.made_by.kind == "supervised" and result.results.zero_shot is False
    assert result.scores.protocol.readout == "bc-resnet:1"
    assert len(result.scores.protocol.support) == len(plan.splits.training) + len(plan.splits.validation)
    values = result.scores.values.exp().sum(1)
    assert values.numpy() == pytest.approx(np.ones(12), abs=1e-4)  # probabilities, through cache and coordinates


def test_a_run_keeps_the_best_epoch_and_its_history(finished: tuple[Trained, Plan]) -> None:
    trained, plan = finished
    history = read_history(plan.output)
    assert [each.epoch for each in history] == list(range(1, 11))
    assert trained.best.validation_accuracy == max(each.validation_accuracy for each in history)
    rows = embed_logits(trained, plan.splits.validation)
    share = float((rows.argmax(1) == plan.splits.validation.targets).float().mean())
    assert share == pytest.approx(trained.best.validation_accuracy, abs=1e-6)
    best = torch.load(plan.output / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] + 1 == trained.best.epoch


def embed_logits(trained: Trained, dataset: Dataset) -> torch.Tensor:
    from kws_imagebind.datasets.waveforms import load_utterance

    return trained.network.logits([load_utterance(each, 16_000) for each in dataset.utterances])


def test_the_same_seed_gives_the_same_network_and_another_another(
    finished: tuple[Trained, Plan], tmp_path: Path
) -> None:
    _, plan = finished
    short = replace(plan, recipe=replace(plan.chosen, epochs=2))
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(replace(short, output=tmp_path / name, seed=seed))
    one, same, other = (load_file(tmp_path / name / "network.safetensors") for name in "abc")
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("steps", [2, 5, 6, 9])
def test_a_training_that_is_interrupted_ends_as_one_that_is_not(
    finished: tuple[Trained, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    from kws_imagebind.training.supervised.loop import _Learner

    _, plan = finished
    plan = replace(plan, recipe=replace(plan.chosen, epochs=3), save_every=2)
    whole = train(replace(plan, output=tmp_path / "whole"))
    done, step = 0, _Learner.training_step

    def interrupted(self: Any, batch: Any, index: int) -> Any:
        nonlocal done
        done += 1
        if done > steps:
            raise KeyboardInterrupt
        return step(self, batch, index)

    cut = replace(plan, output=tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr(_Learner, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(cut)
    assert not (cut.output / "run.json").exists()
    resumed = train(cut)
    expected, found = (load_file(tmp_path / name / "network.safetensors") for name in ("whole", "cut"))
    for name in expected:
        assert torch.allclose(expected[name].float(), found[name].float(), atol=1e-6), name
    for one, two in zip(whole.history, resumed.history, strict=True):
        assert (one.epoch, one.validation_accuracy) == (two.epoch, two.validation_accuracy)
        assert one.validation_loss == pytest.approx(two.validation_loss, abs=1e-5)
        assert (one.loss, one.accuracy) == pytest.approx((two.loss, two.accuracy), abs=1e-5) and two.seconds < 100


def test_training_stops_when_validation_no_longer_gets_better(tones: Dataset, cache: Path, tmp_path: Path) -> None:
    patient = replace(recipe(patience=2), epochs=30, rate=1e-6, schedule="constant")
    found = train(Plan("bc-resnet:1", split(tones), tmp_path / "run", patient, cache))
    assert len(found.history) == found.best.epoch + 2 < 30


@pytest.mark.parametrize("balance", ["weights", "sampling"])
def test_rare_words_count_as_much_as_frequent_ones(tones: Dataset, cache: Path, tmp_path: Path, balance: str) -> None:
    splits = split(tones)
    rare = [each for each in splits.training.utterances if each.label == "low"][4:]
    kept = tuple(each for each in splits.training.utterances if each not in rare)
    plan = Plan(
        "bc-resnet:1", replace(splits, training=replace(splits.training, utterances=kept)), tmp_path / "run",
        recipe(balance=balance), cache,
    )  # fmt: skip
    assert train(plan).best.validation_accuracy > 0.6


def test_reported_clips_may_not_have_trained(finished: tuple[Trained, Plan], tones: Dataset) -> None:
    trained, plan = finished
    with pytest.raises(MetricError, match="also chose what the scores rest on"):
        Run.prepare(tones, Measurement()).measure(trained.network, embed)
    left = unseen(tones, trained.network.support)
    assert plan.splits.testing is not None
    assert {each.key for each in left.utterances} == {each.key for each in plan.splits.testing.utterances}
    assert evaluate(trained_scores(trained, left), embed(trained.network, left)).n == len(left)
    with pytest.raises(MetricError, match="nothing is left to report"):
        unseen(plan.splits.training, trained.network.support)


def trained_scores(trained: Trained, dataset: Dataset) -> Any:
    from kws_imagebind.readouts.likelihood import readout_of

    listener, readout = readout_of(trained.network, dataset.keywords)
    return readout(embed(listener, dataset))


def test_the_clips_are_known_by_what_embed_knows_them_by(finished: tuple[Trained, Plan]) -> None:
    trained, plan = finished
    audio = embed(trained.network, plan.splits.training)
    learnt = [each.identity for each in learnt_clips(plan.output) if each.role == "training"]
    assert learnt == list(audio.identities)


def test_a_finished_folder_is_not_overwritten(finished: tuple[Trained, Plan]) -> None:
    with pytest.raises(TrainingError, match="holds a finished training; name another folder"):
        train(finished[1])


def test_a_folder_goes_on_only_with_what_was_begun(finished: tuple[Trained, Plan], folder: Path) -> None:
    (folder / "run.json").unlink()
    plan = replace(finished[1], output=folder)
    with pytest.raises(TrainingError, match="begun with other recipe; repeat its command"):
        train(replace(plan, recipe=replace(plan.chosen, rate=0.2)))
    with pytest.raises(TrainingError, match="begun with other network"):
        train(replace(plan, network="residual"))
    (folder / "plan.json").write_text("{")
    with pytest.raises(TrainingError, match="is damaged; remove"):
        train(plan)


def test_a_loss_that_is_not_a_number_ends_in_one_sentence(tones: Dataset, cache: Path, tmp_path: Path) -> None:
    wild = recipe(rate=1e20, front_end=FrontEnd())
    with pytest.raises(TrainingError, match=r"the loss is not a number in step \d+ of epoch \d; start again with"):
        train(Plan("residual", split(tones), tmp_path / "run", replace(wild, optimiser="sgd", warmup=0.0), cache))


def test_an_epoch_that_diverges_and_words_never_named_are_told(
    tones: Dataset, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, one_thread: None
) -> None:
    caplog.set_level(logging.WARNING, logger="kws_imagebind")
    splits = split(tones)
    wild = recipe(rate=5.0, epochs=2, front_end=FrontEnd(), optimiser="adam", warmup=0.0)
    trained = train(Plan("residual", splits, tmp_path / "run", wild, cache))
    said = [record.message for record in caplog.records]
    assert sum("diverged: its training loss" in each for each in said) == 1
    named = embed_logits(trained, splits.validation).argmax(1)
    silent = [word for index, word in enumerate(splits.labels) if index not in named]
    assert silent and list(trained.never_named) == silent  # by the network of the folder, read again
    assert any(each.startswith(f"the network never names {listed(silent)} on the 12") for each in said)


def test_the_mean_of_the_words_stands_beside_the_share_of_clips(finished: tuple[Trained, Plan]) -> None:
    trained, plan = finished
    clips = plan.splits.validation
    expected = balanced_accuracy_score(clips.targets, embed_logits(trained, clips).argmax(1))
    assert trained.macro_accuracy == pytest.approx(expected)
    assert trained.network.run.details["validation_macro_accuracy"] == pytest.approx(expected)
    assert f"(mean of the words {100 * expected:.1f} %)" in str(trained)
    assert f"(mean of the words {100 * expected:.1f} %)" in card(trained, plan)


@pytest.mark.parametrize("split_name", ["validation", "testing"])
def test_a_copy_among_more_training_clips_is_never_reported(
    tones: Dataset, cache: Path, tmp_path: Path, split_name: str
) -> None:
    clips = getattr(split(tones), split_name)
    copied = clips.utterances[0]
    for word in tones.labels:  # other voices, and one recording of the split under another name
        (tmp_path / "more" / word).mkdir(parents=True)
        soundfile.write(tmp_path / "more" / word / "new_nohash_0.wav", tone(WORDS[word], 99), 16_000)
    shutil.copy(copied.path, tmp_path / "more" / copied.label / "renamed_nohash_0.wav")
    more = load_dataset("folder", tmp_path / "more", keywords=tones.keywords)
    plan = Plan("bc-resnet:1", split(tones, [more]), tmp_path / "run", recipe(epochs=1), cache)
    if split_name == "validation":
        with pytest.raises(TrainingError, match="1 of the 12 validation clips are copies of training clips"):
            train(plan)
        return
    found = report(train(plan), plan)
    assert found.n == len(clips) - 1 and copied.key not in {each.key for each in found.audio.utterances}
    assert "1 clips left out because the network learnt from them" in found.audio.dataset.note


def test_a_full_disk_ends_in_one_sentence_and_leaves_no_finished_run(
    tones: Dataset, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lightning.fabric.plugins.io.torch_io as io

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    plan = Plan("bc-resnet:1", split(tones), tmp_path / "run", recipe(), cache)
    with monkeypatch.context() as patch:
        patch.setattr(io, "_atomic_save", full)
        with pytest.raises(FileProblem, match="the disk is full"):
            train(plan)
    assert not (tmp_path / "run" / "run.json").exists()


def test_bands_that_do_not_fit_are_told_before_any_clip_is_read(tones: Dataset, tmp_path: Path) -> None:
    few = customised(recipe(), mels=16)
    with pytest.raises(
        TrainingError, match=r"bc-resnet:1 cannot take spectrograms of 16 bands .*; choose other --mels"
    ):
        train(Plan("bc-resnet:1", split(tones), tmp_path / "run", few, tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_a_network_that_does_not_exist_is_told_before_any_clip_is_read(tones: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="did you mean residual"):
        train(Plan("residul", split(tones), tmp_path / "run", recipe(), tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_without_lightning_there_is_one_sentence(
    tones: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "kws_imagebind.training.supervised.loop")
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(TrainingError, match="training needs Lightning; install lightning, or the extra 'supervised'"):
        train(Plan("residual", split(tones), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_recording_that_is_gone_or_damaged_is_named(tones: Dataset, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    splits = split(tones)
    for path, what in ((bad, "bad.wav"), (tmp_path / "gone.wav", "gone.wav.*cannot be read")):
        more = replace(splits.training, utterances=(*splits.training.utterances, Utterance(path, "low", None, "x")))
        with pytest.raises(AudioError, match=what):
            train(Plan("bc-resnet:1", replace(splits, training=more), tmp_path / "run", recipe(), tmp_path / "cache"))


def test_a_probe_begins_at_the_text_vectors(tmp_path: Path) -> None:
    sample = load_dataset("sample", keywords="yes,no,left,right")
    plan = Plan("probe:phonebind", split(sample), tmp_path / "run", cache=tmp_path / "cache")
    trained = train(replace(plan, recipe=replace(plan.chosen, epochs=5)))
    assert trained.network.kind == "probe" and trained.best.validation_accuracy >= 0.75
    assert trained.network.run.encoder is not None and trained.network.run.encoder[0] == "phonebind"
    assert plan.splits.testing is not None
    result = Run.prepare(plan.splits.testing, Measurement()).measure(trained.network, embed)
    assert result.scores.protocol.kind == "probe"

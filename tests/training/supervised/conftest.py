"""One trained network for all tests that only look at one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.datasets import Dataset, load_dataset
from kws_imagebind.training.supervised.clips import split
from kws_imagebind.training.supervised.recipes import Recipe, recipe_of
from kws_imagebind.training.supervised.train import Plan, Trained, train

from .tones import corpus


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset("folder", corpus(tmp_path_factory.mktemp("tones") / "tones"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoded")


def recipe(**changes: object) -> Recipe:
    """BC-ResNet's with a short and coarse look at each clip, which is enough for tones."""
    usual = {"epochs": 10, "warmup": 1.0, "batch": 12, "rate": 0.05, "front_end": FrontEnd(seconds=0.5, hop=320)}
    return replace(recipe_of("bc-resnet:1"), **{**usual, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def finished(tones: Dataset, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Plan]:
    """A finished training. Tests that change its folder copy it first."""
    pytest.importorskip("lightning", reason="training needs the extra 'supervised'")
    plan = Plan("bc-resnet:1", split(tones), tmp_path_factory.mktemp("runs") / "run", recipe(), cache)
    return train(plan), plan


@pytest.fixture
def folder(finished: tuple[Trained, Plan], tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished[1].output, tmp_path / "run"))

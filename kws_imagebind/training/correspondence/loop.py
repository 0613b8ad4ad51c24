"""The training loop, on Lightning. Every batch is a function of the seed, the epoch and its place in it."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.files import explaining, make_folder, whole
from kws_imagebind.metrics.retrieval import NDCG_AT, retrieval
from kws_imagebind.models.avenet import AVENet, AVOLNet, L3Net, choice_loss, correspondence_loss
from kws_imagebind.training.correspondence.evaluate import correspondence, encode, log_odds
from kws_imagebind.training.correspondence.pairs import Pairs, seen_and_heard
from kws_imagebind.training.correspondence.recipes import CorrespondenceRecipe
from kws_imagebind.training.supervised.loop import check_lightning, pl, quiet  # which alone imports Lightning
from kws_imagebind.training.supervised.recipes import TrainingError

CHECKPOINTS, BEST, LAST = "checkpoints", "best", "last"
HISTORY = "history.csv"
LOSS = "validation_loss"  # chooses the epoch; it needs no labels
VALIDATION_SEED = 20181118  # of the pictures that validate, the same in each epoch
STEPPED, STEP_EPOCHS = 0.94, 16  # of the published schedule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorrespondenceEpoch:
    """One epoch.

    Attributes:
        epoch: counted from 1.
        loss, accuracy: of the training pairs while the network was learning.
        validation_loss, validation_accuracy: of the validation pairs at the epoch's end; chance is ln 2 and 0.5.
        validation_ndcg: mean nDCG at 30 of image to audio and audio to image there, which chooses nothing.
        seconds: that it took.
    """

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    validation_ndcg: float
    seconds: float


@dataclass(frozen=True)
class CorrespondenceLoop:
    """What the loop is given.

    Attributes:
        network: learns in place.
        training, validation: pairs.
        front_end: with the training sounds' mean and deviation.
        recipe: of the training.
        relevance: (n, n) of the validation pairs to each other, for the retrieval score that is only shown.
        folder: of the run.
        seed: of everything that is random.
        device: "auto", "cpu", "cuda" or "mps".
        progress: whether to log each epoch.
    """

    network: AVENet | AVOLNet | L3Net
    training: Pairs
    validation: Pairs
    front_end: FrontEnd
    recipe: CorrespondenceRecipe
    relevance: np.ndarray
    folder: Path
    seed: int = 0
    device: str = "auto"
    progress: bool = False


def fit(loop: CorrespondenceLoop) -> list[CorrespondenceEpoch]:
    """Trains, or goes on after the last epoch that was finished; the network then has the weights of the best epoch.

    Raises:
        TrainingError: the loss is not a number, there are too few pairs, or Lightning is not installed.
        FileProblem: nothing can be written.
        KeyboardInterrupt: the user stopped it.
    """
    check_lightning()
    if len(loop.training) < 2 or len(loop.validation) < 2:
        raise TrainingError(
            f"{len(loop.training)} training and {len(loop.validation)} validation pairs; expected two or more of each, "
            "since a picture is told from another"
        )
    learner, folder = _Learner(loop), make_folder(loop.folder) / CHECKPOINTS
    with quiet(), explaining(loop.folder, "write"):
        trainer = pl.Trainer(
            accelerator=loop.device.replace("cuda", "gpu"),
            devices=1,
            max_epochs=loop.recipe.epochs,
            callbacks=[
                pl.callbacks.ModelCheckpoint(folder, LAST, every_n_epochs=1, enable_version_counter=False),
                pl.callbacks.ModelCheckpoint(folder, BEST, LOSS, mode="min", enable_version_counter=False),
            ],
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=loop.folder,
        )
        last = folder / f"{LAST}.ckpt"
        # Lightning is given the numbers of the batches; `_Learner` draws the batch of a number.
        steps: Any = DataLoader(range(learner.steps), batch_size=None)  # type: ignore[arg-type]
        once: Any = DataLoader(range(1), batch_size=None)  # type: ignore[arg-type]
        try:
            trainer.fit(learner, steps, once, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
        except SystemExit as stopped:  # Lightning turns Ctrl-C into it
            raise KeyboardInterrupt from stopped
    state = torch.load(folder / f"{BEST}.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    learner.load_state_dict(state)
    loop.network.cpu().eval()
    return learner.history


class _Learner(pl.LightningModule if pl else nn.Module):  # type: ignore[misc]
    def __init__(self, loop: CorrespondenceLoop) -> None:
        super().__init__()
        self._loop, self.network = loop, loop.network
        self.history: list[CorrespondenceEpoch] = []
        self._sums = np.zeros(2)
        self._started = 0.0

    @property
    def steps(self) -> int:
        """Batches of an epoch; a rest of one pair joins the batch before."""
        return max(1, math.ceil((len(self._loop.training) - 1) / self._loop.recipe.batch))

    def _index(self, epoch: int, step: int) -> tuple[np.ndarray, np.random.Generator]:
        """The pairs of a batch, and what decides how they look and sound."""
        order = np.random.default_rng((self._loop.seed, epoch)).permutation(len(self._loop.training))
        size = self._loop.recipe.batch
        end = None if step == self.steps - 1 else (step + 1) * size
        return order[step * size : end], np.random.default_rng((self._loop.seed, epoch, step))

    def _batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        loop = self._loop
        index, random = self._index(epoch, step)
        return seen_and_heard(
            loop.training, index.tolist(), loop.front_end, random, loop.recipe.augmentation, self.device
        )

    def on_train_start(self) -> None:
        if self.current_epoch == 0 and self.global_step == 0:
            self.network.start(*self._batch(0, 0))

    def on_train_epoch_start(self) -> None:
        self._sums, self._started = np.zeros(2), time.perf_counter()

    def training_step(self, step: int, index: int) -> Tensor:
        images, sounds = self._batch(self.current_epoch, int(step))
        odds = self.network.correspond(self.network.see(images), self.network.hear(sounds)).float()
        loss = correspondence_loss(odds)
        aim = loss + self._loop.recipe.choice * choice_loss(odds) if self._loop.recipe.choice else loss
        if not bool(aim.isfinite()):
            raise TrainingError(
                f"the loss is not a number in epoch {self.current_epoch + 1}; start again with a lower --rate than "
                f"{self._loop.recipe.rate:g}, in another folder"
            )
        right = correspondence(odds.detach().cpu().numpy()).mean()
        self._sums += [float(loss.detach()), float(right)]
        return aim

    def validation_step(self, step: int, index: int) -> None:
        loop = self._loop
        encoded = encode(self.network, loop.validation, loop.front_end, VALIDATION_SEED)
        odds = log_odds(self.network, encoded)
        loss = float(correspondence_loss(torch.from_numpy(odds)))
        right = float(correspondence(odds).mean())
        others = ~np.eye(len(odds), dtype=bool)
        scores = (encoded.images @ encoded.sounds.T).numpy()
        found = [
            retrieval(each, loop.relevance, others, cutoffs=()).means()[f"ndcg@{NDCG_AT}"]
            for each in (scores, scores.T)
        ]
        self.log(LOSS, loss, batch_size=1)
        self._validated = (loss, right, float(np.mean(found)))

    def on_train_epoch_end(self) -> None:
        loss, accuracy = (self._sums / self.steps).tolist()
        seconds = round(time.perf_counter() - self._started, 2)
        epoch = CorrespondenceEpoch(self.current_epoch + 1, loss, accuracy, *self._validated, seconds)
        self.history = [*(each for each in self.history if each.epoch < epoch.epoch), epoch]
        write_history(self._loop.folder, self.history)
        if self._loop.progress:
            log.info(
                "epoch %d/%d: loss %.3f, pairs right %.1f %%; validation loss %.3f, pairs right %.1f %% (chance 50), "
                "nDCG@%d %.3f (n = %d); %.0f s",
                epoch.epoch, self._loop.recipe.epochs, loss, 100 * accuracy, epoch.validation_loss,
                100 * epoch.validation_accuracy, NDCG_AT, epoch.validation_ndcg, len(self._loop.validation), seconds,
            )  # fmt: skip

    def configure_optimizers(self) -> Any:
        recipe = self._loop.recipe
        tiny = [value for name, value in self.network.named_parameters() if name.startswith("tiny")]
        rest = [value for name, value in self.network.named_parameters() if not name.startswith("tiny")]
        groups: list[dict[str, Any]] = [
            {"params": rest, "weight_decay": recipe.decay},
            {"params": tiny, "weight_decay": 0.0, "lr": recipe.tiny_rate},
        ]
        optimiser = torch.optim.Adam([each for each in groups if each["params"]], recipe.rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: factor(recipe, step / self.steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = [asdict(each) for each in self.history]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = [CorrespondenceEpoch(**each) for each in checkpoint["history"]]


def factor(recipe: CorrespondenceRecipe, epoch: float) -> float:
    """What the rate is multiplied by after so many epochs.

    >>> [round(factor(CorrespondenceRecipe(), epoch), 4) for epoch in (0, 15, 16, 32)]
    [1.0, 1.0, 0.94, 0.8836]
    """
    warm = min(1.0, (epoch + 1e-3) / recipe.warmup) if recipe.warmup else 1.0
    if recipe.schedule == "steps":
        return warm * STEPPED ** int(epoch // STEP_EPOCHS)
    done = max(0.0, epoch - recipe.warmup) / max(1e-9, recipe.epochs - recipe.warmup)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def write_history(folder: Path, history: list[CorrespondenceEpoch]) -> None:
    """Writes history.csv, all of it or nothing."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([each.name for each in fields(CorrespondenceEpoch)])
    rows.writerows([f"{value:.6g}" for value in asdict(each).values()] for each in history)
    with whole(folder / HISTORY) as part:
        part.write_text(text.getvalue(), encoding="utf-8")

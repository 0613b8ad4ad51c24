"""The training loop: Lightning's, with our batches, our losses and our files. The one file that needs Lightning.

Every batch is a function of the seed, the epoch and its place in it: which clips, how they are changed, which values
dropout hides. So a training that is killed and started again ends as one that was not.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from kws_imagebind.audio.spectrogram import FrontEnd
from kws_imagebind.files import FileProblem, explaining
from kws_imagebind.registry import to_install
from kws_imagebind.training.supervised.augmentation import augment, mask
from kws_imagebind.training.supervised.clips import Clips
from kws_imagebind.training.supervised.history import Epoch, divergence, write_history
from kws_imagebind.training.supervised.recipes import Recipe, TrainingError


def _lightning() -> Any:
    """Lightning, or None where it is not installed: doctests look at this module without it."""
    try:
        return import_module("lightning.pytorch")
    except ModuleNotFoundError:
        return None


pl = _lightning()

CHECKPOINTS, BEST, LAST = "checkpoints", "best.ckpt", "last.ckpt"
ACCURACY, LOSS = "validation_accuracy", "validation_loss"
SAVED_EVERY = timedelta(seconds=30)  # of training
VALIDATION_BATCH = 256

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loop:
    """What the loop is given.

    Attributes:
        network: learns in place.
        training, validation: clips.
        classes: labels there are.
        recipe: of the training.
        front_end: with the training clips' mean and deviation; None for vectors of an encoder.
        noise: (samples,) of background noise; None for none.
        quiet_class: index of the label "silence", whose clips are noise and get a random loudness; None without it.
        folder: of the run.
        seed: of everything that is random.
        device: "auto", "cpu", "cuda", "mps" or "cuda:N".
        devices: how many of them; each gets its part of every batch.
        precision: "fp32", or "bf16" for convolutions and products in bfloat16; the front end stays in float32.
        save_every: training time between two checkpoints, or steps if it is a whole number.
        progress: whether to show on stderr how it goes.
    """

    network: nn.Module
    training: Clips
    validation: Clips
    classes: int
    recipe: Recipe
    front_end: FrontEnd | None
    noise: Tensor | None
    quiet_class: int | None
    folder: Path
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    precision: str = "fp32"
    save_every: timedelta | int = SAVED_EVERY
    progress: bool = False


def check_lightning() -> None:
    """Says before anything is made that Lightning is not there.

    Raises:
        TrainingError: it is not installed.
    """
    if pl is None:
        raise TrainingError(f"training needs Lightning; {to_install('lightning', 'supervised')}")


def fit(loop: Loop) -> list[Epoch]:
    """Trains, or goes on from the last checkpoint; the network then has the weights of the best epoch.

    Returns:
        The history, an entry an epoch.

    Raises:
        TrainingError: the loss is not a number, or the checkpoint is damaged.
        FileProblem: nothing can be written.
        KeyboardInterrupt: the user stopped it; it goes on from the last checkpoint.
    """
    learner, kept = _Learner(loop), _Kept(loop)
    with quiet(), _full_disk(loop.folder):
        trainer = _trainer(loop, kept)
        last = loop.folder / CHECKPOINTS / LAST
        batches = _Batches(loop)
        learner.batches = batches
        loaders = (
            DataLoader(_Rows(loop.training), batch_sampler=batches, collate_fn=_whole),
            DataLoader(_Rows(loop.validation), batch_sampler=_InOrder(len(loop.validation)), collate_fn=_whole),
        )
        try:
            trainer.fit(learner, *loaders, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
        except SystemExit as stopped:  # Lightning turns Ctrl-C into it
            raise KeyboardInterrupt from stopped
        _restore(loop)
    return kept.history


def _trainer(loop: Loop, kept: _Kept) -> Any:
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    recipe, folder = loop.recipe, loop.folder / CHECKPOINTS
    often: dict[str, Any] = (
        {"every_n_train_steps": loop.save_every}
        if isinstance(loop.save_every, int)
        else {"train_time_interval": loop.save_every}
    )
    callbacks: list[Any] = [
        kept,
        ModelCheckpoint(folder, Path(BEST).stem, ACCURACY, mode="max", enable_version_counter=False),
        ModelCheckpoint(folder, Path(LAST).stem, enable_version_counter=False, **often),
        ModelCheckpoint(folder, Path(LAST).stem, enable_version_counter=False, every_n_epochs=1),
    ]
    if recipe.patience is not None:
        callbacks.append(EarlyStopping(ACCURACY, patience=recipe.patience, mode="max", check_finite=False))
    accelerator, devices = _accelerator(loop)
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        precision="bf16-mixed" if loop.precision == "bf16" else "32-true",
        max_epochs=recipe.epochs,
        callbacks=callbacks,
        logger=_loggers(loop.folder),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # `_Batches` deals the clips out
        default_root_dir=loop.folder,
    )


def _accelerator(loop: Loop) -> tuple[str, Any]:
    kind, _, number = loop.device.partition(":")
    if number:
        return kind.replace("cuda", "gpu"), [int(number)]
    return kind.replace("cuda", "gpu"), 1 if kind in ("cpu", "auto") and not torch.cuda.is_available() else loop.devices


def _loggers(folder: Path) -> list[Any]:
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    found: list[Any] = [CSVLogger(folder, name="logs")]
    try:
        found.append(TensorBoardLogger(folder, name="logs"))
    except ModuleNotFoundError:
        log.info("TensorBoard is not installed, so the logs are CSV only")
    return found


def _restore(loop: Loop) -> None:
    """The weights of the best epoch."""
    best = loop.folder / CHECKPOINTS / BEST
    state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
    loop.network.load_state_dict({name.removeprefix("network."): value for name, value in state.items()
                                  if name.startswith("network.")})  # fmt: skip
    loop.network.cpu().eval()


class _Rows(Dataset[Any]):
    """Clips by whole batches."""

    def __init__(self, clips: Clips) -> None:
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._clips.batch([index])

    def __getitems__(self, index: list[int]) -> tuple[Tensor, Tensor]:
        return self._clips.batch(index)


def _whole(batch: Any) -> Any:
    return batch


class _InOrder(Sampler[list[int]]):
    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return math.ceil(self._count / VALIDATION_BATCH)

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, self._count, VALIDATION_BATCH):
            yield list(range(start, min(start + VALIDATION_BATCH, self._count)))


class _Batches(Sampler[list[int]]):
    """The batches of an epoch, from the seed and the epoch's number; those that were trained before are left out.

    A last batch of a single clip joins the one before it, because batch normalisation needs two.
    """

    def __init__(self, loop: Loop) -> None:
        self._targets, self._classes = loop.training.targets, loop.classes
        self._size, self._seed = loop.recipe.batch, loop.seed
        self._sampled = loop.recipe.balance == "sampling"
        self.epoch = self.start = 0
        self.part, self.parts = 0, 1

    def __len__(self) -> int:
        return len(self._cuts()) - 1

    def _cuts(self) -> list[int]:
        count = len(self._targets)
        cuts = [*range(0, count, self._size), count]
        return [*cuts[:-2], count] if count - cuts[-2] == 1 and len(cuts) > 2 else cuts

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        order, cuts = self._order(), self._cuts()
        for first, end in list(pairwise(cuts))[start:]:
            yield order[first:end][self.part :: self.parts].tolist()

    def _order(self) -> NDArray[np.int64]:
        random = np.random.default_rng((self._seed, self.epoch))
        count = len(self._targets)
        if not self._sampled:
            return random.permutation(count)
        sizes = np.bincount(self._targets, minlength=self._classes)
        share = 1.0 / sizes[self._targets]
        return random.choice(count, count, p=share / share.sum())


class _Learner(pl.LightningModule if pl else nn.Module):  # type: ignore[misc]
    """One network learning one set of labels."""

    batches: _Batches

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop
        self.network = loop.network
        counts = np.bincount(loop.training.targets, minlength=loop.classes).clip(1)
        weights = torch.from_numpy(counts.sum() / (loop.classes * counts)).float()
        self._weights = weights if loop.recipe.balance == "weights" else None
        self._steps = (0, 0)  # the epoch, and how many of its batches were trained
        self.sums = [
            0.0,
            0.0,
            0.0,
        ]  # of the epoch: loss, hits, clips; Lightning's means are not in checkpoints

    def on_train_start(self) -> None:
        self.batches.part, self.batches.parts = self.global_rank, self.trainer.world_size
        # Lightning goes on within an epoch without starting it again, so its next clips are told here.
        self.batches.epoch, self.batches.start = self._steps

    def on_train_epoch_start(self) -> None:
        if self.batches.epoch != self.current_epoch:
            self.batches.epoch, self.batches.start = self.current_epoch, 0
        self.sums = [0.0, 0.0, 0.0]

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        rows, targets = batch
        random = torch.Generator().manual_seed(_mixed(self._loop.seed, self.current_epoch, index, self.global_rank))
        torch.manual_seed(_mixed(self._loop.seed, self.current_epoch, index, self.global_rank) ^ 1)  # for dropout
        logits = self.network(self._seen(rows, targets, random)).float()
        weights = None if self._weights is None else self._weights.to(logits.device)
        loss = F.cross_entropy(logits, targets, weights)
        if not bool(loss.isfinite()):
            raise TrainingError(
                f"the loss is not a number in step {index + 1} of epoch {self.current_epoch + 1}; "
                f"start again with a lower --rate than {self._loop.recipe.rate:g}, in another folder"
            )
        hits = (logits.argmax(1) == targets).float().mean()
        self.log_dict({"loss": loss, "accuracy": hits}, on_step=False, on_epoch=True, batch_size=len(targets),
                      sync_dist=True)  # fmt: skip
        found = (float(loss), float(hits), 1.0)
        self.sums = [total + value * len(targets) for total, value in zip(self.sums, found, strict=True)]
        self._steps = (self.current_epoch, index + 1)
        return loss

    def _seen(self, rows: Tensor, targets: Tensor, random: torch.Generator) -> Tensor:
        """What the network sees of some training clips."""
        loop = self._loop
        if loop.front_end is None:
            return rows
        if loop.quiet_class is not None:
            loud = torch.rand(len(rows), 1, generator=random).to(rows.device)
            rows = torch.where((targets == loop.quiet_class)[:, None], rows * loud, rows)
        changes = loop.recipe.augmentation
        rows = augment(rows, changes, loop.front_end.sample_rate, loop.noise, random)
        return mask(self._spectrograms(rows), changes, random)

    def _spectrograms(self, rows: Tensor) -> Tensor:
        if self._loop.front_end is None:
            return rows
        with torch.autocast(rows.device.type, enabled=False):  # powers and logarithms need their digits
            # In the order of memory in which processors convolve fastest.
            return self._loop.front_end(rows).contiguous(memory_format=torch.channels_last)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        rows, targets = batch
        logits = self.network(self._spectrograms(rows)).float()
        hits = (logits.argmax(1) == targets).float().mean()
        found = {LOSS: F.cross_entropy(logits, targets), ACCURACY: hits}
        self.log_dict(found, on_epoch=True, batch_size=len(targets), sync_dist=True)

    def configure_optimizers(self) -> Any:
        recipe = self._loop.recipe
        learnt = [each for each in self.network.parameters() if each.requires_grad]
        if recipe.optimiser == "sgd":
            optimiser: torch.optim.Optimizer = torch.optim.SGD(
                learnt, recipe.rate, momentum=recipe.momentum, weight_decay=recipe.decay
            )
        else:
            kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
            optimiser = kind(learnt, recipe.rate, weight_decay=recipe.decay)
        steps = len(self.batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _factor(recipe, step, steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["steps"], checkpoint["sums"] = list(self._steps), list(self.sums)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        epoch, done = checkpoint["steps"]
        self._steps, self.sums = (epoch, done), checkpoint["sums"]


def _mixed(seed: int, epoch: int, step: int, part: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence((seed, epoch, step, part)).generate_state(1, np.uint64)[0] >> 1)


def _factor(recipe: Recipe, step: int, steps: int) -> float:
    """What the rate is multiplied by at a step: linear warm-up, then half a cosine down to 0.

    >>> recipe = Recipe(epochs=3, warmup=1)
    >>> [round(_factor(recipe, step, 2), 3) for step in range(7)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    warm, last = recipe.warmup * steps, recipe.epochs * steps
    if step < warm:
        return (step + 1) / warm
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, last - warm))))


class _Kept(pl.Callback if pl else object):  # type: ignore[misc]
    """The history, which lives in the checkpoints, and the progress on stderr."""

    def __init__(self, loop: Loop) -> None:
        self.history: list[Epoch] = []
        self._loop = loop
        self._bar: Any = None
        self._warned = False  # of divergence, once is enough
        self._started = 0.0
        self._before = 0.0  # seconds of this epoch before it was interrupted

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._started = time.perf_counter()
        if self._loop.progress and trainer.is_global_zero:
            title = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self._bar = tqdm(total=trainer.num_training_batches, desc=title, unit="step", leave=False)

    def on_train_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
        if self._bar is not None:
            self._bar.n = rest[-1] + 1
            self._bar.refresh() if self._bar.n % 10 == 0 else None

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        assert isinstance(module, _Learner)
        loss, hits, clips = module.sums
        told = {name: float(value) for name, value in trainer.callback_metrics.items()}
        seconds, self._before = self._before + time.perf_counter() - self._started, 0.0
        self.history = [each for each in self.history if each.epoch <= trainer.current_epoch]
        self.history.append(
            Epoch(trainer.current_epoch + 1, loss / clips, hits / clips, told[LOSS], told[ACCURACY],
                  float(trainer.optimizers[0].param_groups[0]["lr"]), round(seconds, 3))
        )  # fmt: skip
        if trainer.is_global_zero:
            write_history(self._loop.folder, self.history)
            self._tell(self.history[-1])
            if not self._warned and (wrong := divergence(self.history, self._loop.classes)):
                self._warned = True
                log.warning(wrong)

    def _tell(self, epoch: Epoch) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._loop.progress:
            log.info(
                "epoch %d/%d: loss %.3f, accuracy %.1f %%; validation loss %.3f, accuracy %.1f %% (n = %s); %.0f s",
                epoch.epoch, self._loop.recipe.epochs, epoch.loss, 100 * epoch.accuracy, epoch.validation_loss,
                100 * epoch.validation_accuracy, f"{len(self._loop.validation):,}", epoch.seconds,
            )  # fmt: skip

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        if self._bar is not None:
            self._bar.close()

    def state_dict(self) -> dict[str, Any]:
        running = time.perf_counter() - self._started if self._started else 0.0
        return {"history": [asdict(each) for each in self.history], "seconds": self._before + running}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history = [Epoch(**each) for each in state["history"]]
        self._before = state["seconds"]


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's notices, which speak to programmers of loops."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    """Says in one sentence that nothing can be written, or that a checkpoint is damaged."""
    try:
        with explaining(folder, "write"):
            yield
    except FileProblem:
        raise
    except RuntimeError as error:
        if "PytorchStreamWriter" in str(error) or "PytorchStreamReader" in str(error):
            raise TrainingError(
                f"a checkpoint in '{folder}' cannot be written or read ({str(error).splitlines()[0][:80]}); "
                f"free some space, and remove '{CHECKPOINTS}/{LAST}' if it is damaged"
            ) from error
        raise

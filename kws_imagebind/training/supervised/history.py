"""How a training went, epoch by epoch: the table that a run leaves."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from kws_imagebind.files import whole

HISTORY = "history.csv"


@dataclass(frozen=True)
class Epoch:
    """One epoch.

    Attributes:
        epoch: counted from 1.
        loss, accuracy: of the training clips as they were changed at random, while the network was learning.
        validation_loss, validation_accuracy: of the validation clips at the epoch's end.
        rate: learning rate at its end.
        seconds: that it took, validation included.
    """

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    rate: float
    seconds: float


def best(history: Sequence[Epoch]) -> Epoch:
    """The first epoch with the best validation accuracy, whose weights are kept."""
    return max(history, key=lambda each: (each.validation_accuracy, -each.epoch))


def divergence(history: Sequence[Epoch], classes: int) -> str | None:
    """What is wrong with the last epoch, if anything is.

    A loss is not a number, or the training loss is above that of guessing: again, or more than twice as high. An
    equal guess among all classes has a loss of ln(classes), also where words are weighted.

    >>> good, bad = Epoch(1, 0.7, 0.8, 0.6, 0.9, 0.1, 2.0), Epoch(2, 1.2, 0.3, 1.4, 0.3, 0.1, 2.0)
    >>> divergence([good], 3), divergence([bad], 3)
    (None, None)
    >>> print(divergence([good, bad], 3))
    epoch 2 diverged: its training loss is 1.2, where guessing among 3 words has 1.1; try a lower --rate
    """
    last, guessing = history[-1], math.log(classes)
    if not math.isfinite(last.validation_loss) or not math.isfinite(last.loss):
        return f"epoch {last.epoch} diverged: its validation loss is not a finite number; try a lower --rate"
    if last.loss > 2 * guessing or last.loss > guessing > min(each.loss for each in history):
        return (
            f"epoch {last.epoch} diverged: its training loss is {last.loss:.1f}, where guessing among {classes} words "
            f"has {guessing:.1f}; try a lower --rate"
        )
    return None


def write_history(folder: Path, history: Sequence[Epoch]) -> None:
    """Writes history.csv, all of it or nothing."""
    text = io.StringIO()
    rows = csv.DictWriter(text, [each.name for each in fields(Epoch)], lineterminator="\n")
    rows.writeheader()
    for each in history:
        rows.writerow({name: f"{value:.6g}" if isinstance(value, float) else value
                       for name, value in asdict(each).items()})  # fmt: skip
    with whole(folder / HISTORY) as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def read_history(folder: Path) -> list[Epoch]:
    """What `write_history` wrote."""
    with (folder / HISTORY).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = {each.name: int if each.type == "int" else float for each in fields(Epoch)}
    return [Epoch(**{name: kinds[name](value) for name, value in row.items()}) for row in rows]  # type: ignore[arg-type]

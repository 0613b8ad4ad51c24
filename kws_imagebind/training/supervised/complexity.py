"""What a network costs: parameters, multiplications and seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kws_imagebind.models.networks import PROBE, Architecture
from kws_imagebind.training.supervised.history import Epoch


@dataclass(frozen=True)
class Complexity:
    """The cost of a network.

    Attributes:
        parameters: all of them.
        trainable: that learnt.
        macs: multiply-accumulate operations of convolutions and matrix products for one clip; of a probe without its
            encoder.
        seconds_an_epoch: the median, validation included, on the machine that trained.
        epochs: that were trained.
    """

    parameters: int
    trainable: int
    macs: int
    seconds_an_epoch: float
    epochs: int

    @property
    def fixed(self) -> int:
        """Parameters that did not learn."""
        return self.parameters - self.trainable

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "fixed": self.fixed}

    def __str__(self) -> str:
        rows = [
            ("parameters", f"{self.parameters:,}"),
            ("trainable", f"{self.trainable:,}"),
            ("not trainable", f"{self.fixed:,}"),
            ("MACs a clip", f"{self.macs / 1e6:,.2f} M"),
            ("seconds an epoch", f"{self.seconds_an_epoch:.1f} (median of {self.epochs})"),
        ]
        return "\n".join(f"  {name:<17} {value:>12}" for name, value in rows)


def complexity(network: nn.Module, architecture: Architecture, history: Sequence[Epoch]) -> Complexity:
    """The cost of a network that was trained."""
    sizes = [(each.numel(), each.requires_grad) for each in network.parameters()]
    frequencies, frames = architecture.shape
    probe = architecture.name.partition(":")[0] == PROBE
    clip = torch.zeros(1, frames) if probe else torch.zeros(1, 1, frequencies, frames)
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(clip)
    return Complexity(
        parameters=sum(size for size, _ in sizes),
        trainable=sum(size for size, learns in sizes if learns),
        macs=counter.get_total_flops() // 2,
        seconds_an_epoch=round(median(each.seconds for each in history), 2),
        epochs=len(history),
    )

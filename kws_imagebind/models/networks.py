"""Networks that learn words from recordings, by name.

A network is a module that is called with spectrograms (B, 1, frequencies, frames) and returns logits (B, classes). Its
method `heads` returns the vectors before the classifier, the one that the classifier reads last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kws_imagebind.registry import Entry, Registry, call_with

if TYPE_CHECKING:
    from torch import Tensor, nn

PROBE = "probe"  # a linear head over the vectors of an encoder


class NetworkError(ValueError):
    """A network that does not exist or cannot be built as asked; the message says what would do."""


class HasHeads(Protocol):
    """What a network has beside being a module."""

    def heads(self, spectrograms: Tensor, /) -> tuple[Tensor, ...]:
        """The vectors (B, ...) before the classifier, in their order."""
        ...


@dataclass(frozen=True)
class Architecture:
    """What is needed to build a network again.

    Attributes:
        name: as given to `train`, such as "bc-resnet:3" or "imagenet:resnet50".
        classes: words that it tells apart.
        shape: frequencies and frames of its spectrograms; (1, dim) for the vectors of a probe.
        frozen: whether only its classifier learns.
    """

    name: str
    classes: int
    shape: tuple[int, int]
    frozen: bool = False


NETWORKS = Registry(
    "network",
    "kws_imagebind.networks",
    (
        Entry(
            "residual",
            "a residual network with two heads of 64 numbers, 0.2 M parameters",
            "kws_imagebind.models.networks:_residual",
        ),
        Entry(
            "light-cnn",
            "max-feature-map layers, 0.7 M parameters",
            "kws_imagebind.models.networks:_light_cnn",
        ),
        Entry(
            "bc-resnet",
            "BC-ResNet; bc-resnet:TAU for the paper's widths 1, 1.5, 2, 3, 6 and 8",
            "kws_imagebind.models.networks:_bc_resnet",
            takes_argument=True,
        ),
        Entry(
            "imagenet",
            "imagenet:NAME, any network of timm on spectrograms; extra 'imagenet'",
            "kws_imagebind.models.networks:_imagenet",
            takes_argument=True,
        ),
        Entry(
            PROBE,
            "probe:ENCODER, a linear head over the vectors of a frozen encoder",
            "kws_imagebind.models.networks:_probe",
            takes_argument=True,
        ),
    ),
    NetworkError,
)


def build(architecture: Architecture, pretrained: bool = False) -> nn.Module:
    """A network by name, with random weights unless `pretrained`.

    Raises:
        NetworkError: there is none of that name, or it cannot be built as asked.

    >>> from kws_imagebind.models.networks import Architecture, build
    >>> sum(each.numel() for each in build(Architecture("bc-resnet:8", 12, (40, 98))).parameters())
    321068
    """
    found = NETWORKS.find(architecture.name)
    make: Callable[..., nn.Module] = found.thing
    kind = architecture.name.partition(":")[0]
    if (pretrained or architecture.frozen) and kind != "imagenet":
        raise NetworkError(f"'{architecture.name}' has no pre-trained weights to start from; leave --pretrained out")
    return call_with(
        make,
        classes=architecture.classes,
        shape=architecture.shape,
        argument=found.argument,
        pretrained=pretrained,
        frozen=architecture.frozen,
    )


def tau_of(argument: str | None) -> float:
    """The width that stands after "bc-resnet:".

    >>> tau_of(None), tau_of("1.5")
    (1.0, 1.5)

    Raises:
        NetworkError: it is not a number from 0.5 to 16.
    """
    try:
        tau = float(argument or 1)
    except ValueError:
        tau = 0.0
    if not 0.5 <= tau <= 16:
        raise NetworkError(f"bc-resnet:{argument}: expected a width such as 1, 1.5, 2, 3, 6 or 8 after the colon")
    return tau


def _residual(classes: int) -> nn.Module:
    from kws_imagebind.models.residual import ResidualNet

    return ResidualNet(classes)


def _light_cnn(classes: int) -> nn.Module:
    from kws_imagebind.models.light_cnn import LightCNN

    return LightCNN(classes)


def _bc_resnet(classes: int, argument: str | None) -> nn.Module:
    from kws_imagebind.models.bc_resnet import BCResNet

    return BCResNet(classes, tau_of(argument))


def _imagenet(classes: int, argument: str | None, shape: tuple[int, int], pretrained: bool, frozen: bool) -> nn.Module:
    from kws_imagebind.models.imagenet import ImageNetwork

    if not argument:
        raise NetworkError("'imagenet' needs the name of a network after a colon, such as imagenet:resnet50")
    return ImageNetwork(argument, classes, shape, pretrained, frozen)


def _probe(classes: int, argument: str | None, shape: tuple[int, int]) -> nn.Module:
    from kws_imagebind.models.probe import LinearProbe

    if not argument:
        raise NetworkError("'probe' needs the name of an encoder after a colon, such as probe:phonebind")
    return LinearProbe(shape[-1], classes)

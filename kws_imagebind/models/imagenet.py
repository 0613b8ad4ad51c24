"""Networks for pictures on spectrograms: any of timm's. The one file that needs timm (the extra `imagenet`)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from kws_imagebind.models.networks import NetworkError
from kws_imagebind.registry import to_install


class ImageNetwork(nn.Module):
    """A network of timm with a spectrogram as a picture of one channel, and a linear classifier of its own.

    timm adapts pre-trained filters for red, green and blue to one channel by summing them, which answers a grey picture
    as the original does.

    Args:
        name: as timm has it, such as "resnet50", "vgg16" or "inception_v3".
        classes: logits.
        shape: frequencies and frames of a spectrogram.
        pretrained: start from ImageNet's weights, from the hub's cache or the hub.
        frozen: learn only the classifier.

    Raises:
        NetworkError: timm is not installed or has no such network, the weights are neither here nor reachable, or the
            spectrogram is too small for the network.
    """

    def __init__(
        self, name: str, classes: int, shape: tuple[int, int], pretrained: bool = False, frozen: bool = False
    ) -> None:
        super().__init__()
        self.backbone = _backbone(name, pretrained)
        self.frozen = frozen
        self.classifier = nn.Linear(_width(self.backbone, name, shape), classes)
        if frozen:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> ImageNetwork:
        """Training mode; the statistics of a frozen backbone stay as they are."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def heads(self, spectrograms: Tensor) -> tuple[Tensor, ...]:
        """(B, 1, F, T) -> the pooled features of the backbone."""
        return (self.backbone(spectrograms),)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """(B, 1, F, T) -> (B, classes)."""
        return self.classifier(self.heads(spectrograms)[-1])


def _backbone(name: str, pretrained: bool) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise NetworkError(f"imagenet:{name} needs timm; {to_install('timm', 'imagenet')}") from error
    if not timm.is_model(name):
        near = (timm.list_models(f"{name}*") or timm.list_models(f"*{name}*"))[:5]
        hint = f"; near to it are {', '.join(near)}" if near else "; timm.list_models() has them all"
        raise NetworkError(f"timm {timm.__version__} has no network '{name}'{hint}")
    options: dict[str, Any] = {"in_chans": 1, "num_classes": 0, "pretrained": pretrained}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm's own notices about its future
            return timm.create_model(name, **options)
    except Exception as error:  # the hub raises its own kinds, a missing connection others still
        if not pretrained:
            raise NetworkError(f"timm cannot make '{name}' for spectrograms: {_first_line(error)}") from error
        raise NetworkError(
            f"the pre-trained weights of '{name}' are neither in the hub's cache nor reachable "
            f"({type(error).__name__}); connect once to fetch them, or leave --pretrained out to train from scratch"
        ) from error


def _width(backbone: nn.Module, name: str, shape: tuple[int, int]) -> int:
    """How many features the backbone gives."""
    was = backbone.training
    try:
        with torch.no_grad():
            found = backbone.eval()(torch.zeros(1, 1, *shape))
    except RuntimeError as error:
        raise NetworkError(
            f"'{name}' cannot take spectrograms of {shape[0]} x {shape[1]} ({_first_line(error)}); choose another"
        ) from error
    finally:
        backbone.train(was)
    if found.ndim != 2:
        raise NetworkError(f"'{name}' gives features of shape {tuple(found.shape)}; expected (n, features)")
    return int(found.shape[1])


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__

"""How the bundled weights are kept: in float16, or in 8 bits with a scale for each row, which takes half the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from kws_imagebind.models.int8 import from_int8, to_int8

Storage = Literal["float16", "int8"]
SCALE = ":scale"  # after a tensor's name: what each of its rows is to be multiplied by
SMALLEST = 1_024  # numbers; a smaller tensor stays in float16


def packed(state: Mapping[str, Tensor], storage: Storage = "float16", prefix: str = "") -> dict[str, Tensor]:
    """A state dict -> what a file holds of it.

    Args:
        state: of a network.
        storage: "int8" keeps matrices, kernels and tables as whole numbers up to 127 and a float32 scale for each row
            (each output of a layer, each entry of a table).
        prefix: before each name, for a file that holds several networks.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if storage == "int8" and tensor.ndim > 1 and tensor.numel() >= SMALLEST:
            tensors[f"{prefix}{name}"], tensors[f"{prefix}{name}{SCALE}"] = to_int8(tensor)
        else:
            tensors[f"{prefix}{name}"] = (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
    return tensors


def unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `packed` gave without a prefix -> a state dict.

    Raises:
        ValueError: a tensor is not finite, or not stored as `packed` stores it.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(SCALE):
            if stored.get(name.removesuffix(SCALE), tensor).dtype != torch.int8:
                raise ValueError(f"{name} belongs to no tensor in int8")
            continue
        if tensor.dtype == torch.int8:
            if f"{name}{SCALE}" not in stored:
                raise ValueError(f"{name} is in int8 but has no scales")
            tensor = from_int8(tensor, stored[f"{name}{SCALE}"])
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds numbers that are not finite")
        tensors[name] = tensor
    return tensors

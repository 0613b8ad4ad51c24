"""Transformers with 8-bit linear layers, for processors with 8-bit dot products.

Weights are quantised once, symmetrically and per output row; activations at each call, per tensor (Jacob et al. 2018,
https://arxiv.org/abs/1712.05877). Layer norms, softmax and residuals stay in floating point.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kws_imagebind.models.transformer import Attention, Transformer


def is_supported() -> bool:
    """Whether this torch can run 8-bit linear layers on this processor at all."""
    return any(engine in torch.backends.quantized.supported_engines for engine in ("x86", "onednn", "qnnpack"))


def is_fast() -> bool:
    """Whether the processor multiplies 8-bit integers natively (VNNI), which is what makes it worth while."""
    return bool(torch.cpu._is_vnni_supported()) if hasattr(torch.cpu, "_is_vnni_supported") else False


class Int8Linear(nn.Module):
    """A linear layer whose weight is kept in 8 bits.

    Args:
        weight: (out, in) float32.
        bias: (out,) float32.
    """

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.in_features = weight.shape[1]
        scale = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch means to move its quantised tensors elsewhere
            quantised = torch.quantize_per_channel(
                weight.contiguous(), scale.double(), torch.zeros(len(weight), dtype=torch.int64), 0, torch.qint8
            )
            self.packed = torch.ops.quantized.linear_prepack(quantised, bias)
        self.reduce_range = not is_fast()  # without VNNI a sum of two products can exceed 16 bits

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(x, self.packed, self.reduce_range)


class Int8Attention(Attention):
    """Self-attention with 8-bit projections.

    Args:
        attention: the one to quantise.
        parts: of the input projection that will be asked for.
    """

    def __init__(self, attention: Attention, parts: tuple[str, ...]):
        nn.Module.__init__(self)
        self.heads, self.causal = attention.heads, attention.causal
        self.bias_k, self.bias_v = attention.bias_k, attention.bias_v
        self.out_proj = Int8Linear(attention.out_proj.weight, attention.out_proj.bias)
        self.projections = nn.ModuleDict()
        for part in parts:
            rows = attention.rows(part)
            self.projections[part] = Int8Linear(attention.in_proj_weight[rows], attention.in_proj_bias[rows])

    def project(self, x: Tensor, part: str) -> Tensor:
        return self.projections[part](x)


def quantise(transformer: Transformer) -> None:
    """Replace the linear layers of every block, in place. The float weights are dropped."""
    last = len(transformer.blocks) - 1
    for i, block in enumerate(transformer.blocks):
        block.attn = Int8Attention(block.attn, ("query", "key_value") if i == last else ("all",))
        block.mlp.fc1 = Int8Linear(block.mlp.fc1.weight, block.mlp.fc1.bias)
        block.mlp.fc2 = Int8Linear(block.mlp.fc2.weight, block.mlp.fc2.bias)

"""Transformers with 8-bit linear layers, for processors with 8-bit dot products.

Weights are quantised once, symmetrically and per output row; activations at each call and per row, so that no vector
depends on what else is in its batch (Jacob et al. 2018, https://arxiv.org/abs/1712.05877). Layer norms and residuals
stay in float32. Attention, once the layers around it are fast, is a quarter of the time; it runs in bfloat16 where the
processor has it.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kws_imagebind.models.transformer import Attention, Block

ENGINES = ("onednn", "x86", "fbgemm", "qnnpack")  # of torch, the quickest on measured processors first

SCHEME = "rows"  # to be changed with how numbers are made smaller: it is part of the fingerprint
TINY = torch.finfo(torch.float32).tiny


def is_supported() -> bool:
    """Whether this torch can run 8-bit linear layers on this processor at all."""
    return any(engine in torch.backends.quantized.supported_engines for engine in ENGINES)


def is_fast() -> bool:
    """Whether the processor multiplies 8-bit integers natively (VNNI), which is what makes it worth while."""
    return bool(torch.cpu._is_vnni_supported()) if hasattr(torch.cpu, "_is_vnni_supported") else False


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 natively."""
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check)


@contextlib.contextmanager
def _engine() -> Iterator[None]:
    """The quickest engine, for the layers packed within; a packed layer keeps its own."""
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = next(e for e in ENGINES if e in torch.backends.quantized.supported_engines)
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


def to_int8(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, ...) float -> the same in int8, and the (rows,) float32 by which each row is to be multiplied.

    >>> to_int8(torch.tensor([[1.27, -0.5], [0.0, 0.0]]))[0].tolist()
    [[127, -50], [0, 0]]
    """
    scale = tensor.float().flatten(1).abs().amax(1).clamp_min(TINY) / 127
    return (tensor.float() / _by_row(scale, tensor)).round().to(torch.int8), scale


def from_int8(tensor: Tensor, scale: Tensor) -> Tensor:
    """What `to_int8` made -> (rows, ...) float32.

    Raises:
        ValueError: the scales are not one finite number of float32 for each row.
    """
    if (
        scale.dtype != torch.float32
        or scale.shape != tensor.shape[:1]
        or not bool((scale.isfinite() & (scale >= 0)).all())
    ):
        raise ValueError(
            f"scales of {tuple(scale.shape)} for a tensor of {tuple(tensor.shape)}; expected one for each row"
        )
    return tensor.float() * _by_row(scale, tensor)


def _by_row(scale: Tensor, tensor: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (tensor.ndim - 1))


class Int8Linear(nn.Module):
    """A linear layer whose weight is kept in 8 bits.

    Args:
        weight: (out, in) float32.
        bias: (out,) float32.
    """

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        rounded, scale = to_int8(weight)
        with warnings.catch_warnings(), _engine():
            warnings.simplefilter("ignore")  # torch means to move its quantised tensors elsewhere
            quantised = torch._make_per_channel_quantized_tensor(
                rounded, scale.double(), torch.zeros(len(weight), dtype=torch.int64), 0
            )
            self.packed = torch.ops.quantized.linear_prepack(quantised, torch.zeros(len(weight)))
        self.bias = bias.clone()  # a view of it would keep the whole checkpoint mapped
        self.reduce_range = not is_fast()  # without VNNI a sum of two products can exceed 16 bits

    @classmethod
    def of(cls, linear: nn.Module) -> Int8Linear:
        """The 8-bit version of an `nn.Linear`."""
        assert isinstance(linear, nn.Linear)
        return cls(linear.weight, linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        rows = x.reshape(-1, x.shape[-1])
        # Quicker than the maximum of absolute values, and ten times as quick as aminmax along a dimension.
        scale = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True)).clamp_min_(TINY)
        # torch quantises the whole tensor by its least and greatest number. A row more, with -1 and 1, fixes them.
        scaled = rows.new_ones(len(rows) + 1, rows.shape[1])
        scaled[-1, 0] = -1
        torch.div(rows, scale, out=scaled[:-1])
        product = torch.ops.quantized.linear_dynamic(scaled, self.packed, self.reduce_range)[:-1]
        return torch.addcmul(self.bias, product, scale, out=product).view(*x.shape[:-1], -1)


class Int8Attention(Attention):
    """Self-attention with 8-bit projections.

    Args:
        attention: the one to quantise.
        parts: of the input projection that will be asked for.
    """

    def __init__(self, attention: Attention, parts: tuple[str, ...]):
        nn.Module.__init__(self)
        self.dim, self.heads, self.causal = attention.dim, attention.heads, attention.causal
        self.bias_k, self.bias_v = attention.bias_k, attention.bias_v
        self.out_proj = Int8Linear.of(attention.out_proj)
        self.in_bf16 = has_bf16()
        self.projections = nn.ModuleDict()
        for part in parts:
            rows = attention.rows(part)
            self.projections[part] = Int8Linear(attention.in_proj_weight[rows], attention.in_proj_bias[rows])

    def project(self, x: Tensor, part: str) -> Tensor:
        return self.projections[part](x)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, all_tokens: bool) -> Tensor:
        if not self.in_bf16:
            return super().attend(query, key, value, mask, all_tokens)
        mixed = super().attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), mask, all_tokens)
        return mixed.to(query.dtype)


def quantise(block: Block, is_last: bool) -> None:
    """Replace the linear layers of a block, in place. The float weights are dropped.

    Args:
        block: of a transformer.
        is_last: whether it is the last one, which is asked for one token only.
    """
    block.attn = Int8Attention(block.attn, ("query", "key_value") if is_last else ("all",))
    block.mlp.fc1 = Int8Linear.of(block.mlp.fc1)
    block.mlp.fc2 = Int8Linear.of(block.mlp.fc2)

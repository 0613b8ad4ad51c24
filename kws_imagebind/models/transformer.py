"""A pre-norm transformer encoder (Vaswani et al. 2017, Xiong et al. 2020) on fused attention, for inference.

Parameters carry the names of `torch.nn.MultiheadAttention`, because published checkpoints do. Shapes are written
with B rows of a batch, L tokens, D dimensions and H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kws_imagebind.models.layers import LayerNorm, Linear

LAYER_NORM_EPS = 1e-6
MLP_RATIO = 4


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of one transformer.

    Attributes:
        dim: width of a token.
        depth: blocks.
        heads: attention heads; they divide `dim`.
        causal: a token sees itself and the ones before it, as in a language model.
        extra_key: one learned key and value in every block, which all tokens can attend to.
        norm_first: a layer norm before the first block.
    """

    dim: int
    depth: int
    heads: int
    causal: bool = False
    extra_key: bool = False
    norm_first: bool = False

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide {self.dim} dimensions")


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        dim = config.dim
        self.dim, self.heads, self.causal = dim, config.heads, config.causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))  # query, key, value
        self.in_proj_bias = nn.Parameter(torch.empty(3 * dim))
        self.out_proj: nn.Module = Linear(dim, dim)
        self.bias_k = nn.Parameter(torch.empty(1, 1, dim)) if config.extra_key else None
        self.bias_v = nn.Parameter(torch.empty(1, 1, dim)) if config.extra_key else None

    def forward(self, x: Tensor, only: Tensor | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D), or (B, 1, D) for the one token of each row whose position `only` (B,) holds."""
        if only is None:
            query, key, value = self.project(x, "all").chunk(3, -1)
        else:
            query = self.project(pick(x, only), "query")
            key, value = self.project(x, "key_value").chunk(2, -1)
        if self.bias_k is not None and self.bias_v is not None:
            key = torch.cat([key, self.bias_k.expand(len(key), -1, -1)], 1)  # (B, L + 1, D)
            value = torch.cat([value, self.bias_v.expand(len(value), -1, -1)], 1)
        mask = None
        if self.causal and only is not None:
            mask = (torch.arange(key.shape[1], device=x.device) <= only[:, None])[:, None, None]  # (B, 1, 1, L)
        mixed = self.attend(self._split(query), self._split(key), self._split(value), mask, only is None)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def project(self, x: Tensor, part: str) -> Tensor:
        """(B, L, D) -> (B, L, rows of the part)."""
        rows = self.rows(part)
        return F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])

    def rows(self, part: str) -> slice:
        """Where "query", "key_value" or "all" stand in the projection's weight."""
        return {"query": slice(0, self.dim), "key_value": slice(self.dim, None), "all": slice(None)}[part]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, all_tokens: bool) -> Tensor:
        """Softmax attention of (B, H, L, D / H)."""
        causal = self.causal and all_tokens
        if query.is_cpu and query.dtype is torch.bfloat16:
            return _attend_in_steps(query, key, value, mask, causal)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, L, D / H)


def _attend_in_steps(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """As fused attention. On a CPU that one is no faster in bfloat16 than in float32, and two matrix products are."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)  # (B, H, L, L)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ value


class MLP(nn.Module):
    """The two linear layers of a block, with a GELU between them."""

    def __init__(self, dim: int):
        super().__init__()
        self.fc1: nn.Module = Linear(dim, MLP_RATIO * dim)
        self.fc2: nn.Module = Linear(MLP_RATIO * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention, then an MLP, each on a normalised input and added to it."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.attn = Attention(config)
        self.norm_1 = LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.mlp = MLP(config.dim)
        self.norm_2 = LayerNorm(config.dim, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor, only: Tensor | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D), or (B, 1, D) where `only` one token of each row is wanted."""
        kept = x if only is None else pick(x, only)
        kept = kept + self.attn(self.norm_1(x), only)
        return kept + self.mlp(self.norm_2(kept))


class Transformer(nn.Module):
    """Blocks in a row, read out at one token."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        if config.norm_first:
            self.pre_transformer_layer = nn.ModuleList([LayerNorm(config.dim, eps=LAYER_NORM_EPS)])
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.depth)])
        self.norm_first = config.norm_first

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(B, L, D) and the position (B,) of the token to read -> (B, D).

        The last block is worked out for that token alone, which changes nothing in it.
        """
        if self.norm_first:
            x = self.pre_transformer_layer[0](x)
        for block in self.blocks[:-1]:
            x = block(x)
        return self.blocks[-1](x, only=position)[:, 0]


def pick(x: Tensor, position: Tensor) -> Tensor:
    """(B, L, D) and positions (B,) -> (B, 1, D)."""
    return x[torch.arange(len(x), device=x.device), position][:, None]

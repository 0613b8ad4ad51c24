"""torch's layers without the weights it would draw for them: here all weights come from a checkpoint.

Drawing them for ImageBind takes longer than reading the real ones; and on the "meta" device, where it would be free,
the mere attempt makes torch import its whole compiler (2 s, 160 MB).
"""

from __future__ import annotations

from torch import nn


class Linear(nn.Linear):
    def reset_parameters(self) -> None: ...


class LayerNorm(nn.LayerNorm):
    def reset_parameters(self) -> None: ...


class Embedding(nn.Embedding):
    def reset_parameters(self) -> None: ...


class Conv2d(nn.Conv2d):
    def reset_parameters(self) -> None: ...


class Conv3d(nn.Conv3d):
    def reset_parameters(self) -> None: ...

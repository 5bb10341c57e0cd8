"""Networks that compute in bfloat16."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.backbones.factory import Net, as_factory
from ddreplay.backbones.layers import Network
from ddreplay.data.space import Shape

__all__ = ["Bfloat16", "full_precision"]


@dataclass(frozen=True)
class Bfloat16:
    """A network of this package whose blocks compute in bfloat16; weights, embeddings, classifier and losses stay float32.

    What it is worth depends on the processor: one with bfloat16 matrix instructions (AMX, a GPU) gains, another loses.
    benchmarks/records/precision*.json has times and accuracies beside each other.

    Args:
        net: makes the network.
    Example:
        >>> from ddreplay import ConvNet
        >>> Bfloat16(ConvNet(width=8))((1, 8, 8), 3).embed(torch.zeros(2, 1, 8, 8)).dtype
        torch.float32
    """

    net: Net

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        made = as_factory(self.net)(shape, classes)
        if not isinstance(made, Network):
            raise TypeError(
                f"Bfloat16 takes the networks of this package (ConvNet, ResNet18, ...), not {type(made).__name__}; "
                "put torch.autocast into its forward instead"
            )
        made.blocks = Autocast(OrderedDict(made.blocks.named_children()))
        return made


class Autocast(nn.Sequential):
    """A sequence that computes in bfloat16, from and to the precision of its input.

    enabled: or, while it is ``False``, in the precision of its input (`full_precision`).
    """

    enabled = True

    def forward(self, input: Float[Tensor, "n c h w"]) -> Tensor:
        out: Tensor = input
        with torch.autocast(input.device.type, dtype=torch.bfloat16, enabled=self.enabled):
            for module in self:
                out = module(out)
        return out.to(input.dtype)


@contextmanager
def full_precision(net: nn.Module) -> Iterator[None]:
    """Inside, a network made by `Bfloat16` computes in the precision of its weights; others do as they always do."""
    casts = [module for module in net.modules() if isinstance(module, Autocast)]
    before = [cast.enabled for cast in casts]
    for cast in casts:
        cast.enabled = False
    try:
        yield
    finally:
        for cast, enabled in zip(casts, before, strict=True):
            cast.enabled = enabled

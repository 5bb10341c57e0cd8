"""Functions of the feature maps of tapped layers, for the terms that match style (`StyleMoments`, `GramMatching`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.backbones import Activations

__all__ = ["OfMap", "check_taps", "layer_errors"]

_TINY = 1e-12  # the least size that a relative error is divided by


@dataclass(frozen=True)
class OfMap:
    """A function of one tapped layer's maps: ``name`` is the name of the maps in `Activations`."""

    name: str
    function: Callable[[Tensor], Tensor]

    def __call__(self, seen: Activations) -> Tensor:
        return self.function(seen.maps[self.name])


def check_taps(taps: Sequence[str]) -> tuple[str, ...]:
    """The names of the layers as a tuple.

    Raises:
        ValueError: for no layer, or one string in the place of a sequence.
    """
    if not taps or isinstance(taps, str):
        raise ValueError(f'taps must be a sequence of names of layers such as ("norms",), got {taps!r}')
    return tuple(taps)


def layer_errors(
    real: Sequence[Tensor], syn: Sequence[Tensor], reduce: Callable[[Tensor], Float[Tensor, " classes"]], relative: bool
) -> Float[Tensor, ""]:
    """sum_c 1/L sum_layers reduce((real - syn)^2), a layer's share divided by reduce(real^2) where ``relative``.

    Args:
        real, syn: a tensor [classes, ...] per layer.
        reduce: from squares [classes, ...] to one number per class, by mean or sum.
    """
    layers = []
    for a, b in zip(real, syn, strict=True):
        error = reduce((a - b).square())
        size = reduce(a.square()).clamp_min(_TINY) if relative else 1
        layers.append((error / size).sum())
    return torch.stack(layers).mean()

"""The gradients of a network's weights: of groups of images that are taken a piece at a time, one after the other or all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ddreplay.augment.mixing import MixTransform
from ddreplay.backbones.compiling import Forward
from ddreplay.data.chunks import Images
from ddreplay.objectives.side import PIECE, Side

__all__ = [
    "Chosen",
    "Layers",
    "OfGroups",
    "Part",
    "gradients_at_once",
    "groups_at_once",
    "mean_gradient",
    "mixed",
    "vectorized_gradients",
    "weight_gradient",
]

Layers = Literal["all", "conv"]


class Part(NamedTuple):
    """A group's images as the network sees them, to be taken a piece at a time, and their labels (int64 [n] or soft [n, classes])."""

    x: Images
    y: Tensor


@dataclass(frozen=True)
class Chosen:
    """Some of the images, by their places."""

    images: Images
    places: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: slice | Tensor, /) -> Float[Tensor, "m c h w"]:
        return self.images[self.places[index]]


@dataclass(frozen=True)
class _Mixed:
    """Images mixed with their partners when they are taken; ``partners`` are the places of these."""

    images: Images
    mixing: MixTransform
    partners: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | Tensor, /) -> Float[Tensor, "m c h w"]:
        return self.mixing.blend(self.images[index], self.images[self.partners[index]])


def mixed(x: Images, mixing: MixTransform, classes: int, device: torch.device) -> Images:
    """Class-major images under a siamese mixing: a tensor at once, others when they are taken."""
    if isinstance(x, Tensor):
        return mixing.images(x, classes)
    return _Mixed(x, mixing, mixing.partner(torch.arange(len(x), device=device), classes))


def weight_gradient(
    loss: Tensor, net: nn.Module, layers: Layers = "all", *, create_graph: bool = False
) -> list[Tensor]:
    """The gradient of a scalar to the network's weights, of those ``layers``."""
    weights = list(_weights(net, layers).values())
    return list(torch.autograd.grad(loss, weights, create_graph=create_graph, materialize_grads=True))


def mean_gradient(net: nn.Module, part: Part, chunk: int | None, layers: Layers, forward: Forward) -> list[Tensor]:
    """The gradient of the group's mean cross-entropy, accumulated over chunks; no graph is kept."""
    total: list[Tensor] = []
    n = len(part.y)
    size = min(chunk or n, n)
    for start in range(0, n, size):
        x, y = part.x[start : start + size].detach(), part.y[start : start + size]
        # a last smaller chunk would be compiled anew
        logits = forward(net, x) if len(x) == size else net(x)
        gradient = weight_gradient(F.cross_entropy(logits, y, reduction="sum") / n, net, layers)
        if total:
            torch._foreach_add_(total, gradient)
        else:
            total = gradient
    return total


def groups_at_once(side: Side, parts: Sequence[Part]) -> int:
    """How many of these groups, all of one size, one call takes: `PIECE` chunks of images."""
    return len(parts) if side.chunk is None else max(1, PIECE * side.chunk // len(parts[0].y))


def gradients_at_once(net: nn.Module, parts: Sequence[Part], size: int, layers: Layers = "all") -> list[Tensor]:
    """The gradient of every group's mean cross-entropy, [groups, *shape] per parameter, ``size`` groups at a time."""
    found = []
    for k in range(0, len(parts), size):
        x, y = (
            torch.stack([part.x[:] for part in parts[k : k + size]]),
            torch.stack([part.y for part in parts[k : k + size]]),
        )
        found.append(vectorized_gradients(net, x, y, layers))
    return found[0] if len(found) == 1 else [torch.cat(layer) for layer in zip(*found, strict=True)]


def vectorized_gradients(
    net: nn.Module, x: Float[Tensor, "groups n c h w"], y: Tensor, layers: Layers = "all"
) -> list[Tensor]:
    """The gradient of every group's mean cross-entropy in one call."""

    def loss(weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, weights, (images,)), labels)

    each = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
    return list(each(_weights(net, layers), x, y).values())


@dataclass(frozen=True)
class OfGroups:
    """The gradient of every group's mean cross-entropy, [groups, *shape] per parameter, as a step that a GPU replays.

    Args:
        layers: As in `GradientMatching`.
        forward: How a network is run.
        vectorize: One call for all groups instead of one after the other.
    """

    layers: Layers
    forward: Forward
    vectorize: bool

    def __call__(self, net: nn.Module, x: Float[Tensor, "groups n c h w"], y: Tensor) -> list[Tensor]:
        return self.gradients(net, x, y)

    def gradients(
        self, net: nn.Module, x: Float[Tensor, "groups n c h w"], y: Tensor, *, create_graph: bool = False
    ) -> list[Tensor]:
        """The same, with a graph to the images where they are learned."""
        if self.vectorize:
            return vectorized_gradients(net, x, y, self.layers)
        each = [
            weight_gradient(
                F.cross_entropy(self.forward(net, images), labels), net, self.layers, create_graph=create_graph
            )
            for images, labels in zip(x, y, strict=True)
        ]
        return [torch.stack(layer) for layer in zip(*each, strict=True)]


def _weights(net: nn.Module, layers: Layers = "all") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {
        name: p for name, p in net.named_parameters() if p.requires_grad and (layers == "all" or p.dim() == 4)
    }
    if not found:
        raise ValueError(f"the network has no weights to match with layers={layers!r}; use layers='all'")
    return found

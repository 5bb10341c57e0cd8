"""Layers that the networks are made of, chosen by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.data.space import Shape

__all__ = ["AvgPool2x2", "Network", "conv_block", "make_activation", "make_norm", "make_pooling", "pads_to_32"]

Size = tuple[int, int]

_GROUPS = 4


class AvgPool2x2(nn.Module):
    """Mean over 2x2 pixels, stride 2; a last odd row or column is left out: ``F.avg_pool2d(x, 2)``, up to rounding."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        if x.device.type != "cpu":
            return F.avg_pool2d(x, 2)
        x = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
        if torch.compiler.is_compiling():
            return _mean2x2(x)
        out: Tensor = _Mean2x2.apply(x)
        return out


def _mean2x2(x: Tensor) -> Tensor:
    """Sums of strided views: several times as fast as ``F.avg_pool2d`` on a CPU, and a compiler can fuse them with what is before.
    Whole rows first, because those are vectorised."""
    rows = x[..., 0::2, :] + x[..., 1::2, :]
    return (rows[..., 0::2] + rows[..., 1::2]) * 0.25


class _LastTwo(torch.autograd.Function):
    """A linear function of the last two axes: whatever is before them, a mapped axis too, only goes along."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Linear: nothing is kept."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int], x: Tensor) -> tuple[Tensor, int]:
        return cls.apply(x.movedim(in_dims[0], 0)), 0


class _Mean2x2(_LastTwo):
    """`_mean2x2` with a gradient that writes every pixel once; its own gradient is the mean again."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _mean2x2(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        spread: Tensor = _Spread2x2.apply(grad)
        return spread


class _Spread2x2(_LastTwo):
    """A quarter of every value to each of its 2x2 pixels."""

    @staticmethod
    def forward(grad: Tensor) -> Tensor:
        *rest, height, width = grad.shape
        quarter = grad * 0.25
        row = grad.new_empty(*rest, height, width, 2)
        row[..., 0], row[..., 1] = quarter, quarter
        out = grad.new_empty(*rest, height, 2, 2 * width)
        out[..., 0, :] = out[..., 1, :] = row.view(*rest, height, 2 * width)
        return out.view(*rest, 2 * height, 2 * width)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        mean: Tensor = _Mean2x2.apply(grad)
        return mean


class Network(nn.Module):
    """Blocks, flattened, and one linear classifier. The embedding is what the classifier reads.

    Modules are named ``blocks.<i>`` and ``classifier``; in a convolutional block ``conv``, ``norm``, ``act``, ``pool``.
    """

    def __init__(self, blocks: nn.Sequential, features: int, classes: int) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        self.blocks = blocks
        self.classifier = nn.Linear(features, classes)

    def embed(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        embedding: Tensor = self.blocks(x).flatten(1)
        return embedding

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "leakyrelu": nn.LeakyReLU,
    "swish": nn.SiLU,
}
_NORMS = ("none", "batch", "layer", "instance", "group")
_POOLINGS: dict[str, Callable[[], nn.Module]] = {"max": lambda: nn.MaxPool2d(2), "avg": AvgPool2x2}


def check_names(norm: str = "none", activation: str = "relu", pooling: str = "none") -> None:
    """Raises ValueError for a name that is not known."""
    given: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("norm", norm, _NORMS),
        ("activation", activation, tuple(_ACTIVATIONS)),
        ("pooling", pooling, ("none", *_POOLINGS)),
    )
    for argument, value, known in given:
        if value not in known:
            raise ValueError(f"{argument} must be one of {', '.join(known)}, got {value!r}")


def make_norm(norm: str, channels: int, size: Size) -> nn.Module | None:
    """Normalisation of maps [n, channels, *size]; ``instance`` is a group norm with a group per channel, and affine."""
    if norm == "none":
        return None
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "layer":
        return nn.LayerNorm([channels, *size])
    if norm == "instance":
        if size[0] * size[1] < 2:
            raise ValueError(
                "norm='instance' needs maps of two pixels or more, and here they have shrunk to one; use larger "
                "images, another network or norm='batch'"
            )
        return nn.GroupNorm(channels, channels)
    if channels % _GROUPS:
        raise ValueError(
            f"norm='group' has {_GROUPS} groups, so channels must be a multiple of {_GROUPS}, got {channels}"
        )
    return nn.GroupNorm(_GROUPS, channels)


def make_activation(activation: str) -> nn.Module:
    return _ACTIVATIONS[activation]()


def make_pooling(pooling: str) -> nn.Module | None:
    return None if pooling == "none" else _POOLINGS[pooling]()


def pads_to_32(shape: Shape) -> bool:
    """28x28 images of one channel: the first convolution pads them to 32x32, as in the released code of DC."""
    return shape == (1, 28, 28)


def conv_block(
    channels: tuple[int, int],
    size: Size,
    *,
    kernel: int = 3,
    padding: int = 1,
    bias: bool = True,
    norm: str = "none",
    activation: str = "relu",
    pooling: str = "none",
) -> tuple[nn.Sequential, Size]:
    """Convolution (stride 1), norm, activation, pooling; and the size of the maps that come out."""
    grown = (size[0] + 2 * padding - kernel + 1, size[1] + 2 * padding - kernel + 1)
    size = (grown[0] // 2, grown[1] // 2) if pooling != "none" else grown
    if min(size) < 1:
        raise ValueError("the image is too small for this network: maps have shrunk to nothing; use larger images")
    parts = {
        "conv": nn.Conv2d(channels[0], channels[1], kernel, padding=padding, bias=bias),
        "norm": make_norm(norm, channels[1], grown),
        "act": make_activation(activation),
        "pool": make_pooling(pooling),
    }
    return nn.Sequential(OrderedDict((name, part) for name, part in parts.items() if part is not None)), size

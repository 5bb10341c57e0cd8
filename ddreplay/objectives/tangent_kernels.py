"""Neural tangent kernels of networks of infinite width, in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["ConvTangentKernel", "Kernel", "TangentKernel"]

_TINY = 1e-12  # of a variance, where an image is zero
_SAME = 1 - 1e-12  # the largest cosine of two images, in float64: at 1 its angle has no gradient
_PIECE = (
    2**21
)  # pairs of pixels in one piece of a convolutional kernel, whose graph is held: 16 MB in each of some twenty tensors


@runtime_checkable
class Kernel(Protocol):
    """What a regression on images takes for their inner product."""

    def __call__(self, x: Float[Tensor, "m c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, "m n"]:
        """The kernel of every pair."""


def _between(kernel: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """What a ReLU makes of covariances, and of the tangent kernel's share that passes it.

    Args:
        size: The square root of the product of both variances.
    """
    cosine = (kernel / size.clamp_min(_TINY)).clamp(-_SAME, _SAME)
    angle = cosine.arccos()
    left = (math.pi - angle) / (2 * math.pi)
    return size * (angle.sin() / (2 * math.pi) + left * cosine), left


@dataclass(frozen=True)
class TangentKernel:
    """The neural tangent kernel of a fully connected ReLU network of infinite width, on flattened images (KIP).

    Every layer gives w^2 <x, y> / width + b^2 (of d inputs, the first: <x, y> / d); a ReLU between two of them maps a pair's kernel k
    and angle t to sqrt(k_xx k_yy) (sin t + (pi - t) cos t) / (2 pi), and its tangent kernel to (pi - t) / (2 pi) of it.

    Args:
        depth: Hidden layers.
        weight: w, as in the published notebook.
        bias: b, as in the published notebook.
    Raises:
        ValueError: for less than one hidden layer.
    Reference: Jacot et al., "Neural Tangent Kernel: Convergence and Generalization in Neural Networks", NeurIPS 2018.
    """

    depth: int = 1
    _: KW_ONLY
    weight: float = math.sqrt(2)
    bias: float = 0.1

    def __post_init__(self) -> None:
        if self.depth < 1 or self.weight <= 0 or self.bias < 0:
            raise ValueError(
                f"depth must be at least 1, weight positive and bias not negative, got {self.depth}, {self.weight} and {self.bias}"
            )

    def __call__(self, x: Float[Tensor, "m ..."], y: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """The kernel of every pair, of images or of vectors."""
        x, y = x.flatten(1), y.flatten(1)
        w, b, d = self.weight**2, self.bias**2, x.shape[1]
        own_x, own_y = (w * v.square().sum(1) / d + b for v in (x, y))
        kernel = w * (x @ y.T) / d + b
        tangent = kernel
        for _ in range(self.depth):
            kernel, left = _between(kernel, (own_x[:, None] * own_y).sqrt())
            kernel = w * kernel + b
            tangent = kernel + w * tangent * left
            own_x, own_y = w * own_x / 2 + b, w * own_y / 2 + b
        return tangent


@dataclass(frozen=True)
class ConvTangentKernel:
    """The neural tangent kernel of a ConvNet of infinite width, exactly: 3 x 3 convolutions, ReLU, average pooling, one linear layer (KIP).

    A pair of images has a covariance K[p, q] for every pair of their pixels. A convolution averages it over the nine places of its
    window, moved together on both sides (zeros outside), to w^2 A(K) + b^2; a ReLU acts on every entry as in `TangentKernel`, pooling
    is a mean over both sides' windows, and the linear layer a mean over p = q. The tangent kernel goes along: A, the ReLU's derivative
    and the means act on it too, and every layer adds its own K.

    Time and memory grow with the pairs of images times the square of their pixels: 10 beside 100 digits of 8 x 8 take a second, images of
    32 x 32 are 256 times as much. Pieces whose graph fits are computed one after the other, and once more for the gradient.

    Args:
        convolutions: Their numbers in blocks, each with a ReLU behind it; 2 x 2 pooling ends a block. ``(2, 1, 1)`` is the ConvNet of three
            blocks with one convolution in front of them.
        average: Whether the last block ends in the mean of all pixels, as the Myrtle networks of the notebook do.
        weight: w, as in the published notebook.
        bias: b, as in the published notebook.
    Raises:
        ValueError: for a block without a convolution, or, when it is called, for images that are too small for so much pooling.
    Reference: Arora et al., "On Exact Computation with an Infinitely Wide Neural Net", NeurIPS 2019; Nguyen et al., "Dataset
        Distillation with Infinitely Wide Convolutional Networks", NeurIPS 2021.
    """

    convolutions: tuple[int, ...] = (2, 1, 1)
    _: KW_ONLY
    average: bool = False
    weight: float = math.sqrt(2)
    bias: float = 0.1

    def __post_init__(self) -> None:
        if not self.convolutions or min(self.convolutions) < 1 or self.weight <= 0 or self.bias < 0:
            raise ValueError(
                "convolutions must be one number or more, each at least 1, weight positive and bias not negative, got "
                f"{self.convolutions}, {self.weight} and {self.bias}"
            )

    def __call__(self, x: Float[Tensor, "m c h w"], y: Float[Tensor, "n c h w"]) -> Float[Tensor, "m n"]:
        """The kernel of every pair."""
        height, width = x.shape[2:]
        pooled = len(self.convolutions) - self.average
        if min(height, width) < 2**pooled:
            raise ValueError(
                f"images of {height} x {width} pixels are too small for pooling {pooled} times; give fewer blocks"
            )
        own = [self._variances(images) for images in (x, y)]
        rows = max(1, _PIECE // (len(y) * (height * width) ** 2))
        pieces = []
        for part in torch.arange(len(x)).split(rows):
            of_part = [v[part] for v in own[0]]
            pieces.append(checkpoint(self._tangent, x[part], y, of_part, own[1], use_reentrant=False))
        return torch.cat(pieces)

    def _layers(self) -> Iterator[str]:
        for block, count in enumerate(self.convolutions):
            yield from ("convolution", "relu") * count
            yield "average" if self.average and block == len(self.convolutions) - 1 else "pool"

    def _convolved(self, values: Tensor, bias: float) -> Tensor:
        return self.weight**2 * _moved_together(values) / 9 + bias

    def _variances(self, x: Float[Tensor, "m c h w"]) -> list[Float[Tensor, "m h2 w2"]]:
        """Of every pixel before every ReLU."""
        kernel = torch.einsum("mchw,mcij->mhwij", x, x) / x.shape[1]
        found = []
        for layer in self._layers():
            if layer == "convolution":
                kernel = self._convolved(kernel, self.bias**2)
            elif layer == "relu":
                found.append(_same_pixel(kernel))
                kernel, _ = _between(kernel, _size(found[-1], found[-1]))
            else:
                kernel = _pooled(kernel, layer)
        return found

    def _tangent(self, x: Tensor, y: Tensor, own_x: list[Tensor], own_y: list[Tensor]) -> Float[Tensor, "m n"]:
        kernel = torch.einsum("mchw,ncij->mnhwij", x, y) / x.shape[1]
        tangent, relu = torch.zeros_like(kernel), 0
        for layer in self._layers():
            if layer == "convolution":
                kernel = self._convolved(kernel, self.bias**2)
                tangent = kernel + self._convolved(tangent, 0.0)
            elif layer == "relu":
                kernel, left = _between(kernel, _size(own_x[relu][:, None], own_y[relu][None]))
                tangent, relu = tangent * left, relu + 1
            else:
                kernel, tangent = _pooled(kernel, layer), _pooled(tangent, layer)
        kernel, tangent = (_same_pixel(values).mean((-2, -1)) for values in (kernel, tangent))
        return self.weight**2 * (kernel + tangent) + self.bias**2


def _moved_together(values: Float[Tensor, "*pairs h w h w"]) -> Float[Tensor, "*pairs h w h w"]:
    """The sum over a 3 x 3 window that moves on both sides at once; what lies outside is zero."""
    for left, right in ((-4, -2), (-3, -1)):
        size = values.shape[left] - 1
        near, far = (values.narrow(left, k, size).narrow(right, k, size) for k in (0, 1))
        total = values.clone()
        total.narrow(left, 0, size).narrow(right, 0, size).add_(far)
        total.narrow(left, 1, size).narrow(right, 1, size).add_(near)
        values = total
    return values


def _same_pixel(values: Float[Tensor, "*pairs h w h w"]) -> Float[Tensor, "*pairs h w"]:
    square = values.flatten(-4, -3).flatten(-2, -1)
    pixels: Tensor = square.diagonal(dim1=-2, dim2=-1).unflatten(-1, values.shape[-2:])
    return pixels


def _size(left: Float[Tensor, "*left h w"], right: Float[Tensor, "*right h w"]) -> Float[Tensor, "*both h w h w"]:
    """The square root of the product of variances, for every pair of pixels."""
    return left.sqrt()[..., :, :, None, None] * right.sqrt()[..., None, None, :, :]


def _pooled(values: Float[Tensor, "*pairs h w h w"], layer: Any) -> Float[Tensor, "*pairs h2 w2 h2 w2"]:
    if layer == "average":
        return values.mean((-4, -3, -2, -1), keepdim=True)
    h, w = values.shape[-2] // 2, values.shape[-1] // 2
    kept = values[..., : 2 * h, : 2 * w, : 2 * h, : 2 * w]
    return kept.reshape(*values.shape[:-4], h, 2, w, 2, h, 2, w, 2).mean((-7, -5, -3, -1))

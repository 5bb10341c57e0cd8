"""Two spaces of pixel values: pixels in [0, 1], and what networks see, with a mean and a standard deviation per channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Shape = tuple[int, int, int]


def to_pixels(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Float[Tensor, "n c h w"]:
    """Network space -> pixels in [0, 1] (values outside stay outside)."""
    scale, shift = _columns(images, std), _columns(images, mean)
    return images * scale + shift


def to_network(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Float[Tensor, "n c h w"]:
    """Pixels in [0, 1] -> network space."""
    return (images - _columns(images, mean)) / _columns(images, std)


def _columns(images: Tensor, values: Sequence[float]) -> Tensor:
    numbers = torch.tensor(values, dtype=images.dtype).to(images.device, non_blocking=True)
    return numbers.view(-1, 1, 1)

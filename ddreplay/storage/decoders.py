"""How stored numbers become images: pixels, partitions of an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.space import Shape
from ddreplay.storage.codecs.codec import Codec
from ddreplay.storage.whitening import Whitening

__all__ = ["expand_partition", "unpack"]

Layout = Mapping[str, Any]


Stored = Mapping[str, Tensor]


def _windows(size: int, factor: int) -> list[slice]:
    tile = -(-size // factor)
    starts = [round(k * (size - tile) / max(factor - 1, 1)) for k in range(factor)]
    return [slice(start, start + tile) for start in starts]


def expand_partition(images: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "m c h w"]:
    """Images of one class -> ``factor``^2 times as many enlarged tiles, tile-major, columns of tiles first."""
    if factor == 1:
        return images
    h, w = images.shape[2:]
    tiles = [images[:, :, rows, cols] for cols in _windows(w, factor) for rows in _windows(h, factor)]
    return F.interpolate(torch.cat(tiles), size=(h, w), mode="bilinear", align_corners=False)


def _unpack_pixels(layout: Layout, stored: Stored, images: list[Tensor]) -> list[Tensor]:
    return images


def _unpack_basis(layout: Layout, stored: Stored, images: list[Tensor]) -> list[Tensor]:
    if "coefficients" not in stored or len(stored["coefficients"]) != len(images):
        raise ValueError("a set of layout 'basis' needs the coefficients of every class beside its images")
    mean = torch.tensor(layout["mean"]).view(-1, 1, 1)
    return [
        (a.float() @ (x - mean).flatten(1)).unflatten(1, x.shape[1:]) + mean
        for a, x in zip(stored["coefficients"], images, strict=True)
    ]


def _unpack_partitioned(layout: Layout, stored: Stored, images: list[Tensor]) -> list[Tensor]:
    return [expand_partition(x, int(layout["factor"])) if len(x) else x for x in images]


_IMAGE_LAYOUTS: dict[str, Callable[[Layout, Stored, list[Tensor]], list[Tensor]]] = {
    "basis": _unpack_basis,
    "pixels": _unpack_pixels,
    "partitioned": _unpack_partitioned,
}


def unpack(
    layout: Layout, codec: Codec, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape
) -> list[Float[Tensor, "_ c h w"]]:
    """What a file holds -> the images trained on, per class, as pixels.

    Raises:
        ValueError: when the layout is unknown (a newer file) or the stored tensors do not fit it.
    """
    name = layout.get("name")
    if name not in _IMAGE_LAYOUTS:
        raise ValueError(f"unknown layout {name!r}: the file may come from a newer ddreplay")
    images = _IMAGE_LAYOUTS[name](layout, stored, codec.decode(stored, counts, shape))
    if layout.get("whitened"):
        images = [Whitening.of_tensors(stored).invert(x) for x in images]
    return images


def select_beside(layout: Layout, stored: Stored, keep: Sequence[int]) -> dict[str, Tensor]:
    """What is stored beside images (combinations, a whitening), of these class positions alone."""
    kept = {"coefficients": stored["coefficients"][list(keep)]} if layout.get("name") == "basis" else {}
    return {**kept, **(Whitening.of_tensors(stored).tensors() if layout.get("whitened") else {})}


def combine(
    coefficients: Float[Tensor, "*classes n r"], images: Float[Tensor, "*classes r c h w"]
) -> Float[Tensor, "*classes n c h w"]:
    """Of every class."""
    combined: Tensor = (coefficients @ images.flatten(-3)).unflatten(-1, images.shape[-3:])
    return combined

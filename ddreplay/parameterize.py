"""How stored numbers become images: pixels, partitions of an image."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.codec import Codec
from ddreplay.data import ClassPool, Shape
from ddreplay.randomness import Random
from ddreplay.whitening import Whitening

__all__ = ["Form", "Parameterize", "Partitioned", "Pixels", "expand_partition", "partitioned", "pixels", "unpack"]

Init = Literal["real", "noise"] | Callable[[ClassPool, int, Random], Tensor]
"""Where images start: random real ones, standard normal noise, or what a function of pool, number per class and random gives."""
Layout = Mapping[str, Any]
Stored = Mapping[str, Tensor]


class Form(nn.Module, abc.ABC):
    """Learnable stored numbers of every class, and what images they stand for.

    classes: how many. stored_per_class: images that are paid for. per_class: images that are trained on.
    """

    classes: int
    stored_per_class: int
    per_class: int
    by_class: bool = False
    """Whether the first axis of every parameter goes class by class, and a class's images depend on its own part alone."""

    @abc.abstractmethod
    def decode(self) -> Float[Tensor, "n c h w"]:
        """The images trained on, class-major, in network space, with a graph to the stored numbers."""

    @abc.abstractmethod
    def pack(self, codec: Codec, pool: ClassPool) -> dict[str, Tensor]:
        """The stored numbers as the tensors a file holds."""

    @abc.abstractmethod
    def layout(self) -> dict[str, Any]:
        """Everything `unpack` needs besides those tensors, as JSON."""

    def storage(self, codec: Codec, pool: ClassPool) -> Codec:
        """The codec to `pack` with, where the method's is ``codec``: a form that has its own says so here."""
        return codec


@runtime_checkable
class Parameterize(Protocol):
    """Makes a `Form`, initialised from the pool."""

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> Form: ...


def to_pixels(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Float[Tensor, "n c h w"]:
    """Network space -> pixels in [0, 1] (values outside stay outside)."""
    scale, shift = _columns(images, std), _columns(images, mean)
    return images * scale + shift


def to_network(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Float[Tensor, "n c h w"]:
    """Pixels in [0, 1] -> network space."""
    return (images - _columns(images, mean)) / _columns(images, std)


def _columns(images: Tensor, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=images.dtype, device=images.device).view(-1, 1, 1)


def encode(codec: Codec, images: Sequence[Tensor], pool: ClassPool) -> dict[str, Tensor]:
    """Images of each class in network space -> what the codec stores."""
    return codec.encode([to_pixels(x.detach().float(), pool.mean, pool.std).cpu() for x in images])


@dataclass(frozen=True)
class Pixels:
    """See `pixels`."""

    init: Init = "real"

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> Form:
        return PixelForm(initial_images(pool, images_per_class, self.init, random), pool.classes)


def pixels(init: Init = "real") -> Pixels:
    """The images themselves, in network space and unclamped; they start as real images or as standard normal noise."""
    _check_init(init)
    return Pixels(init)


class ImageForm(Form):
    """A form whose stored numbers are images, or make them; an image codec stores these.

    images: [classes * stored_per_class, c, h, w] in network space, with a graph to the stored numbers.
    """

    images: Tensor

    def expand(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, "n c h w"]:
        """Stored images, class-major -> the images trained on."""
        return images

    def decode(self) -> Float[Tensor, "n c h w"]:
        return self.expand(self.images)

    def pack(self, codec: Codec, pool: ClassPool) -> dict[str, Tensor]:
        return encode(codec, self.images.detach().split(self.stored_per_class), pool)

    def layout(self) -> dict[str, Any]:
        return {"name": "pixels"}


class PixelForm(ImageForm):
    """Images stored as they are."""

    by_class = True

    def __init__(self, images: Tensor, classes: int) -> None:
        super().__init__()
        self.images = nn.Parameter(images)
        self.classes = classes
        self.stored_per_class = self.per_class = len(images) // classes


@dataclass(frozen=True)
class Partitioned:
    """See `partitioned`."""

    factor: int = 2
    init: Init = "real"
    min_tile: int = 1

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> Form:
        if min(pool.shape[1:]) < self.factor * self.min_tile:
            return replace(self, factor=1, min_tile=1)(pool, images_per_class, random)
        tiles = images_per_class * self.factor**2
        draws = initial_images(pool, tiles, self.init, random).unflatten(
            0, (pool.classes, self.factor**2, images_per_class)
        )
        return PartitionedForm(_tile(draws, self.factor, pool.shape), pool.classes, self.factor)


def partitioned(factor: int = 2, init: Init = "real", *, min_tile: int = 1) -> Partitioned:
    """Partition and expansion: every stored image is ``factor`` x ``factor`` smaller ones.

    A stored image is cut into ``factor`` x ``factor`` tiles, each enlarged to the full size (bilinear), column by column of tiles
    (top left, bottom left, top right, bottom right for 2), tile-major: all images' first tiles, then all second ones. A side that
    ``factor`` does not divide gives tiles of the rounded-up size that overlap by less than a tile. Starts from real images, each
    reduced into a tile. Images whose tiles would have sides below ``min_tile`` pixels are stored whole.

    Reference: Zhao et al., "Improved Distribution Matching for Dataset Condensation", CVPR 2023, Sec. 4.1 (released code's order).
    """
    if factor < 1:
        raise ValueError(f"factor must be at least 1, got {factor}")
    _check_init(init)
    return Partitioned(factor, init, min_tile)


class PartitionedForm(PixelForm):
    """Images stored as they are, trained on as enlarged tiles."""

    def __init__(self, images: Tensor, classes: int, factor: int) -> None:
        super().__init__(images, classes)
        self.factor = factor
        self.per_class = self.stored_per_class * factor**2

    def expand(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, "n c h w"]:
        return torch.cat([expand_partition(x, self.factor) for x in images.split(self.stored_per_class)])

    def layout(self) -> dict[str, Any]:
        return {"name": "partitioned", "factor": self.factor}


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


def _tile(draws: Float[Tensor, "classes tiles n c h w"], factor: int, shape: Shape) -> Float[Tensor, "m c h w"]:
    classes, _, n = draws.shape[:3]
    images = draws.new_zeros(classes, n, *shape)
    rows, cols = _windows(shape[1], factor), _windows(shape[2], factor)
    for k, (col, row) in enumerate((col, row) for col in cols for row in rows):
        size = (row.stop - row.start, col.stop - col.start)
        small = F.interpolate(draws[:, k].flatten(0, 1), size=size, mode="bilinear", align_corners=False)
        images[:, :, :, row, col] = small.unflatten(0, (classes, n))
    return images.flatten(0, 1)


def initial_images(pool: ClassPool, n: int, init: Init, random: Random) -> Float[Tensor, "n c h w"]:
    if not isinstance(init, str):
        return init(pool, n, random)
    if init == "noise":
        size = (pool.classes * n, *pool.shape)
        return torch.randn(size, generator=random.device, device=pool.device)
    rows = torch.cat([pool.draw_rows(min(n, max(pool.counts)), random) for _ in range(-(-n // max(pool.counts)))], 1)
    return pool.rows(rows[:, :n].flatten()).clone()


def _check_init(init: Init) -> None:
    if not callable(init) and init not in ("real", "noise"):
        raise ValueError(f"init must be 'real', 'noise' or a function that gives images, got {init!r}")


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

"""Partition and expansion: several smaller images in the place of one."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.pool import ClassPool
from ddreplay.data.space import Shape
from ddreplay.parameterize.form import Form, Init, check_init, initial_images
from ddreplay.parameterize.pixels import PixelForm
from ddreplay.randomness import Random
from ddreplay.storage.decoders import Tiles, expand_partition, windows

__all__ = [
    "Partitioned",
]


@dataclass(frozen=True)
class Partitioned:
    """Partition and expansion: every stored image is ``factor`` x ``factor`` smaller ones.

    A stored image is cut into ``factor`` x ``factor`` tiles, each enlarged to the full size (bilinear), column by column of tiles
    (top left, bottom left, top right, bottom right for 2), tile-major: all images' first tiles, then all second ones. A side that
    ``factor`` does not divide gives tiles of the rounded-up size that overlap by less than a tile. Starts from real images, each
    reduced into a tile.

    Args:
        factor: tiles a side.
        init: where tiles start: ``"real"``, ``"noise"``, or what a function gives, such as ``RepresentativeImages()``.
        min_tile: images whose tiles would have sides below so many pixels are stored whole.
    Reference: Zhao et al., "Improved Distribution Matching for Dataset Condensation", CVPR 2023, Sec. 4.1 (released code's order).
    """

    factor: int = 2
    init: Init = "real"
    _: KW_ONLY
    min_tile: int = 1

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, got {self.factor}")
        check_init(self.init)

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> Form:
        if min(pool.shape[1:]) < self.factor * self.min_tile:
            return replace(self, factor=1, min_tile=1)(pool, images_per_class, random)
        tiles = images_per_class * self.factor**2
        draws = initial_images(pool, tiles, self.init, random).unflatten(
            0, (pool.classes, self.factor**2, images_per_class)
        )
        return PartitionedForm(_tile(draws, self.factor, pool.shape), pool.classes, self.factor)


class PartitionedForm(PixelForm):
    """Images stored as they are, trained on as enlarged tiles."""

    def __init__(self, images: Tensor, classes: int, factor: int) -> None:
        super().__init__(images, classes)
        self.factor = factor
        self.per_class = self.stored_per_class * factor**2

    def expand(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, "n c h w"]:
        return torch.cat([expand_partition(x, self.factor) for x in images.split(self.stored_per_class)])

    def decoder(self) -> Tiles:
        return Tiles(self.factor)


def _tile(draws: Float[Tensor, "classes tiles n c h w"], factor: int, shape: Shape) -> Float[Tensor, "m c h w"]:
    classes, _, n = draws.shape[:3]
    images = draws.new_zeros(classes, n, *shape)
    rows, cols = windows(shape[1], factor), windows(shape[2], factor)
    for k, (col, row) in enumerate((col, row) for col in cols for row in rows):
        size = (row.stop - row.start, col.stop - col.start)
        small = F.interpolate(draws[:, k].flatten(0, 1), size=size, mode="bilinear", align_corners=False)
        images[:, :, :, row, col] = small.unflatten(0, (classes, n))
    return images.flatten(0, 1)

"""Codecs that store each class as bytes of its own, one behind the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.space import Shape
from ddreplay.storage.codecs.sheets import check_images, check_keep, part, to_sheet, to_tensor, write

__all__ = ["Bodies", "pack_bodies", "unpack_bodies"]


def pack_bodies(bodies: Sequence[bytes]) -> dict[str, Tensor]:
    """uint8: ``sizes`` [classes, width], little-endian, as narrow as they can be, and ``data``."""
    width = max((-(-len(body).bit_length() // 8) for body in bodies), default=0)
    sizes = b"".join(len(body).to_bytes(width, "little") for body in bodies)
    return {"sizes": to_tensor(sizes).reshape(len(bodies), width), "data": to_tensor(b"".join(bodies))}


def unpack_bodies(stored: Mapping[str, Tensor], classes: int) -> list[bytes]:
    """The inverse of `pack_bodies`. Raises ValueError where stored tensors are damaged."""
    sizes, data = part(stored, "sizes"), part(stored, "data")
    if sizes.dtype != torch.uint8 or data.dtype != torch.uint8 or sizes.dim() != 2 or len(sizes) != classes:
        raise ValueError(
            f"stored sizes must be uint8 [{classes}, width] and data uint8, got {sizes.dtype} {sizes.shape}"
        )
    lengths = [int.from_bytes(bytes(row.tolist()), "little") for row in sizes]
    if sum(lengths) != data.numel():
        raise ValueError(f"stored data is damaged: {data.numel()} bytes where the sizes add up to {sum(lengths)}")
    ends = np.cumsum([0, *lengths]).tolist()
    whole = data.numpy().tobytes()
    return [whole[a:b] for a, b in pairwise(ends)]


class Bodies(ABC):
    """A codec whose classes do not know of each other. Subclasses say what one of them becomes."""

    extension: ClassVar[str] = "png"

    @abstractmethod
    def check(self, shape: Shape) -> None:
        """Raises ValueError where images of this shape cannot be stored."""

    @abstractmethod
    def write_class(self, images: Float[Tensor, "n c h w"]) -> bytes:
        """The bytes of one class, of one image at least; pixels in float64 on the CPU."""

    @abstractmethod
    def read_class(self, body: bytes, count: int, shape: Shape) -> Float[Tensor, "n c h w"]:
        """The images of one class, of one image at least. Raises ValueError where they are damaged."""

    def encode(self, classes: Sequence[Float[Tensor, "_ c h w"]]) -> dict[str, Tensor]:
        check_images(classes)
        for images in classes[:1]:
            _, channels, height, width = images.shape
            self.check((channels, height, width))
        return pack_bodies([self._written(images) for images in classes])

    def restored(
        self, stored: Mapping[str, Tensor], counts: Sequence[int], position: int, images: Float[Tensor, "_ c h w"]
    ) -> dict[str, Tensor]:
        """What is stored, with one class's images written by this codec."""
        bodies = unpack_bodies(stored, len(counts))
        bodies[position] = self._written(images)
        return pack_bodies(bodies)

    def decode(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape) -> list[Tensor]:
        bodies = unpack_bodies(stored, len(counts))
        self.check(shape)
        return [
            self.read_class(body, count, shape) if count else torch.empty(0, *shape)
            for body, count in zip(bodies, counts, strict=True)
        ]

    def select(
        self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, keep: Sequence[int]
    ) -> dict[str, Tensor]:
        check_keep(keep, len(counts))
        bodies = unpack_bodies(stored, len(counts))
        return pack_bodies([bodies[k] for k in keep])

    def picture(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, position: int) -> bytes:
        """A PNG; channels one below the other, where there are neither one nor three."""
        check_keep([position], len(counts))
        if counts[position] == 0:
            raise ValueError(f"the class at position {position} has no images, so there is no picture of it")
        (images,) = self.decode(self.select(stored, counts, shape, [position]), [counts[position]], shape)
        return write(to_sheet(images if shape[0] in (1, 3) else images.reshape(-1, 1, *shape[1:]), 1, 65500), "PNG")

    def _written(self, images: Float[Tensor, "_ c h w"]) -> bytes:
        return self.write_class(images.detach().cpu().double()) if len(images) else b""

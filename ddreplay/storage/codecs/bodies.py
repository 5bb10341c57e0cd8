"""Classes stored each as bytes of their own, one behind the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ddreplay.storage.codecs.sheets import part, to_tensor

__all__ = ["pack_bodies", "unpack_bodies"]


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

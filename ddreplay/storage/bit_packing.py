"""Small whole numbers in a few bits each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

__all__ = ["pack_bits", "unpack_bits"]


def pack_bits(codes: UInt8[Tensor, "*shape"], n: int) -> UInt8[Tensor, " bytes"]:
    """Numbers below 2 ** ``n`` in ``n`` bits each, without gaps."""
    single = np.unpackbits(codes.numpy().reshape(-1, 1), axis=1, count=8)[:, 8 - n :]
    return torch.from_numpy(np.packbits(single))


def unpack_bits(packed: UInt8[Tensor, " bytes"], shape: Sequence[int], n: int) -> UInt8[Tensor, "*shape"]:
    """What `pack_bits` packed. Raises ValueError where the number of bytes is another."""
    size = math.prod(shape)
    if packed.dim() != 1 or len(packed) != -(-size * n // 8):
        raise ValueError(f"stored values must be {-(-size * n // 8)} bytes, got {tuple(packed.shape)}")
    single = np.unpackbits(packed.numpy(), count=size * n).reshape(size, n)
    wide = np.zeros((size, 8), dtype=np.uint8)
    wide[:, 8 - n :] = single
    return torch.from_numpy(np.packbits(wide, axis=1)).view(*shape)

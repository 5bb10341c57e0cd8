"""A codec of selected frequencies: quantised coefficients of the cosine transform of whole images, entropy-coded."""

from __future__ import annotations

import bz2
import lzma
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.space import Shape
from ddreplay.storage.codecs.bodies import Bodies

__all__ = ["colours", "dct", "from_frequencies", "to_frequencies"]

_LZMA: list[dict[str, Any]] = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "lp": 0, "pb": 0, "dict_size": 1 << 20}]


_CODERS: tuple[Callable[[bytes], bytes], ...] = (
    lambda raw: raw,
    lambda raw: _deflate(raw),
    lambda raw: lzma.compress(raw, lzma.FORMAT_RAW, filters=_LZMA),
    lambda raw: bz2.compress(raw, 9),
)

_AT_ONCE = 2**22  # numbers that are transformed at once
_MAX_SIDE = 2048  # pixels: the transform of a side is a square matrix


def _inflate(coder: int, coded: bytes, bound: int) -> bytes:
    """What a coder was given, at most ``bound`` bytes of it.

    Raises:
        ValueError: when there is more, or the data end too early or too late.
    """
    if coder == 0:
        return coded
    if coder == 1:
        deflated = zlib.decompressobj(-15)
        raw, whole = deflated.decompress(coded, bound + 1), deflated.eof and not deflated.unused_data
    elif coder == 2:
        # a raw stream of LZMA2 says where it ends
        inflate = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_LZMA)
        raw = inflate.decompress(coded, bound + 1)
        whole = inflate.eof and not inflate.unused_data
    elif coder == 3:
        unpack = bz2.BZ2Decompressor()
        raw = unpack.decompress(coded, bound + 1)
        whole = unpack.eof and not unpack.unused_data
    else:
        raise ValueError(f"there is no coder {coder}")
    if len(raw) > bound or not whole:
        raise ValueError(f"the coded data end too early or too late, or hold more than {bound} bytes")
    return raw


def _deflate(raw: bytes) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return coder.compress(raw) + coder.flush()


@lru_cache(maxsize=32)
def _basis(size: int) -> Float[Tensor, "size size"]:
    """Orthonormal cosine transform of type 2; a row for each frequency."""
    u, x = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)[None]
    scale = torch.where(u == 0, 1.0, 2.0).double().div(size).sqrt()
    basis: Tensor = scale * torch.cos((2 * x + 1) * u * math.pi / (2 * size))
    return basis


def to_frequencies(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Orthonormal cosine transform of every channel."""
    rows, columns = (_basis(size).to(images) for size in images.shape[2:])
    found: Tensor = rows @ images @ columns.T
    return found


def from_frequencies(coefficients: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """The inverse of `to_frequencies`."""
    rows, columns = (_basis(size).to(coefficients) for size in coefficients.shape[2:])
    images: Tensor = rows.T @ coefficients @ columns
    return images


def colours(channels: int) -> Float[Tensor, "channels channels"]:
    """Orthonormal: the mean of red, green and blue and two differences; other images keep their channels."""
    if channels != 3:
        return torch.eye(channels, dtype=torch.float64)
    mixed = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]], dtype=torch.float64)
    colours: Tensor = mixed / mixed.norm(dim=1, keepdim=True)
    return colours


@dataclass(frozen=True)
class dct(Bodies):
    """The strongest frequencies of every class, the same for all its images and channels; pixels need not lie in 0..1.

    Stored, all uint8: ``sizes`` [classes, width], little-endian, and ``data``: for each class the coder's number and what it made of
    the kept frequencies (a bit each, low ones first) and the quantised coefficients.

    Args:
        coefficients: kept frequencies of an image; all of them where it has no more.
        step: of the quantiser, in grey levels of 255.
    Reference: the selection is that of FreD (Shin et al., "Frequency Domain-based Dataset Distillation", NeurIPS 2023), which stores
        float32; quantiser and entropy coder (the smallest of deflate, LZMA and bzip2) are ours.
    """

    coefficients: int = 64
    step: float = 16.0

    name: ClassVar[str] = "dct"
    lossy: ClassVar[bool] = True
    bounded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if type(self.coefficients) is not int or self.coefficients < 1 or not 0 < self.step < math.inf:
            raise ValueError(
                f"coefficients (a whole number) and step of dct must be positive and finite, got {self.coefficients} and {self.step}"
            )

    def spec(self) -> dict[str, Any]:
        return {"name": self.name, "coefficients": self.coefficients, "step": self.step}

    def qualities(self) -> tuple[dct, ...]:
        return tuple(replace(self, step=2.0 ** (8 - k / 4)) for k in range(33))

    def check(self, shape: Shape) -> None:
        if max(shape[1:]) > _MAX_SIDE:
            raise ValueError(
                f"codec dct takes images of at most {_MAX_SIDE} pixels a side, got {shape[1]}x{shape[2]}; use codec jpeg"
            )

    def write_class(self, images: Float[Tensor, "n c h w"]) -> bytes:
        """Frequencies are kept by their energy over the images of the class; the mean is always kept."""
        mixed = torch.einsum("kc,nchw->nkhw", colours(images.shape[1]), images - 0.5)
        found = to_frequencies(mixed).flatten(2)
        order = _low_first(*images.shape[2:])
        energy = found.square().mean((0, 1))
        energy[0] = float("inf")
        kept = energy.topk(min(self.coefficients, energy.numel())).indices
        mask = torch.zeros(energy.numel(), dtype=torch.bool)
        mask[kept] = True
        mask = mask[order]
        values = (found[:, :, order][:, :, mask] * 255 / self.step).round().clamp(-32768, 32767).long()
        # frequency by frequency, channel by channel: neighbours in the stream have alike spreads
        flat = values.permute(2, 1, 0).flatten()
        unsigned = torch.where(flat < 0, -2 * flat - 1, 2 * flat).numpy().astype("<u2")
        low, high = (unsigned & 255).astype(np.uint8), (unsigned >> 8).astype(np.uint8)
        raw = np.packbits(mask.numpy()).tobytes() + low.tobytes() + high.tobytes()
        return min((bytes([k]) + code(raw) for k, code in enumerate(_CODERS)), key=len)

    def read_class(self, body: bytes, count: int, shape: Shape) -> Float[Tensor, "n c h w"]:
        c, h, w = shape
        try:
            width = -(-h * w // 8)
            raw = np.frombuffer(_inflate(body[0], body[1:], width + 2 * count * c * h * w), dtype=np.uint8)
            mask = torch.from_numpy(np.unpackbits(raw[:width], count=h * w).astype(bool))
            codes = raw[width:].reshape(2, int(mask.sum()), c, count)
        except (zlib.error, lzma.LZMAError, ValueError, IndexError, OSError, EOFError) as error:
            raise ValueError(f"stored dct data is damaged: {error}") from error
        at_once = max(1, _AT_ONCE // (c * h * w))
        blocks = [self._images(codes[..., k : k + at_once], mask, shape) for k in range(0, count, at_once)]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)

    def _images(self, codes: np.ndarray, mask: Tensor, shape: Shape) -> Float[Tensor, "n c h w"]:
        c, h, w = shape
        low, high = codes.astype(np.int64)
        unsigned = torch.from_numpy(low + 256 * high)
        values = torch.where(unsigned % 2 == 1, -(unsigned + 1) // 2, unsigned // 2).permute(2, 1, 0).double()
        found = torch.zeros(len(values), c, h * w, dtype=torch.float64)
        found[:, :, _low_first(h, w)[mask]] = values * self.step / 255
        mixed = from_frequencies(found.unflatten(2, (h, w)))
        return torch.einsum("kc,nkhw->nchw", colours(c), mixed).add(0.5).float()


def _low_first(height: int, width: int) -> Tensor:
    """Positions of an image's frequencies, from low to high."""
    return (torch.arange(height)[:, None] / height + torch.arange(width)[None] / width).flatten().argsort(stable=True)

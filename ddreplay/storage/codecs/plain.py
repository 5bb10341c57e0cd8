"""Codecs that store values: as they are, or quantised uniformly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.space import Shape
from ddreplay.storage.bit_packing import pack_bits, unpack_bits
from ddreplay.storage.codecs.codec import Codec
from ddreplay.storage.codecs.sheets import (
    check_images,
    check_keep,
    check_range,
    part,
    to_sheet,
    write,
)

__all__ = ["bits", "float16", "float32", "uint8"]


def _shape(classes: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(classes[0].shape[1:]) if classes else (1, 1, 1)


def _stack(classes: Sequence[Tensor]) -> Float[Tensor, "n c h w"]:
    check_images(classes)
    flat = [images.detach().cpu().float() for images in classes]
    return torch.cat(flat) if flat else torch.empty(0, 1, 1, 1)


def _per_class(values: Tensor, counts: Sequence[int], shape: Shape) -> list[Tensor]:
    if values.shape != (sum(counts), *shape):
        raise ValueError(f"stored values must be {(sum(counts), *shape)} for these counts, got {tuple(values.shape)}")
    return list(torch.split(values, list(counts)))


def _typed(stored: Mapping[str, Tensor], key: str, dtype: torch.dtype) -> Tensor:
    tensor = part(stored, key)
    if tensor.dtype != dtype:
        raise ValueError(f"stored tensor {key!r} must be {dtype}, got {tensor.dtype}")
    return tensor


def _keep(values: Tensor, counts: Sequence[int], shape: Shape, keep: Sequence[int]) -> Tensor:
    check_keep(keep, len(counts))
    groups = _per_class(values, counts, shape)
    return torch.cat([groups[i] for i in keep]) if keep else values[:0].clone()


def _png(codec: Codec, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, position: int) -> bytes:
    check_keep([position], len(counts))
    if counts[position] == 0:
        raise ValueError(f"the class at position {position} has no images, so there is no picture of it")
    images = codec.decode(stored, counts, shape)[position]
    if shape[0] not in (1, 3):  # channels side by side in grey
        images = images.reshape(-1, 1, *shape[1:])
    return write(to_sheet(images, 1, 65500), "PNG")


@dataclass(frozen=True)
class float32:
    """The values as they are: 4 bytes each."""

    name: ClassVar[str] = "float32"
    lossy: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    extension: ClassVar[str] = "png"

    def spec(self) -> dict[str, Any]:
        return {"name": self.name}

    def qualities(self) -> tuple[float32, ...]:
        return (self,)

    def encode(self, classes: Sequence[Float[Tensor, "_ c h w"]]) -> dict[str, Tensor]:
        return {"values": _stack(classes)}

    def decode(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape) -> list[Tensor]:
        return _per_class(_typed(stored, "values", torch.float32).clone(), counts, shape)

    def select(
        self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, keep: Sequence[int]
    ) -> dict[str, Tensor]:
        return {"values": _keep(_typed(stored, "values", torch.float32), counts, shape, keep)}

    def picture(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, position: int) -> bytes:
        return _png(self, stored, counts, shape, position)


@dataclass(frozen=True)
class float16:
    """The values in half precision: 2 bytes each, 11 bits of mantissa."""

    name: ClassVar[str] = "float16"
    lossy: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    extension: ClassVar[str] = "png"

    def spec(self) -> dict[str, Any]:
        return {"name": self.name}

    def qualities(self) -> tuple[float16, ...]:
        return (self,)

    def encode(self, classes: Sequence[Float[Tensor, "_ c h w"]]) -> dict[str, Tensor]:
        values = _stack(classes)
        largest = float(values.abs().max()) if values.numel() else 0.0
        if largest > torch.finfo(torch.float16).max:
            raise ValueError(f"codec float16 takes values up to 65504, got {largest:g}; use codec uint8 or float32")
        return {"values": values.half()}

    def decode(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape) -> list[Tensor]:
        return _per_class(_typed(stored, "values", torch.float16).float(), counts, shape)

    def select(
        self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, keep: Sequence[int]
    ) -> dict[str, Tensor]:
        return {"values": _keep(_typed(stored, "values", torch.float16), counts, shape, keep)}

    def picture(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, position: int) -> bytes:
        return _png(self, stored, counts, shape, position)


def _range(values: Float[Tensor, "n c h w"]) -> Float[Tensor, "2 c"]:
    if not len(values):
        return torch.stack([values.new_zeros(values.shape[1]), values.new_ones(values.shape[1])])
    return torch.stack([values.amin((0, 2, 3)), values.amax((0, 2, 3))])


def _quantise(values: Tensor, bounds: Float[Tensor, "2 c"], levels: int) -> Tensor:
    low, high = bounds.double().view(2, -1, 1, 1)
    span = torch.where(high > low, high - low, 1.0)
    codes: Tensor = ((values.double() - low) / span * levels).round().clamp(0, levels).to(torch.uint8)
    return codes


def _dequantise(codes: Tensor, bounds: Tensor, levels: int) -> Tensor:
    if bounds.shape != (2, codes.shape[1]) or not torch.isfinite(bounds).all():
        raise ValueError(f"stored range must be finite [2, {codes.shape[1]}], got {bounds.tolist()}")
    low, high = bounds.double().view(2, -1, 1, 1)
    values: Tensor = (low + (high - low) * (codes.double() / levels)).float()
    return values


@dataclass(frozen=True)
class uint8:
    """One byte a value over a range for each channel of the set.

    Where all values lie within 0..1 the range is 0..1, so that images which were 8 bits come back exactly.
    """

    name: ClassVar[str] = "uint8"
    lossy: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    extension: ClassVar[str] = "png"

    def spec(self) -> dict[str, Any]:
        return {"name": self.name}

    def qualities(self) -> tuple[uint8, ...]:
        return (self,)

    def encode(self, classes: Sequence[Float[Tensor, "_ c h w"]]) -> dict[str, Tensor]:
        values = _stack(classes)
        bounds = _range(values)
        if bounds[0].min() >= 0 and bounds[1].max() <= 1:
            bounds = torch.stack([torch.zeros_like(bounds[0]), torch.ones_like(bounds[1])])
        return {"values": _quantise(values, bounds, 255), "range": bounds}

    def decode(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape) -> list[Tensor]:
        codes = torch.cat(_per_class(_typed(stored, "values", torch.uint8), counts, shape) or [torch.empty(0, *shape)])
        return _per_class(_dequantise(codes, _typed(stored, "range", torch.float32), 255), counts, shape)

    def select(
        self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, keep: Sequence[int]
    ) -> dict[str, Tensor]:
        kept = _keep(_typed(stored, "values", torch.uint8), counts, shape, keep)
        return {"values": kept, "range": _typed(stored, "range", torch.float32).clone()}

    def picture(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, position: int) -> bytes:
        return _png(self, stored, counts, shape, position)


@dataclass(frozen=True)
class bits:
    """``n`` bits a value, packed without gaps, over the range of each channel of the set.

    Args:
        n: 1 to 7.
    """

    n: int = 4

    name: ClassVar[str] = "bits"
    lossy: ClassVar[bool] = True
    bounded: ClassVar[bool] = False
    extension: ClassVar[str] = "png"

    def __post_init__(self) -> None:
        check_range("bits", "n", self.n, 1, 7)

    def spec(self) -> dict[str, Any]:
        return {"name": self.name, "n": self.n}

    def qualities(self) -> tuple[bits, ...]:
        return tuple(bits(n) for n in range(1, 8))

    def encode(self, classes: Sequence[Float[Tensor, "_ c h w"]]) -> dict[str, Tensor]:
        values = _stack(classes)
        bounds = _range(values)
        return {"values": pack_bits(_quantise(values, bounds, 2**self.n - 1), self.n), "range": bounds}

    def decode(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape) -> list[Tensor]:
        codes = unpack_bits(_typed(stored, "values", torch.uint8), (sum(counts), *shape), self.n)
        return _per_class(_dequantise(codes, _typed(stored, "range", torch.float32), 2**self.n - 1), counts, shape)

    def select(
        self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, keep: Sequence[int]
    ) -> dict[str, Tensor]:
        codes = unpack_bits(_typed(stored, "values", torch.uint8), (sum(counts), *shape), self.n)
        kept = _keep(codes, counts, shape, keep)
        return {"values": pack_bits(kept, self.n), "range": _typed(stored, "range", torch.float32).clone()}

    def picture(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, position: int) -> bytes:
        return _png(self, stored, counts, shape, position)

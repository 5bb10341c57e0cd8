"""A codec for small pictures at few bytes each: cosine transform, context-coded. The model: ``coefficient_model.py``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.space import Shape
from ddreplay.storage.codecs.bodies import Bodies
from ddreplay.storage.codecs.coefficient_model import decode_blocks, encode_blocks
from ddreplay.storage.codecs.dct import colours, from_frequencies, to_frequencies

__all__ = ["thumb"]

_SIDE = 32  # pixels of a block at most
_SIDES, _CHANNELS = 2048, 16  # of an image
_PER_BYTE = 4  # blocks at most, so that a few bytes cannot ask for much memory and time
_COARSEST, _OCTAVES, _CODES = 512.0, 8.0, 200


@dataclass(frozen=True)
class thumb(Bodies):
    """The fewest bytes for images of about 32 pixels at the low qualities that small budgets ask for.

    Blocks of at most 32 x 32 pixels (whole images, where they are no larger) are cosine-transformed, quantised with one step for all
    frequencies, each coefficient where it is worth its bits, and range-coded: probabilities follow neighbouring frequencies, the class's
    other images and the channels before. There is no header but two bytes for each class. Pixels outside 0..1 are cut off.

    On CIFAR-10 at 250 B to 4 kB a class and 30 B an image the mean square error is 14 to 7 % below AVIF's; at 130 B an image AVIF is ahead,
    and so it is by far on drawings such as MNIST (docs/results.md: ``python -m benchmarks codecs``).

    Stored, all uint8: ``sizes`` [classes, width], little-endian, and ``data``: for each class the quantiser's step, how many diagonals
    of frequencies there are, and the coded coefficients.

    Args:
        quality: 0 to 100, in halves: the quantiser's step is 512 * 2^(-0.08 quality) grey levels of an orthonormal transform.
        price: of a bit, in squares of that step; coefficients that are not worth it are made smaller. Of 0, 0.06, 0.1 and 0.14 the third
            left the least error at equal bytes (two classes of CIFAR-10's training split); at high rates it would be 2 ln 2 / 12 = 0.116.
    Reference: ours; rate-distortion optimised quantisation and context modelling as in video codecs (e.g. Marpe et al., "Context-based
        adaptive binary arithmetic coding", 2003).
    Example:
        >>> import torch
        >>> images = [torch.rand(4, 3, 32, 32), torch.rand(2, 3, 32, 32)]
        >>> [tuple(x.shape) for x in thumb().decode(thumb().encode(images), [4, 2], (3, 32, 32))]
        [(4, 3, 32, 32), (2, 3, 32, 32)]
    """

    quality: float = 30.0
    price: float = 0.1

    name: ClassVar[str] = "thumb"
    lossy: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    reserve: ClassVar[float] = 0.13
    """The share of the family that is left for images which have to fit: of them less comes back than another image would be worth."""

    def __post_init__(self) -> None:
        if not _within(self.quality, 100.0) or self.quality * 2 % 1:
            raise ValueError(f"quality of thumb must lie in 0..100 in steps of 0.5, got {self.quality!r}")
        if not _within(self.price, 1.0):
            raise ValueError(f"price of thumb must lie in 0..1, got {self.price!r}")

    @property
    def step(self) -> float:
        """Of the quantiser, in grey levels of 255."""
        return _step(self._code)

    @property
    def _code(self) -> int:
        return int(2 * self.quality)

    def spec(self) -> dict[str, Any]:
        return {"name": self.name, "quality": self.quality, "price": self.price}

    def qualities(self) -> tuple[thumb, ...]:
        return tuple(replace(self, quality=code / 2) for code in range(_CODES + 1))

    def between(self) -> tuple[thumb, ...]:
        """The next quality, then this one with bits a little cheaper: classes need not have the same."""
        up = (replace(self, quality=self.quality + 0.5),) if self.quality < 100 else ()
        return (*up, *(replace(self, price=self.price * times) for times in (0.93, 0.96, 0.98, 0.99)))

    def check(self, shape: Shape) -> None:
        if max(shape[1:]) > _SIDES or shape[0] > _CHANNELS:
            raise ValueError(
                f"codec thumb takes at most {_CHANNELS} channels and {_SIDES} pixels a side, got "
                f"{shape[0]}x{shape[1]}x{shape[2]}; use codec jpeg"
            )

    def write_class(self, images: Float[Tensor, "n c h w"]) -> bytes:
        mixed = torch.einsum("kc,nchw->nkhw", colours(images.shape[1]), images.clamp(0, 1) - 0.5)
        blocks = _cut(mixed)
        diagonals, data = encode_blocks(to_frequencies(blocks).numpy() * (255 / self.step), self.price)
        return bytes([self._code, diagonals]) + data.ljust(len(blocks) // _PER_BYTE, b"\0")

    def read_class(self, body: bytes, count: int, shape: Shape) -> Float[Tensor, "n c h w"]:
        channels, height, width = shape
        (down, across), (high, wide) = _grid(height, width), _block(height, width)
        blocks = count * down * across
        if len(body) < 2 or body[0] > _CODES or body[1] > high + wide - 1 or blocks >= (len(body) - 1) * _PER_BYTE:
            raise ValueError(
                f"stored thumb data is damaged: {len(body)} bytes for {count} images of {height}x{width} pixels"
            )
        try:
            found = decode_blocks(body[1], body[2:].rstrip(b"\0"), (blocks, channels, high, wide))
        except ValueError as error:
            raise ValueError(f"stored thumb data is damaged: {error}") from error
        mixed = from_frequencies(torch.from_numpy(found).double() * (_step(body[0]) / 255))
        whole = mixed.view(count, down, across, channels, high, wide).permute(0, 3, 1, 4, 2, 5)
        images = whole.reshape(count, channels, down * high, across * wide)[:, :, :height, :width]
        return torch.einsum("kc,nkhw->nchw", colours(channels), images).add(0.5).clamp(0, 1).float()


def _within(value: Any, highest: float) -> bool:
    """A number from 0 on, as a file may or may not have it."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= highest


def _step(code: int) -> float:
    return _COARSEST * math.pow(2.0, -_OCTAVES * code / _CODES)


def _grid(height: int, width: int) -> tuple[int, int]:
    """Blocks down and across an image."""
    return -(-height // _SIDE), -(-width // _SIDE)


def _block(height: int, width: int) -> tuple[int, int]:
    """Pixels of a block, down and across."""
    down, across = _grid(height, width)
    return -(-height // down), -(-width // across)


def _cut(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "m c bh bw"]:
    """Images as blocks, row by row; where they do not come out even, the last pixels are repeated."""
    n, channels, height, width = images.shape
    (down, across), (high, wide) = _grid(height, width), _block(height, width)
    rows = torch.arange(down * high).clamp(max=height - 1)
    columns = torch.arange(across * wide).clamp(max=width - 1)
    padded = images[:, :, rows][:, :, :, columns]
    return (
        padded.view(n, channels, down, high, across, wide).permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, high, wide)
    )

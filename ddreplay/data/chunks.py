"""Images in pieces: how many pass a network at once, and real ones that are fetched a piece at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ddreplay.data.pool import ClassPool
from ddreplay.data.space import Shape

__all__ = ["DrawnImages", "Images", "by_chunks", "forward_chunk", "free_bytes", "in_memory", "when_short"]

log = logging.getLogger(__name__)

Found = TypeVar("Found")

CACHE_PIXELS = 32768
"""In one forward on a CPU (32 images of 32x32): maps that stay in the cache beat one large batch."""
PIXEL_BYTES = 2048
"""What a pixel takes on an accelerator while gradients are computed, measured on a ConvNet-3-128."""
GRAPHS = 8
"""Chunks whose graph may be held at once (`ddreplay.objectives.side.WHOLE`)."""
SHARE = 0.25
"""Of the free memory, for those: what deeper networks and second derivatives take more fits into the rest."""
_RELEASES: list[Callable[[], bool]] = []


@runtime_checkable
class Images(Protocol):
    """Images [n, c, h, w] that can be taken piece by piece; a tensor is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class DrawnImages:
    """Real images that were drawn and are not fetched yet: a piece is gathered from the pool and normalised when it is asked for.

    rows: of the pool.
    """

    pool: ClassPool
    rows: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | Tensor, /) -> Float[Tensor, "m c h w"]:
        return self.pool.rows(self.rows[index])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, channels, height, width), as a tensor's."""
        return (len(self), *self.pool.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The type that a pool normalises to."""
        return torch.float32

    @property
    def device(self) -> torch.device:
        return self.pool.device


def forward_chunk(shape: Shape, device: torch.device) -> int:
    """Images of this shape (channels, height, width) in one forward on this device.

    On a CPU 8 to 128, as many as stay in the cache, measured on 8x8 to 32x32 images and widths 32 to 128. On an accelerator 64 to
    4,096, a power of two, so that a quarter of the free memory holds the graph of `GRAPHS` chunks of a ConvNet-3-128: the same for the
    same device, as long as other programs leave about as much of it free.
    """
    pixels = shape[1] * shape[2]
    if device.type == "cpu":
        return min(128, max(8, CACHE_PIXELS // pixels))
    fitting = int(free_bytes(device) * SHARE / (GRAPHS * PIXEL_BYTES * pixels))
    return min(4096, max(64, 1 << (fitting.bit_length() - 1))) if fitting else 64


def free_bytes(device: torch.device) -> int:
    """Memory of an accelerator that is free now, or only cached by this process; 4 GiB where it cannot be asked."""
    if device.type != "cuda":
        return 2**32
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def in_memory(attempt: Callable[[int], Found], chunk: int, device: torch.device) -> tuple[Found, int]:
    """What an attempt gives with so many images at once, or with half as many as often as an accelerator is out of memory.

    Args:
        attempt: takes the number of images at once, and can be made again.
    Returns:
        What it gave, and with how many images at once.
    Raises:
        torch.OutOfMemoryError: when not even one image at once fits.
    """
    while True:
        try:
            return attempt(chunk), chunk
        except torch.OutOfMemoryError as error:
            failed = error.with_traceback(None)  # which holds on to what was computed
        if any(free() for free in _RELEASES):
            continue
        if chunk == 1:
            raise failed
        log.warning("out of memory with %d images at once: going on with half as many", chunk)
        chunk //= 2
        if device.type == "cuda":
            torch.cuda.empty_cache()


def when_short(free: Callable[[], bool]) -> None:
    """``free`` is called whenever an accelerator is out of memory, and says whether it let anything go: then as much is tried again."""
    _RELEASES.append(free)


def by_chunks(see: Callable[[Tensor], Tensor], rows: Int64[Tensor, " n"], chunk: int) -> Float[Tensor, "n ..."]:
    """What is made of every row, in order, ``chunk`` rows at a time, or fewer where an accelerator is out of memory.

    Args:
        see: from rows, int64 [m], to a value of each, float [m, ...]; without gradients.
    Raises:
        torch.OutOfMemoryError: when not even one row at once fits.
    """
    return in_memory(lambda size: torch.cat([see(part) for part in rows.split(size)]), chunk, rows.device)[0]

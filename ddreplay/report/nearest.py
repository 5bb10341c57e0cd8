"""The nearest real image beside each synthetic one: a look at what of the real data can be seen in a condensed set."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ddreplay.data.pool import ClassPool
from ddreplay.data.space import to_pixels

__all__ = ["Nearest", "nearest_real", "real_spacing"]

_LEVELS = 255.0
_ROWS = 2048  # real images that are looked at at once


@dataclass(frozen=True)
class Nearest:
    """For every image the row of the nearest real one in its pool, and how far it is: root mean square over pixels, of 255 levels."""

    rows: Int64[Tensor, " n"]
    distances: Float[Tensor, " n"]


def nearest_real(pixels: Float[Tensor, "n c h w"], pool: ClassPool, *, but_itself: bool = False) -> Nearest:
    """Of a pool's images, whatever their class, the one nearest to each image in plain pixels, both cut to 0..1 as they are seen.

    Args:
        but_itself: leave out images at distance 0 (where the images are of the pool themselves).
    """
    asked = pixels.clamp(0, 1).flatten(1).to(pool.device)
    best = asked.new_full((len(asked),), torch.inf)
    rows = torch.zeros(len(asked), dtype=torch.int64, device=pool.device)
    for part in torch.arange(len(pool), device=pool.device).split(_ROWS):
        real = to_pixels(pool.rows(part), pool.mean, pool.std).clamp(0, 1).flatten(1)
        # the plain difference: the expanded square is off by more than near copies differ
        apart = torch.cdist(asked, real, compute_mode="donot_use_mm_for_euclid_dist")
        if but_itself:
            apart[apart < 1e-4] = torch.inf
        nearer = apart.min(1)
        better = nearer.values < best
        best, rows = torch.where(better, nearer.values, best), torch.where(better, part[nearer.indices], rows)
    return Nearest(rows.cpu(), (best * _LEVELS / asked.shape[1] ** 0.5).cpu())


def real_spacing(pool: ClassPool, *, images: int = 300) -> Float[Tensor, " images"]:
    """How far real images, evenly taken from a pool, are from their nearest other one, ascending, in levels of 0 to 255."""
    rows = torch.linspace(0, len(pool) - 1, min(images, len(pool)), device=pool.device).long().unique()
    found = nearest_real(to_pixels(pool.rows(rows), pool.mean, pool.std), pool, but_itself=True).distances
    return found[torch.isfinite(found)].sort().values

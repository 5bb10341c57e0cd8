"""Real images at the bytes of a condensed set: what it has to beat."""

from __future__ import annotations

from dataclasses import replace

from ddreplay.backbones import Net
from ddreplay.condense.condenser import OnProgress
from ddreplay.condense.image_count import AtQuality
from ddreplay.data.pool import ClassPool
from ddreplay.methods import selections
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import uint8
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["BASELINES", "baseline"]

BASELINES = ("random", "herding")


def baseline(
    condensed: CondensedSet,
    pool: ClassPool,
    name: str,
    *,
    net: Net | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> CondensedSet:
    """Real images of a pool that take no more bytes than a condensed set, everything counted.

    They are stored as pictures where the set's images are (JPEG, WebP, AVIF), as many as fit at a low quality; else as uint8, which
    loses nothing, as many as fit.

    Args:
        name: one of `BASELINES`.
        net: the network that herding ranks images with; ``None``: the ConvNet of the papers.
        on_progress: is told how far the choice is.
    Raises:
        ValueError: for another name.
        BudgetTooSmall: where not even one real image of every class fits.
    """
    if name not in BASELINES:
        raise ValueError(f"name must be one of {', '.join(BASELINES)}, got {name!r}")
    own = condensed.parts[0].codec
    codec = own if own.lossy and own.bounded else uint8()
    made = selections.random(codec=codec) if name == "random" else selections.herding(net, codec=codec)
    return replace(made, choose=AtQuality())(
        pool, Budget.total_bytes(condensed.nbytes), seed=seed, on_progress=on_progress
    )

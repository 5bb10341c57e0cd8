"""The one loop: images descend an objective under a stream of networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from ddreplay.data.pool import ClassPool
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["Condenser", "OnStep"]

OnStep = Callable[[int, Tensor], None]


"""Called after every image step with the number of steps done and the loss (a detached scalar, still on the device)."""


@runtime_checkable
class Condenser(Protocol):
    """A pool and one budget -> a condensed set; coresets and distillers alike.

    The budget is a number of stored images of every class, or the bytes of the whole set (`CondensedSet.nbytes`), in all or divided
    by the number of classes.
    """

    def __call__(
        self,
        pool: ClassPool,
        images_per_class: int | None = None,
        *,
        bytes_per_class: int | float | None = None,
        max_bytes: int | None = None,
        seed: int = 0,
    ) -> CondensedSet: ...

"""The replay memory, without any framework in it: a condensed set that grows with the stream."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddreplay.condense.condenser import Condenser
from ddreplay.data.pool import Batch, ClassPool, concatenate
from ddreplay.randomness import Random
from ddreplay.storage.budget import check_budget, fit
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["CondensedMemory"]


class CondensedMemory:
    """A fixed budget per class, filled by a condenser at the end of every experience.

    Only the pool given to `update` and the memory itself are ever looked at: no past real data, no future classes.

    Args:
        condenser: a distiller or a coreset.
        images_per_class: stored images of every class. Give this or one of the budgets in bytes.
        bytes_per_class: of everything stored, divided by the number of classes; never exceeded.
        max_bytes: of everything stored, shared by the classes seen so far: old ones shrink as new ones come.
        seed: update number k condenses with its own seed derived from this one.
    Attributes:
        condensed: everything stored, as one set.
        seconds: wall time of each update so far.
    """

    def __init__(
        self,
        condenser: Condenser,
        *,
        images_per_class: int | None = None,
        bytes_per_class: int | float | None = None,
        max_bytes: int | None = None,
        seed: int = 0,
    ) -> None:
        check_budget(images_per_class, bytes_per_class, max_bytes)
        self.condenser, self.images_per_class, self.seed = condenser, images_per_class, seed
        self.bytes_per_class, self.max_bytes = bytes_per_class, max_bytes
        self.condensed = CondensedSet(())
        self.seconds: list[float] = []
        self._seeds = Random(seed)

    def update(self, pool: ClassPool) -> None:
        """Condense an experience's classes and store them.

        A class seen before is condensed again, from its new images and its decoded memory together.
        """
        started = time.perf_counter()
        seed = self._seeds.seed()
        again = [c for c in self.condensed.class_ids if c in set(pool.class_ids.tolist())]
        if again:
            pool = concatenate([pool, self._decoded(self.condensed.select(again), pool)])
        kept = self.condensed.select([c for c in self.condensed.class_ids if c not in again])
        share = self._share(len(kept.class_ids) + pool.classes)
        if share is None:
            fresh = self.condenser(pool, self.images_per_class, seed=seed)
        else:
            fresh = self.condenser(pool, bytes_per_class=share, seed=seed)
            kept = fit(kept, share * len(kept.class_ids))
        self.condensed = kept.join(fresh)
        self.seconds.append(time.perf_counter() - started)

    def _share(self, classes: int) -> int | float | None:
        """Bytes of each of so many classes; None where the budget is in images."""
        return self.bytes_per_class if self.max_bytes is None else self.max_bytes / classes

    def _decoded(self, old: CondensedSet, pool: ClassPool) -> ClassPool:
        x, y = old.images(pool.device)
        names = dict(zip(old.class_ids, old.class_names, strict=True))
        return ClassPool(x, y, mean=pool.mean, std=pool.std, class_names=names, device=pool.device)

    def resize(
        self,
        images_per_class: int | None = None,
        *,
        bytes_per_class: int | float | None = None,
        max_bytes: int | None = None,
    ) -> None:
        """Change the budget: classes above it keep their first images, classes below it stay as they are.

        Old real data are gone, so nothing is condensed again. With a budget in bytes what is too large is encoded anew.
        """
        check_budget(images_per_class, bytes_per_class, max_bytes)
        self.images_per_class, self.bytes_per_class, self.max_bytes = images_per_class, bytes_per_class, max_bytes
        classes = len(self.condensed.class_ids)
        share = self._share(max(1, classes))
        if images_per_class is not None:
            self.condensed = self.condensed.take(images_per_class)
        elif share is not None:
            self.condensed = fit(self.condensed, share * classes)

    def batch(self, device: torch.device | str = "cpu") -> Batch:
        """All images to train on, in network space, with their original class ids.

        Raises:
            ValueError: before the first update.
        """
        return self.condensed.images(device)

    def __len__(self) -> int:
        """Images to train on."""
        return len(self.condensed)

    @property
    def nbytes(self) -> int:
        """Bytes of everything stored."""
        return self.condensed.nbytes

    def save(self, path: str | Path) -> Path:
        """Write what is stored as a condensed set's file."""
        return self.condensed.save(path)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values: what is stored, the budget and the state of the seeds."""
        payload = torch.frombuffer(bytearray(self.condensed.to_bytes()), dtype=torch.uint8)
        return {
            "condensed": payload,
            "images_per_class": self.images_per_class,
            "bytes_per_class": self.bytes_per_class,
            "max_bytes": self.max_bytes,
            "seconds": list(self.seconds),
            "random": self._seeds.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; the condenser stays the one given at construction."""
        payload: Tensor = state["condensed"]
        self.condensed = CondensedSet.from_bytes(payload.numpy().tobytes())
        self.images_per_class = state["images_per_class"]
        self.bytes_per_class, self.max_bytes = state.get("bytes_per_class"), state.get("max_bytes")
        self.seconds = list(state["seconds"])
        self._seeds.load_state_dict(state["random"])

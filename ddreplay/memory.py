"""The replay memory, without any framework in it: a condensed set that grows with the stream."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddreplay.condense.condenser import Condenser, OnProgress, TakesMore, taken
from ddreplay.data.pool import Batch, ClassPool, concatenate
from ddreplay.methods.best_of import BestOf
from ddreplay.methods.practical import Practical
from ddreplay.randomness import Random
from ddreplay.storage.budget import Budget
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.fit import fit

__all__ = ["CondensedMemory", "ReplayMemory"]

MOST = 4
"""How many times as much as new images what is remembered of a class counts at most, so that no pool grows with the stream."""


class CondensedMemory:
    """A fixed budget per class, filled by a condenser at the end of every experience.

    Only the pool given to `update` and the memory itself are ever looked at: no past real data, no future classes.

    Args:
        condenser: a distiller or a selection; ``None``: the practical default (`ddreplay.methods.Practical`).
        budget: what may be stored: a `Budget`, or an int, so many stored images of every class; or instead one of
        images_per_class: stored images of every class;
        bytes_per_class: bytes of everything stored, divided by the number of classes, never exceeded;
        max_bytes: bytes of everything stored, shared by the classes seen so far: old ones shrink as new ones come.
        seed: update number k condenses with its own seed derived from this one.
        on_progress: is told how far condensing is, where the condenser tells.
    Attributes:
        condensed: everything stored, as one set.
        stands_for: class -> real images that it has shown so far.
        seconds: wall time of each update so far.
    """

    def __init__(
        self,
        condenser: Condenser | None = None,
        budget: Budget | int | None = None,
        *,
        images_per_class: int | None = None,
        bytes_per_class: int | float | None = None,
        max_bytes: int | None = None,
        seed: int = 0,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.budget = Budget.of(
            budget, images_per_class=images_per_class, bytes_per_class=bytes_per_class, max_bytes=max_bytes
        )
        self.condenser: Condenser = Practical() if condenser is None else condenser
        self.seed, self.on_progress = seed, on_progress
        self.condensed = CondensedSet(())
        self.stands_for: dict[int, int] = {}
        self.seconds: list[float] = []
        self._seeds = Random(seed)

    def update(self, pool: ClassPool, *, seconds: float | None = None) -> None:
        """Condense an experience's classes and store them.

        A class seen before is condensed again, from its new images and its decoded memory together, in which every image counts for
        the real ones that it stands for: once, or so many times that all of them together count `MOST` times the new ones at most.

        Args:
            seconds: that condensing may take, where the condenser knows how to stop.
        Raises:
            TypeError: when it is no pool, or the condenser gives no set.
            ValueError: when the images are of another shape than those that are stored; when the condenser's set has other classes than
                it was given, or is beyond the budget. Nothing has changed then, as after every other failure.
        """
        started = time.perf_counter()
        check_pool(pool)
        if self.condensed.parts and pool.shape != self.condensed.shape:
            raise ValueError(
                f"images must be of the shape that the memory holds, {self.condensed.shape}, got {pool.shape}; resize them, or "
                "keep a memory for each shape"
            )
        seeds = Random(0)
        seeds.load_state_dict(self._seeds.state_dict())
        shown = dict(zip(pool.class_ids.tolist(), pool.counts, strict=True))
        again = [c for c in self.condensed.class_ids if c in shown]
        if again:
            pool = self._with_remembered(pool, again)
        kept = self.condensed.select([c for c in self.condensed.class_ids if c not in again])
        classes = len(kept.class_ids) + pool.classes
        share = self.budget.of_each(classes)
        alone = pool.classes == 1 and len(kept.class_ids) > 0  # then it is told apart from those that are remembered
        wanted = isinstance(self.condenser, TakesMore) and "remembered" in self.condenser.takes
        others = self._decoded(kept, pool) if kept.class_ids and (alone or wanted) else None
        more = taken(
            self.condenser,
            beside=others if alone else None,
            remembered=others,
            seconds=seconds,
            on_progress=self.on_progress,
        )
        fresh = self.condenser(pool, share, seed=seeds.seed(), **more)
        _check_made(fresh, pool, share)
        if self.budget.in_bytes:
            kept = fit(kept, share.total(len(kept.class_ids)))
        else:
            kept = kept.take(int(share.share(classes)))
        # nothing has changed so far: an update that fails leaves everything as it was
        stands_for = {**self.stands_for, **{c: self.stands_for.get(c, 0) + n for c, n in shown.items()}}
        self.condensed, self._seeds, self.stands_for = kept.join(fresh), seeds, stands_for
        self.seconds.append(time.perf_counter() - started)

    def copy(self) -> CondensedMemory:
        """A memory that holds the same and goes on by itself."""
        other = CondensedMemory(self.condenser, self.budget, seed=self.seed, on_progress=self.on_progress)
        other.condensed, other.seconds, other.stands_for = self.condensed, list(self.seconds), dict(self.stands_for)
        other._seeds.load_state_dict(self._seeds.state_dict())
        return other

    def _with_remembered(self, pool: ClassPool, again: list[int]) -> ClassPool:
        """New images and what is stored of the same classes, as often as it stands for others."""
        old = self._decoded(self.condensed.select(again), pool)
        both, start, rows = concatenate([pool, old]), 0, []
        stored = dict(zip(old.class_ids.tolist(), old.counts, strict=True))
        for class_id, n in zip(both.class_ids.tolist(), both.counts, strict=True):
            held = stored.get(class_id, 0)
            new = torch.arange(start, start + n - held)  # those of a class stand in the order of the pools
            times = min(round(self.stands_for.get(class_id, 0) / max(1, held)), MOST * len(new) // max(1, held))
            rows += [new, torch.arange(start + n - held, start + n).repeat(max(1, times))]
            start += n
        return both.subset(torch.cat(rows))

    def _decoded(self, old: CondensedSet, pool: ClassPool) -> ClassPool:
        x, y = old.images(pool.device)
        names = dict(zip(old.class_ids, old.class_names, strict=True))
        return ClassPool(x, y, mean=pool.mean, std=pool.std, class_names=names, device=pool.device)

    def resize(
        self,
        budget: Budget | int | None = None,
        *,
        images_per_class: int | None = None,
        bytes_per_class: int | float | None = None,
        max_bytes: int | None = None,
    ) -> None:
        """Change the budget: classes above it keep their first images, classes below it stay as they are.

        Old real data are gone, so nothing is condensed again. With a budget in bytes what is too large is encoded anew.
        """
        budget = Budget.of(
            budget, images_per_class=images_per_class, bytes_per_class=bytes_per_class, max_bytes=max_bytes
        )
        classes = len(self.condensed.class_ids)
        if budget.in_bytes:
            changed = fit(self.condensed, budget.total(classes))
        else:
            changed = self.condensed.take(int(budget.share(max(1, classes))))
        self.budget, self.condensed = budget, changed

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
            "budget": asdict(self.budget),
            "stands_for": {c: self.stands_for.get(c, 1) for c in self.condensed.class_ids},
            "seconds": list(self.seconds),
            "random": self._seeds.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; the condenser stays the one given at construction.

        Raises:
            ValueError: when the state is damaged, or no memory's; nothing has changed then.
        """
        with damaged("CondensedMemory"):
            payload: Tensor = state["condensed"]
            if payload.dtype != torch.uint8 or payload.dim() != 1:
                raise ValueError(f"condensed must be uint8 [bytes], got {payload.dtype} {list(payload.shape)}")
            condensed = CondensedSet.from_bytes(payload.cpu().numpy().tobytes(), "condensed")
            budget, seconds, seeds = Budget(**state["budget"]), read_seconds(state["seconds"]), Random(self.seed)
            seeds.load_state_dict(state["random"])
            stands_for = _read_stands_for(state["stands_for"], condensed.class_ids)
        # everything is read before anything changes
        self.stands_for = stands_for
        self.condensed, self.budget, self.seconds, self._seeds = condensed, budget, seconds, seeds


class ReplayMemory(CondensedMemory):
    """The best memory for so many bytes: condensed images, compressed real ones, or everything where it fits.

    At every update both kinds are made, a network learns each together with what is remembered, and what serves it better on held-out
    images of the new classes is stored (`ddreplay.methods.BestOf`). ``condensed.provenance`` and the log say what was chosen and why.

    Args:
        budget, images_per_class, bytes_per_class, max_bytes, seed, on_progress: as in `CondensedMemory`.
        condenser: what the candidates are and how they are tried.
    Example:
        >>> ReplayMemory(bytes_per_class=4000).budget.in_bytes
        True
    """

    def __init__(
        self,
        budget: Budget | int | None = None,
        *,
        condenser: BestOf | None = None,
        images_per_class: int | None = None,
        bytes_per_class: int | float | None = None,
        max_bytes: int | None = None,
        seed: int = 0,
        on_progress: OnProgress | None = None,
    ) -> None:
        super().__init__(
            condenser or BestOf(),
            budget,
            images_per_class=images_per_class,
            bytes_per_class=bytes_per_class,
            max_bytes=max_bytes,
            seed=seed,
            on_progress=on_progress,
        )


def check_pool(pool: Any) -> None:
    """Raise TypeError unless it is a pool."""
    if not isinstance(pool, ClassPool):
        raise TypeError(
            f"pool must be a ClassPool, got {type(pool).__name__}; make one of images and labels: ClassPool(x, y)"
        )


def _check_made(made: Any, pool: ClassPool, share: Budget) -> None:
    """Raise unless a condenser, which may be anybody's, has made a set of these classes within the budget."""
    if not isinstance(made, CondensedSet):
        raise TypeError(f"the condenser must give a CondensedSet, got {type(made).__name__}")
    if sorted(made.class_ids) != pool.class_ids.tolist():
        raise ValueError(
            f"the condenser must keep the classes that it is given, {pool.class_ids.tolist()}, got {sorted(made.class_ids)}"
        )
    if not share.fits(made):
        raise ValueError(
            f"the condenser must stay within {share}, got {made.stored_images} images in {made.nbytes} bytes"
        )


@contextmanager
def damaged(owner: str) -> Iterator[None]:
    """Whatever a wrong value in a state leads to is an error that says so.

    Raises:
        ValueError: in place of it.
    """
    try:
        yield
    except Exception as error:  # keys are missing, types are others, a checksum differs
        raise ValueError(f"the state is no sound one of a {owner}, which stays as it was: {error!r}") from error


def _read_stands_for(said: Any, class_ids: Sequence[int]) -> dict[int, int]:
    """Images of every class from a state. Raises ValueError where they are none."""
    found = dict(said)
    if set(found) != set(class_ids) or not all(type(n) is int and 0 < n < 2**53 for n in found.values()):
        raise ValueError("stands_for must give every stored class, and no other, at least 1 image")
    return found


def read_seconds(said: Any) -> list[float]:
    """Wall times from a state. Raises ValueError where they are none."""
    seconds = [float(s) for s in said]
    if not all(0 <= s < math.inf for s in seconds):
        raise ValueError(f"seconds must be finite and at least 0, got {seconds[:20]}")
    return seconds

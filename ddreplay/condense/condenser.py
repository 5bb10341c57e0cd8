"""What a condenser is, what it may be asked for, and what it tells while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from ddreplay.data.pool import ClassPool
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import Codec, avif, codec_from_spec, uint8
from ddreplay.storage.condensed_set import CondensedSet

__all__ = [
    "Condenser", "Deadline", "OnProgress", "OnStep", "OnTerms", "Progress", "StoredBy", "TakesMore",
    "default_codec", "stored_by", "taken",
]  # fmt: skip

OnStep = Callable[[int, Tensor], None]
"""Called after every image step with the number of steps done and the loss (a detached scalar, still on the device)."""

OnTerms = Callable[[int, Mapping[str, Tensor]], None]
"""Called after every image step of a method whose objective is a sum, with what each term came to: by its name, weight included."""


class Progress(NamedTuple):
    """How far a phase is.

    phase: ``"images"`` (choosing their number: candidates tried), ``"bank"`` (networks made), ``"steps"`` (image steps) or ``"ranking"``
        (epochs of the networks by which a selection ranks real images).
    total: ``None`` where it is not known. Of candidates it is as many as it seems by then, and may grow or shrink.
    """

    phase: Literal["images", "bank", "steps", "ranking"]
    done: int
    total: int | None


OnProgress = Callable[[Progress], None]


@runtime_checkable
class Condenser(Protocol):
    """A pool and a budget -> a condensed set; selections of real images and distillers alike.

    budget: a `Budget`, or an int: so many stored images of every class. A budget in bytes is never exceeded. The caller's random
    state and the pool stay untouched.
    """

    def __call__(self, pool: ClassPool, budget: Budget | int, *, seed: int = 0) -> CondensedSet: ...


@runtime_checkable
class TakesMore(Protocol):
    """A condenser that takes keywords besides the seed, and names them.

    ``seconds``: a limit for everything. ``beside``: a pool of other known classes, from which a single class can be told apart.
    ``remembered``: a pool of what a memory holds of other classes, however many are new. ``on_progress``, ``on_step``,
    ``on_terms``: callbacks. ``checkpoint``, ``checkpoint_every``: a file to go on from.
    """

    @property
    def takes(self) -> frozenset[str]:
        """Names of the keywords."""


def taken(condenser: Condenser, **more: Any) -> dict[str, Any]:
    """Those keywords that the condenser takes and that are not None."""
    names = condenser.takes if isinstance(condenser, TakesMore) else frozenset()
    return {name: value for name, value in more.items() if name in names and value is not None}


@runtime_checkable
class StoredBy(Protocol):
    """A condenser whose codec can be set."""

    def stored_by(self, codec: Codec) -> Any:
        """The same condenser with another codec."""


SomeCondenser = TypeVar("SomeCondenser", bound=Condenser)


def stored_by(condenser: SomeCondenser, codec: Codec | str | None) -> SomeCondenser:
    """The same condenser with another codec, or name of one; ``None``: as it is.

    Raises:
        TypeError: when the condenser's codec cannot be set.
    """
    if codec is None:
        return condenser
    if not isinstance(condenser, StoredBy):
        raise TypeError(f"{type(condenser).__name__} has no stored_by(codec); give it its codec itself")
    changed: SomeCondenser = condenser.stored_by(codec_from_spec({"name": codec}) if isinstance(codec, str) else codec)
    return changed


def default_codec(budget: Budget, channels: int) -> Codec:
    """The codec where none is named: uint8 for budgets in images; AVIF for bytes, which pictures of 1 or 3 channels can have."""
    return avif() if budget.in_bytes and channels in (1, 3) else uint8()


@dataclass
class Deadline:
    """Seconds that everything together may take, from its making on; ``None``: as long as it takes.

    cut: what was left out for lack of time, in words.
    """

    seconds: float | None = None
    started: float = field(default_factory=time.perf_counter)
    cut: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds >= 0:
            raise ValueError(f"seconds must be at least 0, or None for no limit, got {self.seconds}")

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def over(self) -> bool:
        """Whether the time is up."""
        return self.seconds is not None and self.spent >= self.seconds

    def part(self, share: float) -> Deadline:
        """A deadline of this share of all the seconds, from the same start, that notes what is cut in the same place."""
        return Deadline(None if self.seconds is None else share * self.seconds, self.started, self.cut)

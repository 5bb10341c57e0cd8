"""Ready training strategies out of Avalanche and ddreplay: short files, to read and to copy.

    finetuning           new data alone: the lower bound
    experience_replay    new data and a batch of memory in every step
    gdumb                from scratch on the memory alone, after every experience
    joint                from scratch on everything seen so far: the upper bound

Every one that has a memory takes any storage policy: of `ddreplay.avalanche` or of Avalanche itself. A new strategy is one file and
one line of `STRATEGIES`, and benchmarks know it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from strategies.experience_replay import experience_replay
from strategies.finetuning import finetuning
from strategies.gdumb import gdumb
from strategies.joint import joint

__all__ = ["STRATEGIES", "Strategy", "experience_replay", "finetuning", "gdumb", "joint"]


class Strategy(NamedTuple):
    """A function that builds a strategy from a network, a memory if it has one, and keywords; and its name in tables and pictures."""

    function: Callable[..., Any]
    title: str

    @property
    def has_memory(self) -> bool:
        """Whether it takes a storage policy."""
        return "memory" in inspect.signature(self.function).parameters

    def build(self, model: Any, memory: Any = None, **settings: Any) -> Any:
        """The strategy, with those of ``settings`` that it has a parameter for; the others are left out."""
        known = inspect.signature(self.function).parameters
        taken = {name: value for name, value in settings.items() if name in known}
        return self.function(model, memory, **taken) if self.has_memory else self.function(model, **taken)


STRATEGIES: dict[str, Strategy] = {
    "gdumb": Strategy(gdumb, "GDumb"),
    "er": Strategy(experience_replay, "experience replay"),
    "finetuning": Strategy(finetuning, "finetuning"),
    "joint": Strategy(joint, "joint training"),
}
"""Every strategy by the name that people type, in the order of tables."""

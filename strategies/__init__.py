"""Ready training strategies out of Avalanche and ddreplay: short files, to read and to copy.

    finetuning           new data alone: the lower bound
    experience_replay    new data and a batch of memory in every step
    er_ace               the same, new classes competing among themselves
    lwf_replay           the same, held to the network from before the experience
    derpp                the same, held to what the network said when images were stored
    icarl_ncm            the same, classes named by the nearest mean of what is remembered
    agem                 new data in steps that do not raise the loss on the memory
    gdumb                from scratch on the memory alone, after every experience
    joint                from scratch on everything seen so far: the upper bound

Every one that has a memory takes any storage policy: of `ddreplay.avalanche` or of Avalanche itself. A new strategy is one file and
one line of `STRATEGIES`, and benchmarks know it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from strategies.agem import agem
from strategies.derpp import derpp
from strategies.er_ace import er_ace
from strategies.experience_replay import experience_replay
from strategies.finetuning import finetuning
from strategies.gdumb import gdumb
from strategies.icarl_ncm import icarl_ncm
from strategies.joint import joint
from strategies.lwf_replay import lwf_replay

__all__ = [
    "STRATEGIES", "Strategy", "agem", "derpp", "er_ace", "experience_replay", "finetuning", "gdumb", "icarl_ncm", "joint", "lwf_replay",
]  # fmt: skip


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
    "er_ace": Strategy(er_ace, "ER-ACE"),
    "lwf_replay": Strategy(lwf_replay, "LwF + replay"),
    "derpp": Strategy(derpp, "DER++"),
    "icarl_ncm": Strategy(icarl_ncm, "replay, nearest mean"),
    "agem": Strategy(agem, "A-GEM"),
    "finetuning": Strategy(finetuning, "finetuning"),
    "joint": Strategy(joint, "joint training"),
}
"""Every strategy by the name that people type, in the order of tables."""

"""A newly initialised network at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ddreplay.backbones import Net
from ddreplay.networks.source import Context, Networks
from ddreplay.objectives.side import Look
from ddreplay.objectives.term import Statistic

__all__ = [
    "Fresh",
]


@dataclass(frozen=True)
class Fresh:
    """A newly initialised network at every step (DM).

    Args:
        net: Makes a randomly initialised network; ``None``: the network of the method that this is part of.
    """

    net: Net | None = None

    def start(self, context: Context) -> Networks:
        return _FreshNetworks(self.net, context)


class _FreshNetworks:
    def __init__(self, net: Net | None, context: Context) -> None:
        self.net, self.context, self.shown = net, context, 0

    def show(self) -> tuple[Look, Statistic]:
        look = self.context.look(self.context.network(self.net), round=self.shown)
        self.shown += 1
        return look, self.context.statistic(look)

    def moved(self) -> None:
        """A fresh network is seen once."""

    def state_dict(self) -> dict[str, Any]:
        return {"shown": self.shown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.shown = state["shown"]

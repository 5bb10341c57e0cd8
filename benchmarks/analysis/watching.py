"""Seeing a condensation at work: every network that looks, and every image step's kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.analysis.ntk import image_kernel
from ddreplay.backbones import Net
from ddreplay.networks import Context, Networks, NetworkSource
from ddreplay.objectives.side import Look, Side
from ddreplay.objectives.term import Statistic, Term

__all__ = ["Watched", "WatchedTerm"]


@dataclass
class Watched:
    """A network source that hands every network it shows, before the images move, to ``see``; the run stays the same to the bit."""

    source: NetworkSource
    see: Callable[[nn.Module], None]

    @property
    def net(self) -> Net | None:
        """The source's."""
        return self.source.net

    def start(self, context: Context) -> Networks:
        """The source's networks, watched."""
        return _Watching(self.source.start(context), self.see)


class _Watching:
    def __init__(self, networks: Networks, see: Callable[[nn.Module], None]) -> None:
        self.networks, self.see = networks, see
        self.moved, self.state_dict = networks.moved, networks.state_dict
        self.load_state_dict = networks.load_state_dict

    def show(self) -> tuple[Look, Statistic]:
        look, statistic = self.networks.show()
        self.see(look.net)
        return look, statistic


class WatchedTerm(Term):
    """A term that hands the `image_kernel` of every image step, before the images move, to ``see``; the run stays the same to the bit.

    It costs a second gradient of every step.

    Args:
        see: a function; it is not copied where the objective is.
    """

    def __init__(self, term: Term, see: Callable[[Float[Tensor, "n n"]], None]) -> None:
        super().__init__()
        self.term, self._see = term, see
        for flag in Term.__annotations__:
            setattr(self, flag, getattr(term, flag))

    def summarise(self, real: Side) -> Statistic:
        """The term's."""
        return self.term.summarise(real)

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        """The term's, once its kernel has been seen."""

        def loss(images: Tensor) -> Tensor:
            return self.term.distance(statistic, Side(syn.look, images, syn.positions, chunk=syn.chunk))

        self._see(image_kernel(loss, syn.images))
        return self.term.distance(statistic, syn)

    def prepare(self, syn: Side) -> None:
        """The term's."""
        self.term.prepare(syn)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The term's."""
        return self.term.parameter_groups()

    def soft_labels(self) -> Tensor | None:
        """The term's."""
        return self.term.soft_labels()

    def learned(self) -> dict[str, Any]:
        """The term's."""
        return self.term.learned()

    def describe(self) -> dict[str, Any]:
        """The term's: a watched run is the same run."""
        return self.term.describe()

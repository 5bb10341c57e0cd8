"""Which real images a step looks at: any of a class, or those that represent it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ddreplay.backbones import ConvNet, Net, Probe, as_factory
from ddreplay.data.chunks import by_chunks, forward_chunk
from ddreplay.data.clustering import representatives
from ddreplay.data.pool import ClassPool
from ddreplay.objectives.side import Look
from ddreplay.randomness import Random

__all__ = [
    "Draw",
    "Drawer",
    "Representative",
    "RepresentativeImages",
    "Uniform",
]


@runtime_checkable
class Drawer(Protocol):
    """Draws real images during one condensation. All that lives between draws is in its state."""

    def __call__(self, look: Look, n: int, random: Random, *, anew: bool = False) -> Int64[Tensor, "classes n"]:
        """Rows of the pool, ``n`` of every class, for this look; ``anew``: owing nothing to earlier draws."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Draw(Protocol):
    """A way of drawing real images, for any distiller: ``dataclasses.replace(dm(), draw=Representative())``."""

    def start(self, pool: ClassPool) -> Drawer:
        """Begin a condensation."""


@dataclass(frozen=True)
class Uniform:
    """Draws images of every class uniformly, without replacement, anew at every step."""

    def start(self, pool: ClassPool) -> Drawer:
        return _UniformDrawer(pool)


class _UniformDrawer:
    def __init__(self, pool: ClassPool) -> None:
        self.pool = pool

    def __call__(self, look: Look, n: int, random: Random, *, anew: bool = False) -> Int64[Tensor, "classes n"]:
        return self.pool.draw_rows(n, random)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is none."""


@dataclass(frozen=True)
class Representative:
    """Real batches that represent their class: the images nearest to the centroids of k-means in the network's embedding (DREAM).

    Every ``interval`` draws, each class is clustered into as many clusters as images are drawn, in the embedding of the network that
    looks; the image nearest to each centroid is taken, and kept until the next clustering. An entry of a bank is clustered under
    its own network.

    Args:
        interval: The number of draws from one clustering to the next. Paper and released code: 10.
        iterations: The number of k-means iterations.
        candidates: The number of images per class that are clustered, drawn at random; ``None``: all of them, as published.
    Raises:
        ValueError: for a count out of range.
    Reference: Liu et al., "DREAM: Efficient Dataset Distillation by Representative Matching", ICCV 2023.
    Example:
        >>> from dataclasses import replace
        >>> from ddreplay import dm
        >>> replace(dm(ConvNet(width=8), steps=2), draw=Representative())(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """

    _: KW_ONLY
    interval: int = 10
    iterations: int = 10
    candidates: int | None = None

    def __post_init__(self) -> None:
        if self.interval < 1 or self.iterations < 0:
            raise ValueError(
                f"interval must be at least 1 and iterations at least 0, got {self.interval} and {self.iterations}"
            )
        if self.candidates is not None and self.candidates < 1:
            raise ValueError(f"candidates must be at least 1 or None, got {self.candidates}")

    def start(self, pool: ClassPool) -> Drawer:
        return _RepresentativeDrawer(self, pool)


class _RepresentativeDrawer:
    """rows: The rows of the pool that the last clustering chose. draws: The number of draws since the start."""

    def __init__(self, how: Representative, pool: ClassPool) -> None:
        self.how, self.pool = how, pool
        self.draws = 0
        self.rows: Int64[Tensor, "classes n"] | None = None

    def __call__(self, look: Look, n: int, random: Random, *, anew: bool = False) -> Int64[Tensor, "classes n"]:
        n = min(n, max(self.pool.counts))
        if anew:
            return self._cluster(look, n, random)
        if self.rows is None or self.rows.shape[1] != n or self.draws % self.how.interval == 0:
            self.rows = self._cluster(look, n, random)
        self.draws += 1
        return self.rows

    def _cluster(self, look: Look, n: int, random: Random) -> Int64[Tensor, "classes n"]:
        found = []
        for rows in _rows_by_class(self.pool, self.how.candidates, random):
            features = _embed(look.probe, self.pool, rows)
            found.append(rows[representatives(features, n, random, iterations=self.how.iterations)])
        return torch.stack(found)

    def state_dict(self) -> dict[str, Any]:
        return {"draws": self.draws, "rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.draws, self.rows = state["draws"], state["rows"]


@dataclass(frozen=True)
class RepresentativeImages:
    """Where condensed images start, as ``init=``: the images nearest to k-means centroids in a new network's embedding (DREAM).

    Args:
        net: Makes a randomly initialised network; ``None``: the ConvNet of the papers.
        iterations: The number of k-means iterations.
        candidates: The number of images per class that are clustered, drawn at random; ``None``: all of them, as published.
    Reference: Liu et al., "DREAM: Efficient Dataset Distillation by Representative Matching", ICCV 2023.
    """

    net: Net | None = None
    _: KW_ONLY
    iterations: int = 10
    candidates: int | None = None

    def __call__(self, pool: ClassPool, n: int, random: Random) -> Float[Tensor, "m c h w"]:
        with random.scope():
            probe = Probe(as_factory(self.net or ConvNet())(pool.shape, pool.classes).to(pool.device))
        chosen = []
        for rows in _rows_by_class(pool, self.candidates, random):
            features = _embed(probe, pool, rows)
            chosen.append(rows[representatives(features, n, random, iterations=self.iterations, distinct=True)])
        return pool.rows(torch.cat(chosen))


def _rows_by_class(pool: ClassPool, candidates: int | None, random: Random) -> list[Int64[Tensor, " n"]]:
    blocks = torch.arange(len(pool), device=pool.device).split(list(pool.counts))
    if candidates is None:
        return list(blocks)
    keys = [torch.rand(len(b), generator=random.device, device=pool.device) for b in blocks]
    return [b[key.argsort()[:candidates]] for b, key in zip(blocks, keys, strict=True)]


@torch.no_grad()
def _embed(probe: Probe, pool: ClassPool, rows: Int64[Tensor, " n"]) -> Float[Tensor, "n d"]:
    return by_chunks(lambda part: probe(pool.rows(part)).embedding, rows, forward_chunk(pool.shape, pool.device))

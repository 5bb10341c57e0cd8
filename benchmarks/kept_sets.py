"""Condensed sets in a folder, so that strategies and later runs share them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.kept_networks import Kept, Seconds, digest
from ddreplay import Budget, ClassPool, CondensedSet, Condenser, Distiller
from ddreplay.condense.condenser import TakesMore, taken
from ddreplay.condense.provenance import describe, versions
from ddreplay.methods import BestOf, Practical, Whitened
from ddreplay.methods.best_of import name_of
from ddreplay.networks import Banked
from ddreplay.storage.checkpoint import fingerprint
from ddreplay.storage.files import write_atomically

__all__ = ["KeptSets"]

WARMING = 15.0  # seconds of condensing that nobody counts, once a process


class KeptSets:
    """A condenser whose sets are kept in a folder: the same images, settings, budget and seed are condensed once.

    A file's name follows from everything that decides the set but the code itself: after a change of the code that condenses, take a new
    folder. The trained networks of a bank are kept too, shared by all budgets (`benchmarks.kept_networks.Kept`), and so is the condensed
    candidate of a `BestOf`.

    What a set took stands beside it, and is charged whether it was condensed now or found: ``seconds`` is the cost of having these sets
    with nothing at hand, the training of a bank's networks included, in full for every set that looked through them. ``elapsed`` is what
    this process spent.

    Sets that are made within a limit of time follow from the machine, and are not kept; nor are the networks of their banks. Before the
    first of them, a few steps are taken that nobody counts, so that what is compiled is compiled.

    Args:
        condenser: What makes the sets.
        folder: Where they are kept; made when it is needed.
        share: The limit, as a share of the seconds that a memory allows (``seconds="training"``); ``None``: no limit.
        checkpoint_every: Image steps from one checkpoint of a set under way to the next, from which an interrupted run goes on; ``None``:
            no checkpoints.
    Attributes:
        seconds: What the sets asked for so far took, or would have taken.
        elapsed: What they took here.
    """

    warm: ClassVar[set[str]] = set()

    def __init__(
        self,
        condenser: Condenser,
        folder: Path,
        *,
        share: float | None = None,
        checkpoint_every: int | None = None,
    ) -> None:
        self.condenser, self.folder, self.share = condenser, folder, share
        self.checkpoint_every = checkpoint_every
        self.seconds, self.elapsed = Seconds(), Seconds()

    @property
    def name(self) -> str:
        """What the condenser is called."""
        return name_of(self.condenser)

    def method(self, pool: ClassPool, budget: Budget | int) -> Any:
        """What condenses this pool: the condenser, or what it takes for such a pool and budget."""
        return self.condenser.method(pool, budget) if isinstance(self.condenser, Practical) else self.condenser

    def settings(self, pool: ClassPool, budget: Budget | int) -> dict[str, Any]:
        """All settings with which a pool is condensed, and the versions of what does it, as JSON."""
        return {"method": describe(self.method(pool, budget)), "versions": versions()}

    @property
    def takes(self) -> frozenset[str]:
        """Other pools that the condenser looks at; a set follows from them too."""
        own = self.condenser.takes if isinstance(self.condenser, TakesMore) else frozenset()
        return own & {"beside", "remembered", *(() if self.share is None else ("seconds",))}

    def __call__(
        self,
        pool: ClassPool,
        budget: Budget | int,
        *,
        seed: int = 0,
        seconds: float | None = None,
        **others: ClassPool | None,
    ) -> CondensedSet:
        """The set that is kept, or else a new one, which is kept then.

        Args:
            seconds: That training took; condensing may take a share of them.
            others: Pools that the condenser looks at besides (`takes`).
        """
        if seconds is not None and self.share is not None:
            return self._in_time(pool, Budget.of(budget), seed, self.share * seconds, others)
        started, budget = Seconds.now(), Budget.of(budget)
        about = {**self.settings(pool, budget), "budget": asdict(budget), "seed": seed, "pool": fingerprint(pool)}
        about |= {name: fingerprint(other) for name, other in others.items() if other is not None}
        path = self.folder / "sets" / f"{digest(about)}.safetensors"
        costs = path.with_suffix(".json")
        if not (path.is_file() and costs.is_file()):
            found, took = self._resumed(path.with_suffix(".part"), pool, budget, seed, others)
            path.parent.mkdir(parents=True, exist_ok=True)
            found.save(path)
            write_atomically(costs, json.dumps({**asdict(took), **about}, indent=1, default=str).encode())
        # always read from the file, so that a set is the same whether it was just condensed or found
        found, kept = CondensedSet.load(path), json.loads(costs.read_text(encoding="utf-8"))
        self.seconds += Seconds(kept["wall"], kept["cpu"])
        self.elapsed += Seconds.now() - started
        return found

    def _in_time(
        self, pool: ClassPool, budget: Budget, seed: int, seconds: float, others: dict[str, Any]
    ) -> CondensedSet:
        before = Seconds.now()
        kind = digest(describe(self.condenser))
        if kind not in self.warm:
            self.condenser(pool, budget, seed=seed, **taken(self.condenser, seconds=WARMING), **others)
            self.warm.add(kind)
        started = Seconds.now()
        found = self.condenser(pool, budget, seed=seed, **taken(self.condenser, seconds=seconds), **others)
        self.seconds += Seconds.now() - started
        self.elapsed += Seconds.now() - before
        return found

    def _resumed(
        self, part: Path, pool: ClassPool, budget: Budget, seed: int, others: dict[str, Any]
    ) -> tuple[CondensedSet, Seconds]:
        """Condense, from the checkpoint ``part`` where there is one; what an interrupted run took stands beside it, and counts."""
        if self.checkpoint_every is None or not isinstance(self.condenser, Distiller | Whitened):
            return self._condense(pool, budget, seed, others)
        started, spent = Seconds.now(), part.with_suffix(".spent.json")
        before = Seconds(**json.loads(spent.read_text(encoding="utf-8"))) if spent.is_file() else Seconds()
        part.parent.mkdir(parents=True, exist_ok=True)
        more = {**others, "checkpoint": part, "checkpoint_every": self.checkpoint_every}
        try:
            found, took = self._condense(pool, budget, seed, more)
        except BaseException:
            if part.is_file():
                took = before + (Seconds.now() - started)
                write_atomically(spent, json.dumps(asdict(took)).encode())
            raise
        for file in (part, spent):
            file.unlink(missing_ok=True)
        return found, before + took

    def _condense(
        self, pool: ClassPool, budget: Budget, seed: int, others: dict[str, Any]
    ) -> tuple[CondensedSet, Seconds]:
        method, started = self.method(pool, budget), Seconds.now()
        if isinstance(method, BestOf):
            candidate = KeptSets(method.condensed, self.folder)
            found = replace(method, condensed=candidate)(pool, budget, seed=seed, **others)
            return found, Seconds.now() - started - candidate.elapsed + candidate.seconds
        if not (isinstance(method, Distiller) and isinstance(method.networks, Banked)):
            found = method(pool, budget, seed=seed, **others)
            return found, Seconds.now() - started
        kept = Kept(method.networks, self.folder / "networks", seed)
        found = replace(method, networks=kept)(pool, budget, seed=seed, **others)
        return found, Seconds.now() - started - kept.spent + kept.charged

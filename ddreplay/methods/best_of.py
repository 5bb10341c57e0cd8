"""The memory that chooses by itself: condensed or real images, whichever teaches more at the same bytes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ddreplay.augment import NATURAL
from ddreplay.backbones import ConvNet, Net, as_factory
from ddreplay.condense.condenser import Condenser, Deadline, OnProgress, default_codec, stored_by, taken
from ddreplay.condense.image_count import AtQuality, hold_out
from ddreplay.data.pool import ClassPool, concatenate
from ddreplay.evaluation import Protocol, predict, train
from ddreplay.methods import selections
from ddreplay.methods.practical import Practical
from ddreplay.randomness import Random
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import Codec, nbytes
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.part import encode

__all__ = ["BestOf", "name_of"]

log = logging.getLogger(__name__)

FEWEST = 5  # held-out images of a class, below which a trial says nothing


def _herding() -> Condenser:
    return selections.herding(ConvNet(width=32), epochs=1)


@dataclass(frozen=True)
class BestOf:
    """Several condensers under one budget; the set that teaches a network most, by held-out images, is kept.

    For every candidate a network learns its set *together with what the memory holds of other classes*, and is tested on held-out
    images of the new ones. Within the experience alone another candidate would win: what tells a class from its neighbour of the day is
    not what tells it from all others (docs/results.md). What is remembered was stored by a codec, and so is every candidate: a network
    cannot tell new from old by a codec's traces.

    Where all images of the pool fit into the budget at a low quality (`AtQuality`), all are kept and nothing is tried. Held-out images
    teach no condensed set that is kept; a selection of real images that wins chooses among all of them anew.

    Args:
        condensed: the candidate that is made of the pool; it wins where no other leads beyond noise.
        real: the candidates that choose real images.
        net: learns in the trials; ``None``: a ConvNet of width 32.
        visits: images that it sees in a trial, repetitions included. With ``seconds``, a trial ends after its share of them.
        fraction: the share of every class that is held out, at most ``most`` images of it.
        margin: standard errors of the difference, image by image, by which real images must lead.
        share: the part of ``seconds`` that trials may take together; the rest is for condensing.
    Example:
        >>> from ddreplay import ConvNet, dm
        >>> best = BestOf(dm(ConvNet(width=8), steps=2), net=ConvNet(width=8), visits=64)
        >>> best(toy_pool(), Budget.bytes(60)).provenance["chosen"] in ("dm", "herding")
        True
    """

    condensed: Condenser = Practical()
    real: tuple[Condenser, ...] = (_herding(),)
    _: KW_ONLY
    net: Net | None = None
    visits: int = 15_000
    fraction: float = 0.1
    most: int = 200
    margin: float = 1.0
    share: float = 0.3

    takes: ClassVar[frozenset[str]] = frozenset(("seconds", "on_progress", "beside", "remembered"))

    def __post_init__(self) -> None:
        if self.visits < 1 or self.most < 1:
            raise ValueError(f"visits and most must be at least 1, got {self.visits} and {self.most}")
        if not 0 < self.fraction < 1 or not 0 < self.share < 1:
            raise ValueError(f"fraction and share must lie between 0 and 1, got {self.fraction} and {self.share}")
        if not self.real:
            raise ValueError(
                "real must hold at least 1 condenser to compare with, got none; else use the condenser itself"
            )

    def __call__(
        self,
        pool: ClassPool,
        budget: Budget | int,
        *,
        seed: int = 0,
        seconds: float | None = None,
        on_progress: OnProgress | None = None,
        beside: ClassPool | None = None,
        remembered: ClassPool | None = None,
    ) -> CondensedSet:
        """The best set within a budget; ``chosen`` and ``trials`` in its provenance say which it is and why.

        Args:
            seconds: that everything may take together.
            remembered: what is stored of other classes, which stands beside every candidate in the trials.
        """
        budget, deadline = Budget.of(budget), Deadline(seconds)
        more = {"on_progress": on_progress, "beside": beside}
        if self._all_fit(pool, budget):
            kept = self.real[0](pool, budget, seed=seed, **taken(self.real[0], **more))
            return _said(kept, "everything", {}, deadline.started)
        learned, held = hold_out(pool, self.fraction, Random(seed), self.most)
        if held is None or min(held.counts) < FEWEST:
            log.info("too few images to hold any out: condensed without a trial")
            found = self.condensed(pool, budget, seed=seed, **taken(self.condensed, seconds=seconds, **more))
            return _said(found, name_of(self.condensed), {}, deadline.started)
        made: dict[str, CondensedSet] = {}
        for condenser in (self.condensed, *self.real):
            due = None if seconds is None else max(0.0, (1 - self.share) * seconds - deadline.spent)
            how = taken(condenser, seconds=due, **more)
            made[name_of(condenser)] = condenser(learned, budget, seed=seed, **how)
        right: dict[str, Tensor] = {}
        for k, (name, one) in enumerate(made.items()):
            until = deadline.part(1 - self.share + self.share * (k + 1) / len(made))
            right[name] = self._trial(one, remembered, held, seed, until.over)
        scores = {name: 100 * float(hits.mean()) for name, hits in right.items()}
        best = self._best(right)
        log.info("held-out accuracy %s: %s is kept", {k: f"{v:.1f} %" for k, v in scores.items()}, best)
        found = made[best]
        for condenser in self.real:
            if name_of(condenser) == best:  # among all images now
                found = condenser(pool, budget, seed=seed, **taken(condenser, **more))
        return _said(found, best, scores, deadline.started)

    def _best(self, right: dict[str, Tensor]) -> str:
        """The best of the real candidates, if it leads by more than the comparison's own noise; else the condensed one."""
        first, *others = right
        best = max(others, key=lambda name: float(right[name].mean()))
        lead = right[best] - right[first]
        return best if float(lead.mean()) > self.margin * float(lead.std()) / math.sqrt(len(lead)) else first

    def stored_by(self, codec: Codec) -> BestOf:
        """The same, all candidates with another codec."""
        real = tuple(stored_by(condenser, codec) for condenser in self.real)
        return replace(self, condensed=stored_by(self.condensed, codec), real=real)

    def method(self, pool: ClassPool, budget: Budget | int) -> Condenser:
        """A candidate that stores images as all of them do, without trials: the first of the real ones."""
        return self.real[0]

    def _all_fit(self, pool: ClassPool, budget: Budget) -> bool:
        """Whether the budget holds every image, at a quality that is worth it."""
        if not budget.in_bytes:
            return max(pool.counts) <= budget.share(pool.classes)
        codec = getattr(self.real[0], "codec", None) or default_codec(budget, pool.shape[0])
        every = [pool.of_class(k) for k in range(pool.classes)]
        stored = encode(AtQuality().member(codec, pool.shape), every, pool)
        return nbytes(stored) <= budget.room(pool, pool.counts)

    def _trial(
        self,
        candidate: CondensedSet,
        remembered: ClassPool | None,
        held: ClassPool,
        seed: int,
        stop: Callable[[], bool],
    ) -> Tensor:
        """Which held-out images a network names rightly that learned the candidate and what is remembered: 0 or 1, float [n]."""
        images = ClassPool(*candidate.images(held.device), mean=held.mean, std=held.std, device=held.device)
        seen = images if remembered is None else concatenate([images, remembered])
        epochs = max(1, round(self.visits / len(seen)))
        protocol = Protocol("trial", epochs=epochs - 1, augment=held.augmentation or NATURAL, batch_size=64)
        random = Random(seed, held.device)
        with random.scope():
            net = as_factory(self.net or ConvNet(width=32))(held.shape, max(2, seen.classes)).to(held.device)
        train(net, *seen.all(), protocol, random, stop=stop)
        known = seen.class_ids.tolist()
        columns = torch.tensor([known.index(c) for c in held.class_ids.tolist()], device=held.device)
        return (predict(net, held) == columns[held.all_labels()]).float()


def name_of(condenser: Condenser) -> str:
    """What a condenser is called in what is said of a choice."""
    return str(getattr(condenser, "name", type(condenser).__name__))


def _said(found: CondensedSet, chosen: str, trials: dict[str, float], started: float) -> CondensedSet:
    about = {"chosen": chosen, "trials": {k: round(v, 2) for k, v in trials.items()}}
    return replace(found, provenance={**found.provenance, **about, "seconds": round(time.perf_counter() - started, 3)})

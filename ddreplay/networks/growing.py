"""How the networks of a bank come to be: each by itself, or a few runs of training, kept as they were at several ages."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import torch
from torch import nn

from ddreplay.networks.source import Context
from ddreplay.randomness import Random
from ddreplay.training import ByOptimizer, Descend, LabelledImages, WithReplacement, learnable, train_network

if TYPE_CHECKING:
    from ddreplay.networks.bank import Banked

__all__ = ["Grow", "Grown", "OneEach", "Runs", "scope"]


class Grown(NamedTuple):
    """A network for an entry.

    seed: The seed that the entry's augmentation and real images follow from. random: A source of draws that began with it.
    whole: Whether the network was trained as long as it should be. trained: Whether it was trained at all.
    """

    net: nn.Module
    seed: int
    random: Random
    whole: bool = True
    trained: bool = True


@runtime_checkable
class Grow(Protocol):
    """Makes the networks of a bank."""

    def __call__(self, position: int, seeds: Sequence[int], stop: Callable[[], bool] | None) -> Grown:
        """The network at a position, which follows from the bank's seeds; ``stop`` is asked while it is trained."""

    def forget(self, run: int) -> None:
        """A seed has changed: drop what was kept of it."""

    def kept(self) -> Sequence[nn.Module]:
        """Networks that are ready, whether an entry has been made of them or not."""


def scope(seed: int) -> AbstractContextManager[None]:
    """Where a network draws by itself (dropout): what it draws follows from an entry's seed, and moves no other draw."""
    return Random(seed + 1).scope()


class OneEach:
    """Every entry is a network of its own, of a random age up to ``trained`` steps."""

    def __init__(self, source: Banked, context: Context, trained: int) -> None:
        self.source, self.context, self.trained = source, context, trained

    def __call__(self, position: int, seeds: Sequence[int], stop: Callable[[], bool] | None) -> Grown:
        seed = seeds[position]
        random = Random(seed, self.context.pool.device)
        net = self.context.network(self.source.net, random)
        if not self.trained:
            return Grown(net, seed, random, trained=False)
        steps = random.integer(self.trained + 1)
        with scope(seed):
            taken = _train(net, _sgd(net, self.source), steps, self.source, self.context, random, stop)
        return Grown(net, seed, random, whole=taken == steps, trained=steps > 0)

    def forget(self, run: int) -> None:
        """Nothing is kept."""

    def kept(self) -> Sequence[nn.Module]:
        return ()


class Runs:
    """A run is trained when one of its entries is first asked for, and kept as it was at every age.

    snapshots: the networks of the runs trained so far, by run, one per age.
    """

    def __init__(self, source: Banked, context: Context) -> None:
        self.source, self.context = source, context
        self.snapshots: dict[int, list[nn.Module]] = {}

    def __call__(self, position: int, seeds: Sequence[int], stop: Callable[[], bool] | None) -> Grown:
        ages = self.source.ages
        run, age = divmod(position, len(ages))
        random = Random(seeds[run], self.context.pool.device)
        seed = [random.seed() for _ in ages][age]
        own = Random(seed, self.context.pool.device)
        if run not in self.snapshots:
            found, whole = self._train(seeds[run], random, stop)
            if not whole:
                return Grown(found[min(age, len(found) - 1)], seed, own, whole=False)
            self.snapshots[run] = found
        return Grown(self.snapshots[run][age], seed, own)

    def _train(self, seed: int, random: Random, stop: Callable[[], bool] | None) -> tuple[list[nn.Module], bool]:
        """The network of a run at every age, or until it was stopped; and whether it was not."""
        net = self.context.network(self.source.net, random)
        descend = _sgd(net, self.source)
        found: list[nn.Module] = []
        with scope(seed):
            for age, until in zip((0, *self.source.ages), self.source.ages, strict=False):
                taken = _train(net, descend, until - age, self.source, self.context, random, stop)
                found.append(copy.deepcopy(net))
                if taken < until - age:
                    return found, False
        return found, True

    def forget(self, run: int) -> None:
        self.snapshots.pop(run, None)

    def kept(self) -> Sequence[nn.Module]:
        return [net for found in self.snapshots.values() for net in found]


def _sgd(net: nn.Module, source: Banked) -> Descend:
    return ByOptimizer(torch.optim.SGD(net.parameters(), lr=source.lr, momentum=source.momentum))


def _train(
    net: nn.Module,
    descend: Descend,
    steps: int,
    source: Banked,
    context: Context,
    random: Random,
    stop: Callable[[], bool] | None,
) -> int:
    """Steps on the pool's images, augmented as both sides are; gives how many were taken."""
    with learnable(net):
        return train_network(
            net,
            LabelledImages.of_pool(context.pool),
            WithReplacement(steps, source.batch_size),
            descend,
            random,
            augment=context.augment,
            compile=context.compile,
            stop=stop,
        )

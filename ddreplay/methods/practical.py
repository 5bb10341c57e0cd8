"""What condenses where nobody names a method: no paper, but what is good for the budget in minutes."""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import nn

from ddreplay.augment import NATURAL
from ddreplay.backbones import MLP, ConvNet, Net, as_factory
from ddreplay.condense.distiller import Distiller
from ddreplay.data.pool import ClassPool
from ddreplay.data.space import Shape
from ddreplay.methods.distribution import dm
from ddreplay.networks import Banked
from ddreplay.randomness import Random
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import Codec
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.training import ByOptimizer, LabelledImages, WithReplacement, train_network

__all__ = ["Practical", "default_net", "practical", "within"]

log = logging.getLogger(__name__)

SMALLEST = 4  # pixels of the shorter side that a ConvNet of two blocks takes
WEIGHTS = 100_000  # of a network that looks as fast as the default one
PLANNED = 0.8  # of the seconds there are
TIMED, BATCH = 4, 64  # training steps that tell the speed, and images of each
WIDTH = 32  # of the ConvNet that looks; more width takes more time than it gives in a bank


def default_net(shape: Shape | None) -> Net:
    """What looks where no network is named: a ConvNet; an MLP at vectors, and at images that a ConvNet halves to nothing."""
    return ConvNet(width=WIDTH) if shape is None or min(shape[1:]) >= SMALLEST else MLP(width=128)


def practical(
    budget: Budget | int, net: Net | None = None, *, shape: Shape | None = None, strategy: str = NATURAL
) -> Distiller:
    """The practical default: distribution matching under a bank of networks.

    One and the same in the command line, in `ddreplay.CondensedMemory` and in ``ddreplay.avalanche.CondensedBuffer``, where no method is
    named. For a budget in bytes, 20 networks are four training runs on the real images, kept at five ages, and images are condensed through
    AVIF, as many as fit at a low quality (docs/results.md: measured on CIFAR-10 in a stream, with what less time gives). For a budget in
    images, networks are new: training them took as long again and gained nothing (CIFAR-10, 10 images per class, two networks of width 32,
    300 epochs, seconds of one processor: random images 24.0 %; 20 new networks and 400 steps 37.6 %, 67 s; trained for up to 300 steps
    38.0 %, 154 s; 10 networks and 200 steps 34.7 %, 41 s).

    Args:
        budget: What the set may take; an int: images per class.
        net: Looks at the images; ``None``: a ConvNet of width 32, depth by image size, or an MLP where images are too small for it.
        shape: The shape of the images, (channels, height, width): larger ones get a smaller bank. ``None``: as for 32 x 32 pixels.
        strategy: DSA operations.
    Example:
        >>> practical(2, shape=(1, 8, 8))(toy_pool(), 2).stored_images
        6
    """
    budget = Budget.of(budget)
    net = default_net(shape) if net is None else net
    if budget.in_bytes:
        networks, steps = Banked(size=20, trained=300, runs=4), 400
    else:
        large = shape is not None and min(shape[1:]) > 32
        networks, steps = Banked(size=10 if large else 20), 200 if large else 400
    return dm(net, networks=networks, steps=steps, lr=0.4, per_image=True, strategy=strategy)


def within(method: Distiller, pool: ClassPool, budget: Budget, seconds: float) -> Distiller:
    """The method with as much of its bank and its steps as there is time for; as it is, where there is time for all.

    The speed is that of a few training steps of its network on this pool; an image that is learned costs about as much as one that
    is trained on.
    """
    bank, steps = method.networks, method.steps
    if not isinstance(bank, Banked) or not isinstance(steps, int):
        return method
    share = budget.share(pool.classes)
    images = min(max(pool.counts), share / min(pool.shape[1:]) if budget.in_bytes else share)
    training = (bank.runs or bank.size / 2) * bank.trained * bank.batch_size
    visits = training + bank.size * min(bank.images or 512, max(pool.counts)) / 3 + steps * images * pool.classes
    part = PLANNED * seconds / (visits * _seconds_a_visit(method, pool))
    if part >= 1:
        return method
    if bank.runs is None:
        smaller = replace(bank, size=max(2, round(part * bank.size)))
    else:
        runs, ages = max(1, round(part * bank.runs)), len(bank.ages)
        trained = min(bank.trained, max(ages, round(part * bank.runs * bank.trained)))
        smaller = replace(bank, size=runs * ages, runs=runs, trained=trained)
    fewer = max(20, round(part * steps))
    log.info(
        "%.0f s: %d networks instead of %d, %d steps instead of %d", seconds, smaller.size, bank.size, fewer, steps
    )
    return replace(method, networks=smaller, steps=fewer)


def _seconds_a_visit(method: Distiller, pool: ClassPool) -> float:
    """Of one image in a training step of the method's network."""
    random, times = Random(0, pool.device), [time.perf_counter()]
    with random.scope():
        net = as_factory(method.networks.net or ConvNet(width=WIDTH))(pool.shape, max(2, pool.classes)).to(pool.device)
    descend = ByOptimizer(torch.optim.SGD(net.parameters(), lr=0.01))
    order = WithReplacement(TIMED, BATCH)
    train_network(
        net,
        LabelledImages.of_pool(pool),
        order,
        descend,
        random,
        augment=method.augment,
        compile=method.compile,
        on_step=lambda logits, y: times.append(time.perf_counter() + 0 * float(logits[0, 0])),
    )
    return statistics.median(b - a for a, b in pairwise(times)) / BATCH


@dataclass(frozen=True)
class Practical:
    """`practical` as a condenser: what it condenses with follows from the budget and the pool at hand.

    Attributes:
        net: Looks at the images; ``None``: as `practical` has it.
        codec: Says how the set is stored; ``None``: uint8 for a budget in images, AVIF for one in bytes.
        strategy: DSA operations; ``None``: those that the pool's data set allows.
        compile: Runs networks through ``torch.compile``.
    """

    net: Net | None = None
    codec: Codec | None = None
    strategy: str | None = None
    compile: bool = False

    name: ClassVar[str] = "condensed"
    takes: ClassVar[frozenset[str]] = Distiller.takes

    def __call__(
        self, pool: ClassPool, budget: Budget | int, *, seed: int = 0, seconds: float | None = None, **how: Any
    ) -> CondensedSet:
        """Condense.

        Args:
            seconds: a limit for everything. Networks and steps are planned for it from the speed of a few training steps, so that
                little time gives a smaller bank and fewer steps instead of ones that are cut short (`within`).
            how: what `Distiller` takes besides.
        """
        started, method = time.perf_counter(), self.method(pool, budget)
        if seconds is not None:
            method = within(method, pool, Budget.of(budget), seconds)
            seconds = max(0.0, seconds - (time.perf_counter() - started))
        return method(pool, budget, seed=seed, seconds=seconds, **how)

    def method(self, pool: ClassPool, budget: Budget | int) -> Distiller:
        """What it condenses this pool with."""
        strategy = self.strategy or pool.augmentation or NATURAL
        made = practical(budget, self.net, shape=pool.shape, strategy=strategy)
        return replace(made, codec=self.codec, compile=self.compile)

    def stored_by(self, codec: Codec) -> Practical:
        """The same with another codec."""
        return replace(self, codec=codec)

    def knowing(self, model: nn.Module) -> Practical:
        """The same, with a strategy's own network to look, where none is named, copies of it can be made, and it is small."""
        if self.net is not None or sum(weight.numel() for weight in model.parameters()) > WEIGHTS:
            return self
        try:
            return replace(self, net=as_factory(model))
        except (TypeError, ValueError) as error:
            log.info("the strategy's own network does not look at the images: %s", error)
            return self

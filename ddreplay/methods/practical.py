"""What condenses where nobody names a method: no paper, but what is good for the budget in minutes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from ddreplay.augment import NATURAL
from ddreplay.backbones import MLP, ConvNet, Net, as_factory
from ddreplay.condense.distiller import Distiller
from ddreplay.data.pool import ClassPool
from ddreplay.data.space import Shape
from ddreplay.methods.distribution import dm
from ddreplay.networks import Banked
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import Codec
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["Practical", "practical"]

log = logging.getLogger(__name__)

SMALLEST = 4  # pixels of the shorter side that a ConvNet of two blocks takes
WEIGHTS = 100_000  # of a network that looks as fast as the default one
WIDTH = 32  # of the ConvNet that looks; more width takes more time than it gives in a bank


def practical(
    budget: Budget | int, net: Net | None = None, *, shape: Shape | None = None, strategy: str = NATURAL
) -> Distiller:
    """The practical default: distribution matching under a bank of networks.

    One and the same in the command line, in `ddreplay.CondensedMemory` and in ``ddreplay.avalanche.CondensedBuffer``, where no method is
    named. For a budget in bytes, networks know the real images a little, and images are condensed through AVIF, as many as fit at a low
    quality, which trials on held-out images of CIFAR-10 preferred (docs/results.md). For a budget in images, networks are new: training
    them took as long again and gained nothing (CIFAR-10, 10 images per class, two networks of width 32, 300 epochs, seconds of one
    processor: random images 24.0 %; 20 new networks and 400 steps 37.6 %, 67 s; trained for up to 300 steps 38.0 %, 154 s; 10 networks
    and 200 steps 34.7 %, 41 s).

    Args:
        budget: What the set may take; an int: images per class.
        net: Looks at the images; ``None``: a ConvNet of width 32, depth by image size.
        shape: The shape of the images, (channels, height, width): larger ones get a smaller bank. ``None``: as for 32 x 32 pixels.
        strategy: DSA operations.
    Example:
        >>> practical(2, shape=(1, 8, 8))(toy_pool(), 2).stored_images
        6
    """
    budget = Budget.of(budget)
    net = ConvNet(width=WIDTH) if net is None else net
    if budget.in_bytes:
        networks, steps = Banked(size=10, trained=100), 100
    else:
        large = shape is not None and min(shape[1:]) > 32
        networks, steps = Banked(size=10 if large else 20), 200 if large else 400
    return dm(net, networks=networks, steps=steps, lr=0.4, per_image=True, strategy=strategy)


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

    takes: ClassVar[frozenset[str]] = Distiller.takes

    def __call__(self, pool: ClassPool, budget: Budget | int, *, seed: int = 0, **how: Any) -> CondensedSet:
        """Condense; ``how``: what `Distiller` takes besides."""
        return self.method(pool, budget)(pool, budget, seed=seed, **how)

    def method(self, pool: ClassPool, budget: Budget | int) -> Distiller:
        """What it condenses this pool with."""
        small = (
            MLP(width=128) if min(pool.shape[1:]) < SMALLEST else None
        )  # vectors, and images that a ConvNet halves to nothing
        made = practical(
            budget, self.net or small, shape=pool.shape, strategy=self.strategy or pool.augmentation or NATURAL
        )
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

"""What condenses where nobody names a method: no paper, but the best for the budget in minutes."""

from __future__ import annotations

from ddreplay.augment import NATURAL
from ddreplay.backbones import ConvNet, Net
from ddreplay.condense.distiller import Distiller
from ddreplay.data.space import Shape
from ddreplay.methods.distribution import dm
from ddreplay.networks import Banked
from ddreplay.storage.budget import Budget

__all__ = ["practical"]

WIDTH = 32  # of the ConvNet that looks; more width takes more time than it gives in a bank


def practical(
    budget: Budget | int, net: Net | None = None, *, shape: Shape | None = None, strategy: str = NATURAL
) -> Distiller:
    """The practical default: distribution matching under a bank of networks that know the real images a little.

    One and the same in the command line, in `ddreplay.CondensedMemory` and in ``ddreplay.avalanche.CondensedBuffer``, where no method is
    named. For a budget in bytes, images are condensed through AVIF, as many as fit at a low quality, which trials on held-out images of
    CIFAR-10 preferred (docs/results.md).

    Args:
        budget: what the set may take; an int: images per class.
        net: looks at the images; ``None``: a ConvNet of width 32, depth by image size.
        shape: of the images, (channels, height, width): larger ones get a smaller bank. ``None``: as for 32 x 32 pixels.
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
        networks, steps = Banked(size=10 if large else 20, images=256, trained=100), 200 if large else 400
    return dm(net, networks=networks, steps=steps, lr=0.4, per_image=True, strategy=strategy)

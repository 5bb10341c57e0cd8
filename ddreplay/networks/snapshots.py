"""Networks that somebody else trained, as a bank."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from torch import nn

from ddreplay.backbones import NetFactory, find_classifier
from ddreplay.data.space import Shape
from ddreplay.networks.bank import Bank, check_bankable
from ddreplay.networks.growing import Grown
from ddreplay.networks.source import Context, Networks
from ddreplay.randomness import Random

__all__ = ["Snapshots"]


@dataclass(frozen=True)
class Snapshots:
    """A bank of ready networks, such as the one that learns a stream, copied now and then while it trains (Ours).

    Every network is an entry with one augmentation draw and the objective's statistic of real images under both, as in `Banked`;
    nothing is trained. The networks are copied when this is made: what happens to the originals later changes nothing. Like all
    networks of a bank they look in train mode, on the pool's device.

    Their outputs need not be the pool's classes for an objective of embeddings, such as `MeanEmbedding`. An objective that reads what
    a network says of an image needs the known classes as outputs, in the order of their ids.

    Args:
        nets: The networks. Each takes images of the pool's shape and ends in a linear layer; architectures may differ.
        images: The number of real images per class in an entry's statistic; ``None``: all of them.
    Raises:
        TypeError: when ``nets`` is a network, or holds something else.
        ValueError: when there is none. When condensing begins: for a network that does not take the pool's images, runs no linear
            layer, or has other outputs than an objective needs that reads them.
    Example:
        >>> from ddreplay import ConvNet, dm
        >>> nets = [ConvNet(width=8)((1, 8, 8), 10) for _ in range(2)]
        >>> dm(networks=Snapshots(nets), steps=2)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """

    nets: Sequence[nn.Module]
    _: KW_ONLY
    images: int | None = 512

    refresh: ClassVar[None] = None

    def __post_init__(self) -> None:
        if isinstance(self.nets, nn.Module) or not all(isinstance(net, nn.Module) for net in self.nets):
            one = isinstance(self.nets, nn.Module)
            what = type(self.nets).__name__ if one else [type(net).__name__ for net in self.nets]
            raise TypeError(f"nets must be a list of networks, got {what}; for one network write Snapshots([net])")
        if not self.nets:
            raise ValueError("nets must hold at least 1 network, got none; use Banked(net), which makes its own")
        if self.images is not None and self.images < 1:
            raise ValueError(f"images must be at least 1 per class, or None for all of them, got {self.images}")
        object.__setattr__(self, "nets", tuple(copy.deepcopy(net) for net in self.nets))

    @property
    def net(self) -> NetFactory:
        """Makes copies of the first network, which have the sizes that an objective may ask for."""
        return self._first

    def _first(self, shape: Shape, classes: int) -> nn.Module:
        return copy.deepcopy(self.nets[0])

    def start(self, context: Context) -> Networks:
        return self.build(context).start(context)

    def build(self, context: Context) -> Bank:
        """The bank for this pool, objective and augmentation; it is a source too, and serves several budgets.

        Raises:
            ValueError: when the objective's real side is not the same at every step, or a network does not fit.
        """
        check_bankable(context)
        for k, net in enumerate(self.nets):
            _check_fit(k, net, context)
        count = len(self.nets)
        return Bank(self, context, [context.random.seed() for _ in range(count)], count, _Copies(self.nets, context))


class _Copies:
    """Every entry is a copy of a network that was given."""

    def __init__(self, nets: Sequence[nn.Module], context: Context) -> None:
        self.nets, self.context = nets, context

    def __call__(self, position: int, seeds: Sequence[int], stop: Callable[[], bool] | None) -> Grown:
        net = copy.deepcopy(self.nets[position]).to(self.context.pool.device).train()
        net.requires_grad_(self.context.objective.weight_gradients)
        return Grown(net, seeds[position], Random(seeds[position], self.context.pool.device))

    def forget(self, run: int) -> None:
        """Nothing is kept."""

    def kept(self) -> Sequence[nn.Module]:
        return ()


def _check_fit(k: int, net: nn.Module, context: Context) -> None:
    kind, shape, known = type(net).__name__, context.pool.shape, max(2, context.pool.classes)
    try:
        classifier = net.get_submodule(find_classifier(net, shape))
    except Exception as error:
        raise ValueError(
            f"nets[{k}], a {kind}, does not take the pool's images of shape {shape} (channels, height, width): {error}; give networks "
            "that were made for such images and end in a linear layer"
        ) from error
    outputs = classifier.out_features if isinstance(classifier, nn.Linear) else None
    if context.objective.discriminative and outputs != known:
        raise ValueError(
            f"nets[{k}], a {kind}, has {outputs} outputs, and the objective reads them as the {known} classes that are known; use an "
            "objective of embeddings, such as MeanEmbedding, or Banked(net)"
        )

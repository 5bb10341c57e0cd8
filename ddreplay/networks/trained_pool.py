"""A few networks of different ages, each trained on the synthetic set a step at a time."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch
from torch import nn

from ddreplay.augment.siamese import Augment, Identity
from ddreplay.backbones import Net
from ddreplay.networks.source import Context, Networks
from ddreplay.objectives.side import Look
from ddreplay.objectives.term import Statistic
from ddreplay.randomness import Random
from ddreplay.training import ByOptimizer, LabelledImages, Shuffled, learnable, squared_error, train_network

__all__ = ["TrainedPool"]


@dataclass(frozen=True)
class TrainedPool:
    """A pool of networks that learn from the synthetic set while it moves (FRePo).

    At every image step one network, chosen at random, looks; then it is trained for one step on the synthetic images and their labels,
    learned ones where there are any, by Adam on the squared error. After ``steps`` of them a new network takes its place. The first
    networks are replaced after fewer, one after the other, so that ages differ.

    Args:
        net: Makes a randomly initialised network; ``None``: the network of the method that this is part of.
        size: The number of networks.
        steps: The training steps after which a network is replaced.
        lr: The step size of their training.
        batch_size: The number of images in a training step, drawn anew; the whole set where it is smaller.
        augment: What training images undergo: one draw per batch, magnitudes for each image.
    Raises:
        ValueError: for counts out of range.
    Departures: a network has ``steps`` training steps and as many looks; the released code replaces it at its hundred and second look,
        after one step more.
    Reference: Zhou, Nezhadarya and Ba, "Dataset Distillation using Neural Feature Regression", NeurIPS 2022, Algorithm 1.
    """

    net: Net | None = None
    _: KW_ONLY
    size: int = 10
    steps: int = 100
    lr: float = 3e-4
    batch_size: int = 1000
    augment: Augment = field(default=Identity())

    def __post_init__(self) -> None:
        if min(self.size, self.steps, self.batch_size) < 1:
            raise ValueError(
                f"size, steps and batch_size must be at least 1, got {self.size}, {self.steps} and {self.batch_size}"
            )

    def start(self, context: Context) -> Networks:
        return _PoolOfNetworks(self, context)


class _PoolOfNetworks:
    """ages: the training steps that each network counts as having had."""

    def __init__(self, source: TrainedPool, context: Context) -> None:
        self.source, self.context = source, context
        self.nets: list[nn.Module] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        for _ in range(source.size):
            self._place(len(self.nets), context.network(source.net))
        self.ages = [k * source.steps // source.size for k in range(source.size)]
        self.shown, self.chosen = 0, 0

    def _place(self, position: int, net: nn.Module) -> None:
        self.nets[position : position + 1] = [net]
        self.optimizers[position : position + 1] = [torch.optim.Adam(net.parameters(), lr=self.source.lr)]

    def show(self) -> tuple[Look, Statistic]:
        self.chosen = self.context.random.integer(self.source.size)
        look = self.context.look(self.nets[self.chosen], round=self.shown, step=self.ages[self.chosen])
        self.shown += 1
        return look, self.context.statistic(look)

    def moved(self) -> None:
        k, source, random = self.chosen, self.source, self.context.random
        batch = self.context.syn()
        with random.scope(), learnable(self.nets[k]):
            train_network(
                self.nets[k],
                LabelledImages.of_batch(batch),
                Shuffled(source.batch_size, images=source.batch_size),
                ByOptimizer(self.optimizers[k]),
                random,
                augment=source.augment,
                compile=self.context.compile,
                loss=squared_error,
            )
        self.ages[k] += 1
        if self.ages[k] >= source.steps:
            self._place(k, self.context.network(source.net))
            self.ages[k] = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "shown": self.shown,
            "ages": list(self.ages),
            "nets": [net.state_dict() for net in self.nets],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.shown, self.ages = state["shown"], list(state["ages"])
        for k in range(self.source.size):
            self._place(k, self.context.network(self.source.net, Random(0, self.context.pool.device)))
            self.nets[k].load_state_dict(state["nets"][k])
            self.optimizers[k].load_state_dict(state["optimizers"][k])

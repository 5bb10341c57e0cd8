"""Networks that are trained on real images while the synthetic ones move."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch
from torch import nn

from ddreplay.augment.mixing import Mix
from ddreplay.augment.siamese import Augment, Identity
from ddreplay.backbones import Net, has_batchnorm, settle_batchnorm
from ddreplay.networks.source import Context, Networks
from ddreplay.networks.trained_on_synthetic import BATCHNORM_IMAGES
from ddreplay.objectives.side import Look
from ddreplay.objectives.term import Statistic
from ddreplay.randomness import Random
from ddreplay.training import ByOptimizer, LabelledImages, Shuffled, learnable, train_network

__all__ = [
    "TrainedOnReal",
]


@dataclass(frozen=True)
class TrainedOnReal:
    """A network is shown several times and trained on real images in between (IDC, DREAM).

    Args:
        net: Makes a randomly initialised network; ``None``: the network of the method that this is part of.
        steps: The number of image steps that a network sees; then a new one begins.
        images: The number of real images that it is trained on after each of them, drawn from the pool without replacement.
        batch_size: The number of images in a training batch.
        lr: The step size of that training by SGD.
        momentum: The momentum of that training; it lives as long as the network.
        weight_decay: The weight decay of that training.
        augment: What training images undergo: one draw per batch, magnitudes for each image.
        mix: What a training batch undergoes after that; ``None``: it is not mixed.
    Raises:
        ValueError: for counts out of range.
    Reference: Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022, Sec. 4.2.
    """

    net: Net | None = None
    _: KW_ONLY
    steps: int = 100
    images: int = 2000
    batch_size: int = 64
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: Augment = field(default=Identity())
    mix: Mix | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.images < 0:
            raise ValueError(
                "steps and batch_size must be at least 1 and images at least 0, got "
                f"{self.steps}, {self.batch_size} and {self.images}"
            )

    def start(self, context: Context) -> Networks:
        return _RealNetworks(self, context)


@dataclass
class _Trainee:
    """A network and its optimiser."""

    net: nn.Module
    optimizer: torch.optim.SGD


class _RealNetworks:
    def __init__(self, source: TrainedOnReal, context: Context) -> None:
        self.source, self.context = source, context
        self.round, self.step = 0, 0
        self.trainee: _Trainee | None = None
        self.images = LabelledImages.of_pool(context.pool)

    def show(self) -> tuple[Look, Statistic]:
        trainee = self.trainee = self.trainee or self._begin(self.context.random)
        if has_batchnorm(trainee.net):
            settle_batchnorm(trainee.net, self.context.pool.draw(BATCHNORM_IMAGES, self.context.random).x)
        look = self.context.look(trainee.net, round=self.round, step=self.step)
        return look, self.context.statistic(look)

    def moved(self) -> None:
        self.step += 1
        if self.step == self.source.steps:
            self.round, self.step, self.trainee = self.round + 1, 0, None
        elif self.trainee is not None:
            self._train(self.trainee)

    def _begin(self, random: Random) -> _Trainee:
        source, net = self.source, self.context.network(self.source.net, random)
        optimizer = torch.optim.SGD(
            net.parameters(), lr=source.lr, momentum=source.momentum, weight_decay=source.weight_decay
        )
        return _Trainee(net, optimizer)

    def _train(self, trainee: _Trainee) -> None:
        source, random = self.source, self.context.random
        order, descend = Shuffled(source.batch_size, source.images), ByOptimizer(trainee.optimizer)
        with random.scope(), learnable(trainee.net):
            how: dict[str, Any] = {"augment": source.augment, "mix": source.mix, "compile": self.context.compile}
            train_network(trainee.net, self.images, order, descend, random, **how)

    def state_dict(self) -> dict[str, Any]:
        trainee = self.trainee
        saved = None if trainee is None else (trainee.net.state_dict(), trainee.optimizer.state_dict())
        return {"round": self.round, "step": self.step, "trainee": saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.round, self.step, self.trainee = state["round"], state["step"], None
        if state["trainee"] is not None:
            self.trainee = self._begin(Random(0, self.context.pool.device))
            self.trainee.net.load_state_dict(state["trainee"][0])
            self.trainee.optimizer.load_state_dict(state["trainee"][1])

"""A queue of networks of different ages, trained on real data while the images move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from ddreplay.backbones import Net
from ddreplay.networks.source import Context, Networks
from ddreplay.objectives.side import Look
from ddreplay.objectives.term import Statistic
from ddreplay.randomness import Random
from ddreplay.training import ByOptimizer, LabelledImages, WithReplacement, learnable, train_network

__all__ = [
    "ModelQueue",
    "Pretrained",
]

_Trains = Literal["drawn", "shown"]


@dataclass(frozen=True)
class Pretrained:
    """Networks start trained: every push takes one of a few networks that were trained on real data before.

    So that copies of one network differ, each gets its own learning rate and goes on training on its own random subset of classes.

    Args:
        networks: The number of networks that are trained before the first image step.
        steps: The number of training steps that each of them has had.
        vary_lr: The largest relative distance of a network's learning rate from the nominal one, in [0, 1).
        class_share: The share of the classes in a subset, in (0, 1]; their number is rounded, and at least one.
    Raises:
        ValueError: for a count or share out of range.
    Reference: Zhao et al., "Improved Distribution Matching for Dataset Condensation", CVPR 2023, supplement, Sec. 3 (the size of a
    subset is not given there).
    """

    networks: int = 5
    steps: int = 1000
    vary_lr: float = 0.1
    class_share: float = 0.5

    def __post_init__(self) -> None:
        if self.networks < 1 or self.steps < 0:
            raise ValueError(f"networks must be at least 1 and steps at least 0, got {self.networks} and {self.steps}")
        if not 0 < self.class_share <= 1 or not 0 <= self.vary_lr < 1:
            raise ValueError(
                f"class_share must lie in (0, 1] and vary_lr in [0, 1), got {self.class_share} and {self.vary_lr}"
            )


@dataclass(frozen=True)
class ModelQueue:
    """A queue of networks that are trained on real data while the images move (IDM).

    It starts with ``start_with`` new networks. Every ``push_interval`` image steps, the first included, a new one is pushed; a
    queue of ``size`` networks loses its oldest first. At every image step one network, chosen at random, looks; then ``fetch``
    networks, chosen at random, are trained for ``train_steps`` steps each, on real images of all classes drawn uniformly and not
    augmented. A network knows its running accuracy on the batches it was trained on (`Look.accuracy`).

    Args:
        net: Makes a randomly initialised network; ``None``: the network of the method that this is part of.
        start_with: The number of networks in the queue before the first image step.
        size: The largest number of networks in the queue.
        push_interval: The number of image steps from one push to the next.
        train_steps: The number of training steps of every fetched network after an image step.
        fetch: The number of networks that are trained after an image step.
        trains: ``"drawn"``: those are drawn anew, as in the released code; ``"shown"``: the network that looked is trained, and no
            other, as in the paper's Algorithm 1.
        lr: The step size of their training by SGD.
        momentum: The momentum of that training; it lives as long as the network.
        weight_decay: The weight decay of that training.
        batch_size: The number of images in a training batch.
        meter_interval: The number of image steps after which running accuracies start anew, as the released code does at every
            evaluation of the images; ``None``: never.
        pretrained: How networks are trained before they are pushed; ``None``: new networks are pushed.
    Raises:
        ValueError: for a count out of range.
    Departures: the paper trains the network that looked, K steps; the default follows the released code. Training batches are drawn with
        replacement. Networks look in eval mode, as in the released code.
    Reference: Zhao et al., "Improved Distribution Matching for Dataset Condensation", CVPR 2023, Sec. 4.2.
    """

    net: Net | None = None
    _: KW_ONLY
    start_with: int = 3
    size: int = 100
    push_interval: int = 30
    train_steps: int = 10
    fetch: int = 2
    trains: _Trains = "drawn"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    meter_interval: int | None = 100
    pretrained: Pretrained | None = None

    def __post_init__(self) -> None:
        if self.start_with < 1 or self.size < 1 or self.push_interval < 1 or self.batch_size < 1:
            raise ValueError(
                "start_with, size, push_interval and batch_size must be at least 1, got "
                f"{self.start_with}, {self.size}, {self.push_interval} and {self.batch_size}"
            )
        if self.fetch < 0 or self.train_steps < 0:
            raise ValueError(f"fetch and train_steps must be at least 0, got {self.fetch} and {self.train_steps}")
        if self.trains not in get_args(_Trains):
            raise ValueError(f"trains must be 'drawn' or 'shown', got {self.trains!r}")
        if self.meter_interval is not None and self.meter_interval < 1:
            raise ValueError(f"meter_interval must be at least 1 or None, got {self.meter_interval}")

    def start(self, context: Context) -> Networks:
        return QueuedNetworks(self, context)


class Queued:
    """A network in the queue, its optimiser and its meter.

    lr: The network's own step size. rows: The rows of the pool that it is trained on; ``None``: all. steps: The training steps it has
    had. hits: The number of right answers since the meter was cleared. seen: The number of images since then.
    """

    def __init__(self, net: nn.Module, source: ModelQueue, lr: float, rows: Int64[Tensor, " n"] | None = None) -> None:
        self.net, self.lr, self.rows, self.steps = net, lr, rows, 0
        self.optimizer = torch.optim.SGD(
            net.parameters(), lr=lr, momentum=source.momentum, weight_decay=source.weight_decay
        )
        self.clear()

    @property
    def accuracy(self) -> Tensor:
        """Running accuracy in [0, 1], 0 if nothing was seen; a scalar on the device."""
        return self.hits / max(self.seen, 1)

    def clear(self) -> None:
        """Empty the meter."""
        self.hits, self.seen = torch.zeros((), device=next(self.net.parameters()).device), 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr": self.lr,
            "rows": self.rows,
            "steps": self.steps,
            "hits": self.hits,
            "seen": self.seen,
        }


class QueuedNetworks:
    """A model queue at work.

    queue: The networks from the oldest to the newest. pushed: The number of networks pushed since the start. popped: The number of
    networks lost since then. trained: The weights of pretrained networks.
    """

    def __init__(self, source: ModelQueue, context: Context) -> None:
        self.source, self.context = source, context
        self.step, self.pushed, self.popped = 0, 0, 0
        self.labels = context.pool.all_labels()
        self.trained: list[dict[str, Any]] = []
        if source.pretrained is not None:
            self._pretrain(source.pretrained)
        self.queue: list[Queued] = []
        self.shown: Queued | None = None
        for _ in range(source.start_with):
            self._push()

    def show(self) -> tuple[Look, Statistic]:
        source = self.source
        if self.step % source.push_interval == 0:
            if len(self.queue) >= source.size:
                self.queue.pop(0)
                self.popped += 1
            self._push()
        if source.meter_interval is not None and self.step % source.meter_interval == 0:
            for queued in self.queue:
                queued.clear()
        chosen = self.shown = self.queue[self.context.random.integer(len(self.queue))]
        look = self.context.look(chosen.net.eval(), round=self.step, accuracy=chosen.accuracy)
        return look, self.context.statistic(look)

    def moved(self) -> None:
        self.step += 1
        if self.source.trains == "shown":
            if self.shown is not None:
                self._train(self.shown, self.source.train_steps)
            return
        order = torch.randperm(len(self.queue), generator=self.context.random.cpu)
        for position in order[: self.source.fetch].tolist():
            self._train(self.queue[position], self.source.train_steps)

    def _push(self) -> None:
        source, random, pool = self.source, self.context.random, self.context.pool
        net = self.context.network(source.net)
        queued = Queued(net, source, source.lr)
        if source.pretrained is not None:
            how = source.pretrained
            count = max(1, round(how.class_share * pool.classes))
            subset = torch.randperm(pool.classes, generator=random.device, device=pool.device)[:count]
            rows = torch.isin(self.labels, subset).nonzero()[:, 0]
            queued = Queued(net, source, source.lr * random.uniform(1 - how.vary_lr, 1 + how.vary_lr), rows)
            net.load_state_dict(self.trained[random.integer(len(self.trained))])
        self.queue.append(queued)
        self.pushed += 1

    def _pretrain(self, how: Pretrained) -> None:
        context = self.context
        for k in range(how.networks):
            queued = Queued(context.network(self.source.net), self.source, self.source.lr)
            self._train(queued, how.steps, context.stop)
            self.trained.append(queued.net.state_dict())
            if context.on_network is not None:
                context.on_network(k + 1, how.networks)

    def _train(self, queued: Queued, steps: int, stop: Callable[[], bool] | None = None) -> None:
        pool, random = self.context.pool, self.context.random
        images = LabelledImages(pool.rows, self.labels, pool.classes)
        images = images if queued.rows is None else images.among(queued.rows)
        order = WithReplacement(steps, self.source.batch_size)
        hits = torch.zeros_like(queued.hits)

        def count(logits: Tensor, truth: Tensor) -> None:
            hits.add_((logits.argmax(1) == truth).sum())

        with random.scope(), learnable(queued.net):
            steps = train_network(
                queued.net,
                images,
                order,
                ByOptimizer(queued.optimizer),
                random,
                compile=self.context.compile,
                on_step=count,
                stop=stop,
            )
        queued.hits = queued.hits + hits
        queued.seen, queued.steps = queued.seen + steps * self.source.batch_size, queued.steps + steps

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "pushed": self.pushed,
            "popped": self.popped,
            "trained": self.trained,
            "queue": [queued.state_dict() for queued in self.queue],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.pushed, self.popped = state["step"], state["pushed"], state["popped"]
        self.trained = state["trained"]
        self.queue = [self._restored(entry) for entry in state["queue"]]

    def _restored(self, entry: dict[str, Any]) -> Queued:
        net = self.context.network(self.source.net, Random(0, self.context.pool.device))
        queued = Queued(net, self.source, entry["lr"], entry["rows"])
        net.load_state_dict(entry["net"])
        queued.optimizer.load_state_dict(entry["optimizer"])
        queued.hits, queued.seen, queued.steps = entry["hits"], entry["seen"], entry["steps"]
        return queued

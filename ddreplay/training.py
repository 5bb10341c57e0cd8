"""Training a network on labelled images: the one loop, and the small parts in which its users differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ddreplay.augment.mixing import Mix
from ddreplay.augment.siamese import Augment, Identity
from ddreplay.backbones import draws_itself, mixes_images
from ddreplay.backbones.capturing import captured
from ddreplay.backbones.compiling import Forward, compiled, plain
from ddreplay.data.chunks import in_memory
from ddreplay.data.pool import Batch, ClassPool
from ddreplay.randomness import Random

__all__ = [
    "Descend",
    "LabelledImages",
    "Order",
    "Shuffled",
    "WithReplacement",
    "ByOptimizer",
    "learnable",
    "PlainSGD",
    "squared_error",
    "train_network",
]


@runtime_checkable
class Descend(Protocol):
    """Takes one step down the gradient of a loss."""

    def __call__(self, loss: Tensor) -> None:
        """From a loss that has a graph."""

    def along(self, weights: Sequence[nn.Parameter], gradient: Sequence[Tensor]) -> None:
        """The same step, from the gradient of these weights itself, which lies in memory that the next step writes anew."""


@dataclass(frozen=True)
class LabelledImages:
    """Images that are looked up by row, and the label of each.

    Attributes:
        at: from rows, int64 [n], to images in network space, float [n, c, h, w].
        labels: one per row, int64 [rows] or soft [rows, classes].
        classes: the columns of mixed labels; ``None``: as many as the labels say, which is asked only where labels are mixed.
    """

    at: Callable[[Tensor], Tensor]
    labels: Tensor
    classes: int | None = None

    @classmethod
    def of_pool(cls, pool: ClassPool) -> LabelledImages:
        """All images of a pool, normalised when they are looked up; labels are class positions."""
        return cls(pool.rows, pool.all_labels(), pool.classes)

    @classmethod
    def of_batch(cls, batch: Batch) -> LabelledImages:
        """The images of a batch, whose labels may be soft."""
        return cls(batch.x.__getitem__, batch.y)

    def among(self, rows: Int64[Tensor, " n"]) -> LabelledImages:
        """These rows alone, counted from 0."""
        at = self.at
        return LabelledImages(lambda index: at(rows[index]), self.labels[rows], self.classes)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def columns(self) -> int:
        """How many columns mixed labels have; where the labels say it, they are read once."""
        if self.classes is not None:
            return self.classes
        return self.labels.shape[1] if self.labels.dim() == 2 else int(self.labels.max()) + 1


@runtime_checkable
class Order(Protocol):
    """Which rows make up the batches of one epoch."""

    def __call__(self, n: int, random: Random) -> Iterable[Tensor]:
        """The rows of one batch after the other, int64 [batch], out of 0 .. n - 1."""


@dataclass(frozen=True)
class WithReplacement:
    """An epoch of ``steps`` batches; each of their ``batch_size`` images is drawn uniformly from all, with replacement."""

    steps: int
    batch_size: int

    def __call__(self, n: int, random: Random) -> Iterator[Tensor]:
        for _ in range(self.steps):
            yield torch.randint(n, (self.batch_size,), generator=random.device, device=random.device.device)


@dataclass(frozen=True)
class Shuffled:
    """An epoch of all images in random order, in batches of ``batch_size``; the last batch holds what is left.

    images: how many of them an epoch takes, the first in its order; ``None``: all.
    """

    batch_size: int
    images: int | None = None

    def __call__(self, n: int, random: Random) -> Iterator[Tensor]:
        order = torch.randperm(n, generator=random.device, device=random.device.device)[: self.images]
        yield from order.split(self.batch_size) if len(order) else ()


Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits, float [n, classes], and labels, int64 [n] or float [n, classes], to a number."""


def squared_error(logits: Float[Tensor, "n classes"], y: Tensor) -> Float[Tensor, ""]:
    """Half the squared distance of a network's outputs to their targets, a mean over images.

    Of a class, the targets are its one-hot label less 1/C.

    Args:
        y: int64 [n], or targets, float [n, classes].
    """
    classes = logits.shape[1]
    targets = F.one_hot(y, classes).to(logits) - 1 / classes if y.dim() == 1 else y
    return 0.5 * (logits - targets).square().sum(1).mean()


@dataclass(frozen=True)
class ByOptimizer:
    """A step of an optimiser."""

    optimizer: torch.optim.Optimizer

    def __call__(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def along(self, weights: Sequence[nn.Parameter], gradient: Sequence[Tensor]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        for weight, g in zip(weights, gradient, strict=True):
            weight.grad = g
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


class PlainSGD:
    """A step of ``lr`` times the gradient, without momentum; no gradient is kept, and a weight that the loss does not reach stays."""

    def __init__(self, net: nn.Module, lr: float) -> None:
        self.weights, self.lr = list(net.parameters()), lr
        self.moves = {id(weight) for weight in self.weights}

    def __call__(self, loss: Tensor) -> None:
        learned = [weight for weight in self.weights if weight.requires_grad]
        gradient = torch.autograd.grad(loss, learned, allow_unused=True)
        reached = [(weight, g) for weight, g in zip(learned, gradient, strict=True) if g is not None]
        self.along([weight for weight, _ in reached], [g for _, g in reached])

    def along(self, weights: Sequence[nn.Parameter], gradient: Sequence[Tensor]) -> None:
        own = [(weight, g) for weight, g in zip(weights, gradient, strict=True) if id(weight) in self.moves]
        with torch.no_grad():
            torch._foreach_add_([weight for weight, _ in own], [g for _, g in own], alpha=-self.lr)


_REPLAYED: tuple[Loss, ...] = (F.cross_entropy, squared_error)
"""Losses that do the same at all times, which another one need not."""


@contextmanager
def learnable(net: nn.Module) -> Iterator[None]:
    """Within it every weight of a network takes part in training; after it, each is as it was, and gradients are freed."""
    needed = [weight.requires_grad for weight in net.parameters()]
    net.requires_grad_(True)
    try:
        yield
    finally:
        for weight, before in zip(net.parameters(), needed, strict=True):
            weight.requires_grad_(before).grad = None


def train_network(
    net: nn.Module,
    images: LabelledImages,
    order: Order,
    descend: Descend,
    random: Random,
    *,
    epochs: int = 1,
    augment: Augment = Identity(),
    mix: Mix | None = None,
    compile: bool = False,
    pieces: int | None = None,
    loss: Loss = F.cross_entropy,
    on_step: Callable[[Tensor, Tensor], None] | None = None,
    on_epoch: Callable[[int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> int:
    """Train a network in place by the loss of labelled images, by default their cross-entropy; gives the number of steps taken.

    Rows are drawn, their images augmented, then mixed; every draw comes from ``random``. What a network draws by itself (dropout)
    comes from the global generators, so callers wrap this in ``random.scope()``. The network is left in train mode.

    Args:
        images: the images and their labels.
        order: which of them make up the batches of an epoch.
        descend: what one step does to the weights (`ByOptimizer`, `PlainSGD`).
        epochs: how often ``order`` is asked for its batches.
        augment: what images undergo: one draw per batch, magnitudes for each image.
        mix: what a batch undergoes after that; its labels become soft.
        compile: run the network through ``torch.compile``, where that can be done.
        pieces: images of a batch that pass at once; their gradients are added, which changes rounding alone. On a CPU pieces of 25 to
            32 images, which stay in its caches, take two thirds of the time of a batch of 100. ``None``: all; so it is, too, for a network
            that mixes the images of a batch (batch norm) or draws by itself (dropout).
        loss: what a step descends. A GPU replays steps of cross-entropy and squared error, and runs those of another loss.
        on_step: called after every step with the batch's logits before the step, float [n, classes], and its labels.
        on_epoch: called after every whole epoch with its number, from 0: the place for a learning-rate schedule.
        stop: asked before every step; true ends the training there.
    """
    if not isinstance(descend, Descend):
        raise TypeError(f"descend must be a Descend, such as PlainSGD(net, lr), got {type(descend).__name__}")
    forward, steps = compiled() if compile else plain, 0
    net.train()
    whole = mixes_images(net) or draws_itself(net)
    take = _Step(net, descend, forward, loss)
    with torch.enable_grad():
        for epoch in range(epochs):
            for rows in order(len(images), random):
                if stop is not None and stop():
                    return steps
                batch = _seen(images, rows, augment, mix, random)
                take.ready()
                if whole:
                    logits = take(batch)
                else:
                    logits, pieces = take.in_memory(batch, pieces)
                steps += 1
                if on_step is not None:
                    on_step(logits, batch.y)
            if on_epoch is not None:
                on_epoch(epoch)
    return steps


def _seen(images: LabelledImages, rows: Tensor, augment: Augment, mix: Mix | None, random: Random) -> Batch:
    """A batch as the network sees it."""
    x = images.at(rows)
    shape, n = (x.shape[1], x.shape[2], x.shape[3]), len(rows)
    batch = Batch(augment.draw(shape, random, n=n)(x), images.labels[rows])
    return batch if mix is None else mix.draw(shape, random, n=n).mix(batch, images.columns)


class _Step:
    """One step of a network's training after the other, on a GPU replayed."""

    def __init__(self, net: nn.Module, descend: Descend, forward: Forward, loss: Loss) -> None:
        self.net, self.descend, self.forward, self.loss = net, descend, forward, loss
        self.of_loss = _LossGradient(loss, forward)
        self._all = list(net.parameters())
        self._look_again()

    def _look_again(self) -> None:
        self.flags = [weight.requires_grad for weight in self._all]
        self.weights = [weight for weight in self._all if weight.requires_grad]
        one = captured()
        serves = self.weights and self.loss in _REPLAYED and one.serves(self.net, self.weights[0].device)
        self.replayed = one.of(self.net) if serves else None

    def ready(self) -> None:
        """Called before a step: which weights are learned may have changed since the last one."""
        if self.flags != [weight.requires_grad for weight in self._all]:
            self._look_again()

    def __call__(self, batch: Batch) -> Tensor:
        """Takes a step; gives the logits before it."""
        if self.replayed is not None:
            _, logits, *gradient = self.replayed(self.of_loss, batch.x, batch.y)
            self.descend.along(self.weights, gradient)
            return logits.clone()
        logits = self.forward(self.net, batch.x)
        self.descend(self.loss(logits, batch.y))
        return logits.detach()

    def in_memory(self, batch: Batch, pieces: int | None) -> tuple[Tensor, int | None]:
        """A step with so many images at once, or half as many as often as memory asks; and with how many at once."""
        size = min(pieces or len(batch.x), len(batch.x))
        weights = [weight._version for weight in self.weights]

        def attempt(chunk: int) -> Tensor:
            if [weight._version for weight in self.weights] != weights:
                raise torch.OutOfMemoryError("while the weights moved, which smaller pieces would not help")
            return self.by_pieces(batch, chunk) if chunk < len(batch.x) else self(batch)

        logits, fitting = in_memory(attempt, size, batch.x.device)
        return logits, pieces if fitting == size else fitting

    def by_pieces(self, batch: Batch, size: int) -> Tensor:
        """The same step, whose gradient is added up over pieces of the batch: for a loss that is a mean over images."""
        seen, total = list[Tensor](), list[Tensor]()
        for x, y in zip(batch.x.split(size), batch.y.split(size), strict=True):
            # a last smaller piece would be compiled anew
            logits = self.forward(self.net, x) if len(x) == size else self.net(x)
            part = self.loss(logits, y) * (len(x) / len(batch.x))
            gradient = torch.autograd.grad(part, self.weights, materialize_grads=True)
            if total:
                torch._foreach_add_(total, gradient)
            else:
                total = list(gradient)
            seen.append(logits.detach())
        self.descend.along(self.weights, total)
        return torch.cat(seen)


@dataclass(frozen=True)
class _LossGradient:
    """From a network, images and labels: the loss, the logits, and the gradient of every weight that is learned."""

    loss: Loss
    forward: Forward

    def __call__(self, net: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
        logits = self.forward(net, x)
        value = self.loss(logits, y)
        weights = [weight for weight in net.parameters() if weight.requires_grad]
        return [value.detach(), logits.detach(), *torch.autograd.grad(value, weights, materialize_grads=True)]

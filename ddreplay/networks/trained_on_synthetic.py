"""Networks that are trained on the synthetic images while these move."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from torch import nn

from ddreplay.augment.siamese import Augment, Identity
from ddreplay.backbones import Net, has_batchnorm, settle_batchnorm
from ddreplay.data.pool import Batch
from ddreplay.networks.source import Context, Networks
from ddreplay.objectives.side import Look
from ddreplay.objectives.term import Statistic
from ddreplay.randomness import Random
from ddreplay.training import LabelledImages, PlainSGD, Shuffled, learnable, train_network

__all__ = [
    "Loops",
    "Rounds",
    "TrainedOnSynthetic",
    "train_epoch",
]

BATCHNORM_IMAGES = 16  # real images per class, for running statistics; released code of DC


@dataclass(frozen=True)
class Loops:
    """How often a network is shown, and how long it is trained in between, by the budget.

    Args:
        table: Rows of (images per class, image steps that a network sees, epochs on the synthetic set after each of them). A budget
            between two rows takes the larger one's, a budget above the last row takes the last one's.
    Raises:
        ValueError: for an empty table, or counts out of range.
    """

    table: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if not self.table or any(steps < 1 or epochs < 0 for _, steps, epochs in self.table):
            raise ValueError(f"loops needs at least 1 step and 0 epochs everywhere, got {self.table}")

    @classmethod
    def of(cls, loops: Loops | tuple[int, int]) -> Loops:
        """A table as it is; (steps, epochs) as the same for every budget."""
        return loops if isinstance(loops, Loops) else cls(((1, *loops),))

    def __call__(self, images_per_class: int) -> tuple[int, int]:
        """(steps, epochs) for this budget."""
        _, steps, epochs = next((row for row in self.table if row[0] >= images_per_class), self.table[-1])
        return steps, epochs


@dataclass(frozen=True)
class Rounds:
    """The number of image updates in all, by the number of images per class.

    Args:
        rounds: The number of networks.
        loops: Says how often each of them is seen.
    """

    rounds: int
    loops: Loops

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")

    def __call__(self, images_per_class: int) -> int:
        return self.rounds * self.loops(images_per_class)[0]


@dataclass(frozen=True)
class TrainedOnSynthetic:
    """A network is shown several times and trained on the synthetic set in between (DC, DSA, DCC).

    Args:
        net: Makes a randomly initialised network; ``None``: the network of the method that this is part of.
        loops: The image steps that a network sees and its epochs on the synthetic set after each of them but the last, or a table of
            both by the number of images per class.
        lr: The step size of that training by SGD, which has no momentum.
        batch_size: The number of images in a training batch.
        augment: What training images undergo: one draw per batch, magnitudes for each image (DSA).
        compile: Whether that training runs through ``torch.compile``.
        pieces: The number of images of a training batch that pass at once (`ddreplay.training.train_network`); ``None``: all.
    Raises:
        ValueError: for counts out of range.
    Reference: Zhao et al., "Dataset Condensation with Gradient Matching", ICLR 2021.
    """

    net: Net | None = None
    _: KW_ONLY
    loops: Loops | tuple[int, int] = (10, 50)
    lr: float = 0.01
    batch_size: int = 256
    augment: Augment = field(default=Identity())
    compile: bool = False
    pieces: int | None = None

    def __post_init__(self) -> None:
        Loops.of(self.loops)
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.pieces is not None and self.pieces < 1:
            raise ValueError(f"pieces must be at least 1 image, or None for a whole batch, got {self.pieces}")

    def start(self, context: Context) -> Networks:
        return _TrainedNetworks(self, context)


class _TrainedNetworks:
    def __init__(self, source: TrainedOnSynthetic, context: Context) -> None:
        self.source, self.context = source, context
        self.steps, self.epochs = Loops.of(source.loops)(context.images_per_class)
        self.round, self.step = 0, 0
        self.net: nn.Module | None = None

    def show(self) -> tuple[Look, Statistic]:
        if self.net is None:
            self.net = self.context.network(self.source.net)
        if has_batchnorm(self.net):
            settle_batchnorm(self.net, self.context.pool.draw(BATCHNORM_IMAGES, self.context.random).x)
        look = self.context.look(self.net, round=self.round, step=self.step)
        return look, self.context.statistic(look)

    def moved(self) -> None:
        self.step += 1
        if self.step == self.steps:
            self.round, self.step, self.net = self.round + 1, 0, None
        elif self.net is not None:
            source = self.source
            names = ("lr", "batch_size", "augment", "compile", "pieces")
            how: dict[str, Any] = {name: getattr(source, name) for name in names}
            train_epoch(self.net, self.context.syn(), self.context.random, epochs=self.epochs, **how)

    def state_dict(self) -> dict[str, Any]:
        net = None if self.net is None else self.net.state_dict()
        return {"round": self.round, "step": self.step, "net": net}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.round, self.step, self.net = state["round"], state["step"], None
        if state["net"] is not None:
            self.net = self.context.network(self.source.net, Random(0, self.context.pool.device))
            self.net.load_state_dict(state["net"])


def train_epoch(
    net: nn.Module,
    batch: Batch,
    random: Random,
    *,
    lr: float,
    batch_size: int,
    augment: Augment = Identity(),
    epochs: int = 1,
    compile: bool = False,
    pieces: int | None = None,
) -> None:
    """One pass of plain SGD, or ``epochs`` of them, over a labelled set in random order; the network is changed in place.

    Args:
        batch: The set; labels are int64 [n], or soft [n, classes].
        lr: The step size.
        batch_size: The number of images in a training batch.
        augment: What training images undergo: one draw per batch, magnitudes for each image.
        epochs: The number of passes.
        compile: Whether the network runs through ``torch.compile``.
        pieces: The number of images of a batch that pass at once; ``None``: all.
    """
    images, order = LabelledImages.of_batch(batch), Shuffled(batch_size)
    with learnable(net):
        how: dict[str, Any] = {"epochs": epochs, "augment": augment, "compile": compile, "pieces": pieces}
        train_network(net, images, order, PlainSGD(net, lr), random, **how)

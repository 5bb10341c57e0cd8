"""Networks that are trained on the synthetic set, and shown, for as long as that changes something."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import torch
from torch import nn

from ddreplay.augment.siamese import Augment, Identity
from ddreplay.backbones import Net
from ddreplay.networks.source import Context, Networks
from ddreplay.networks.trained_on_synthetic import train_epoch
from ddreplay.objectives.side import Look
from ddreplay.objectives.term import Statistic
from ddreplay.randomness import Random

__all__ = ["UntilSettled", "settled"]


def settled(accuracies: list[float], window: int, spread: float) -> bool:
    """Whether the last ``window`` accuracies are all there and lie within ``spread`` of each other.

    >>> settled([0.1, 0.5, 0.51], 2, 0.04), settled([0.1], 2, 0.04)
    (True, False)
    """
    last = accuracies[-window:]
    return len(last) == window and max(last) - min(last) < spread


def moved_enough(accuracies: list[float], window: int, spread: float) -> bool:
    """Whether the last ``window`` accuracies are all there and lie further than ``spread`` apart.

    >>> moved_enough([0.1, 0.5], 2, 0.03), moved_enough([0.1, 0.5], 3, 0.03)
    (True, False)
    """
    last = accuracies[-window:]
    return len(last) == window and max(last) - min(last) > spread


@dataclass(frozen=True)
class UntilSettled:
    """A network is shown until its accuracy on real images settles, then trained on the synthetic set until that has moved (CAFE).

    These are CAFE's dynamic bi-level loops.

    Args:
        net: Makes a randomly initialised network; ``None``: the network of the method that this is part of.
        outer: A network is replaced when its last ``window`` accuracies, one an image step, lie within this of each other, in [0, 1].
        inner: After an image step it is trained, an epoch at a time and ``window`` epochs at least, until the accuracies of the last
            ``window`` epochs lie further apart than this.
        window: The number of accuracies that are compared.
        images: The number of real images per class that an accuracy is measured on.
        most_steps: A network is replaced after so many image steps in any case; ours.
        most_epochs: It is trained for at most so many epochs after each; ours.
        lr: The step size of that training by SGD.
        batch_size: The number of images in a training batch.
        augment: What training images undergo.
        compile: Whether that training runs through ``torch.compile``.
    Raises:
        ValueError: for counts or shares out of range.
    Departures: the released code never empties its accumulators, so that each of its accuracies carries a tenth of the one before.
    Reference: Wang et al., "CAFE: Learning to Condense Dataset by Aligning Features", CVPR 2022, Sec. 3.4.
    """

    net: Net | None = None
    _: KW_ONLY
    outer: float = 0.04
    inner: float = 0.03
    window: int = 10
    images: int = 128
    most_steps: int = 50
    most_epochs: int = 50
    lr: float = 0.01
    batch_size: int = 256
    augment: Augment = field(default=Identity())
    compile: bool = False

    def __post_init__(self) -> None:
        if min(self.window, self.images, self.most_steps, self.batch_size) < 1 or self.most_epochs < 0:
            raise ValueError(
                "window, images, most_steps and batch_size must be at least 1 and most_epochs at least 0, got "
                f"{self.window}, {self.images}, {self.most_steps}, {self.batch_size} and {self.most_epochs}"
            )
        if not 0 <= self.outer <= 1 or not 0 <= self.inner <= 1:
            raise ValueError(f"outer and inner are shares in [0, 1], got {self.outer} and {self.inner}")

    def start(self, context: Context) -> Networks:
        return _SettlingNetworks(self, context)


class _SettlingNetworks:
    """accuracies: of the network at hand, one an image step."""

    def __init__(self, source: UntilSettled, context: Context) -> None:
        self.source, self.context = source, context
        self.round, self.accuracies = 0, list[float]()
        self.net: nn.Module | None = None

    def show(self) -> tuple[Look, Statistic]:
        if self.net is None:
            self.net = self.context.network(self.source.net)
        look = self.context.look(self.net, round=self.round, step=len(self.accuracies))
        return look, self.context.statistic(look)

    def moved(self) -> None:
        source, net = self.source, self.net
        if net is None:
            return
        self.accuracies.append(self._accuracy(net))
        if len(self.accuracies) >= source.most_steps or settled(self.accuracies, source.window, source.outer):
            self.round, self.accuracies, self.net = self.round + 1, [], None
            return
        found: list[float] = []
        for _ in range(source.most_epochs):
            batch = self.context.syn()
            with self.context.random.scope():
                how: dict[str, Any] = {n: getattr(source, n) for n in ("lr", "batch_size", "augment", "compile")}
                train_epoch(net, batch, self.context.random, **how)
            found.append(self._accuracy(net))
            if moved_enough(found, source.window, source.inner):
                break

    def _accuracy(self, net: nn.Module) -> float:
        """Of fresh real images of every class."""
        x, y = self.context.pool.draw(self.source.images, self.context.random)
        with torch.no_grad():
            right = [net(part).argmax(1) == truth for part, truth in zip(x.split(512), y.split(512), strict=True)]
        return float(torch.cat(right).float().mean())

    def state_dict(self) -> dict[str, Any]:
        net = None if self.net is None else self.net.state_dict()
        return {"round": self.round, "accuracies": list(self.accuracies), "net": net}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.round, self.accuracies, self.net = state["round"], list(state["accuracies"]), None
        if state["net"] is not None:
            self.net = self.context.network(self.source.net, Random(0, self.context.pool.device))
            self.net.load_state_dict(state["net"])

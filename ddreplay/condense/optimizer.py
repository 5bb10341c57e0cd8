"""What moves the stored numbers, and how its step size falls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "Adam",
    "Cosine",
    "Halved",
    "LAMB",
    "SGD",
]

MakeOptimizer = Callable[[Iterable[Any]], torch.optim.Optimizer]
"""From parameter groups, that of the stored numbers first, to an optimiser."""


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent on the stored numbers, as every paper of the family has it.

    Args:
        lr: step size.
        momentum: from 0 to below 1.
        max_norm: the gradient of all stored numbers is shortened to this norm (BPTT).
        per_image: ``lr`` is multiplied by the stored images per class (IDC).
    """

    lr: float = 0.1
    momentum: float = 0.5
    _: KW_ONLY
    max_norm: float | None = None
    per_image: bool = False

    def __post_init__(self) -> None:
        if self.lr <= 0 or not 0 <= self.momentum < 1:
            raise ValueError(f"lr must be positive and momentum in [0, 1), got {self.lr} and {self.momentum}")
        if self.max_norm is not None and self.max_norm <= 0:
            raise ValueError(f"max_norm must be positive or None, got {self.max_norm}")

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        stored, *extras = parameters
        if self.per_image:
            stored = {**stored, "lr": self.lr * stored["stored_per_class"]}
        optimizer = torch.optim.SGD([stored, *extras], lr=self.lr, momentum=self.momentum)
        if self.max_norm is not None:
            optimizer.register_step_pre_hook(_Clip(self.max_norm))
        return optimizer


@dataclass(frozen=True)
class Adam:
    """Adam on the stored numbers (KIP).

    Args:
        lr: step size.
        betas: how much of the gradient's mean and of its square is kept from step to step.
    """

    lr: float = 0.04
    _: KW_ONLY
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.lr <= 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"lr must be positive and betas in [0, 1), got {self.lr} and {self.betas}")

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas)


@dataclass(frozen=True)
class LAMB:
    """Adam whose step is as long as the stored numbers say (FRePo): lr * ||w|| / ||r|| * r, with Adam's direction r, for every tensor.

    Args:
        lr: step size, relative to the norm of what moves.
        betas: how much of the gradient's mean and of its square is kept from step to step.
    Reference: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", ICLR 2020, Algorithm 2.
    """

    lr: float = 3e-4
    _: KW_ONLY
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.lr <= 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"lr must be positive and betas in [0, 1), got {self.lr} and {self.betas}")

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        return _Lamb(parameters, {"lr": self.lr, "betas": self.betas})


class _Lamb(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group["lr"], *group["betas"])

    def _move(self, weight: Tensor, gradient: Tensor, lr: float, beta1: float, beta2: float) -> None:
        state = self.state[weight]
        if not state:
            state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].lerp_(gradient.square(), 1 - beta2)
        mean, square = state["mean"] / (1 - beta1 ** state["step"]), state["square"] / (1 - beta2 ** state["step"])
        direction = mean / (square.sqrt() + 1e-6)
        norm, length = weight.norm(), direction.norm()
        trust = torch.where((norm > 0) & (length > 0), norm / length, torch.ones_like(norm))
        weight.sub_(lr * trust * direction)


@dataclass(frozen=True)
class _Clip:
    """Before a step: the gradient of the stored numbers is shortened to a norm."""

    max_norm: float

    def __call__(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], self.max_norm)


@dataclass(frozen=True)
class Halved:
    """An optimiser whose step size is halved after so many steps, again and again (CAFE, MIM4DD).

    A learnable extra that has a step size of its own keeps it. With one step per class, every class's step counts.

    Args:
        optimizer: what is slowed down.
        after: numbers of steps.
    Raises:
        ValueError: when a number is below 1, or they do not rise.
    Example:
        >>> optimizer = Halved(SGD(lr=0.1), after=(1,))([{"params": [nn.Parameter(torch.zeros(2))]}])
        >>> for _ in range(2):
        ...     optimizer.step()
        >>> optimizer.param_groups[0]["lr"]
        0.05
    """

    optimizer: MakeOptimizer = SGD()
    _: KW_ONLY
    after: tuple[int, ...] = (1200, 1600, 1800)

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.after) or list(self.after) != sorted(set(self.after)):
            raise ValueError(f"after must be rising numbers of steps from 1 on, got {self.after}")

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        return _following(self.optimizer(parameters), self)

    def share(self, taken: int) -> float:
        """Of the step size, after so many steps."""
        return float(0.5 ** sum(n <= taken for n in self.after))


@dataclass(frozen=True)
class Cosine:
    """An optimiser whose step size falls along half a cosine (FRePo).

    A learnable extra that has a step size of its own keeps it. With one step per class, every class's step counts.

    Args:
        optimizer: what is slowed down.
        steps: after how many steps the end is reached.
        to: the share of the step size at the end, and from there on.
    Raises:
        ValueError: for ``steps`` below 1 or ``to`` outside 0 to 1.
    """

    optimizer: MakeOptimizer = LAMB()
    _: KW_ONLY
    steps: int = 500_000
    to: float = 0.1

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.to <= 1:
            raise ValueError(f"steps must be at least 1 and to from 0 to 1, got {self.steps} and {self.to}")

    def __call__(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        return _following(self.optimizer(parameters), self)

    def share(self, taken: int) -> float:
        """Of the step size, after so many steps."""
        done = min(1.0, taken / self.steps)
        return self.to + (1 - self.to) * (1 + math.cos(math.pi * done)) / 2


def _following(optimizer: torch.optim.Optimizer, schedule: Halved | Cosine) -> torch.optim.Optimizer:
    """The optimiser, whose groups know how many steps were taken, so that a state carries it."""
    usual = optimizer.defaults["lr"]
    for k, group in enumerate(optimizer.param_groups):
        group["taken"], group["first_lr"] = 0, group["lr"] if k == 0 or group["lr"] == usual else None
    optimizer.register_step_pre_hook(_Follow(schedule))
    return optimizer


@dataclass(frozen=True)
class _Follow:
    """Before a step: the step size of its place in the schedule."""

    schedule: Halved | Cosine

    def __call__(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            if group["first_lr"] is not None:
                group["lr"] = group["first_lr"] * self.schedule.share(group["taken"])
            group["taken"] += 1

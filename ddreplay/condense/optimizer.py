"""What moves the stored numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import nn

__all__ = [
    "SGD",
]


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
class _Clip:
    """Before a step: the gradient of the stored numbers is shortened to a norm."""

    max_norm: float

    def __call__(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], self.max_norm)

"""Joint training: a memory that forgets nothing. The upper bound."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.training.storage_policy import ExemplarsBuffer
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from ddreplay.avalanche import MemoryOnlyPlugin


class Everything(ExemplarsBuffer):  # type: ignore[misc]
    """A storage policy without a limit: all real data of all experiences so far, with their training transforms."""

    buffer: Any
    max_size: int

    def __init__(self) -> None:
        super().__init__(max_size=0)

    def post_adapt(self, agent_state: Any, exp: Any) -> None:
        """Add an experience."""
        self.buffer = self.buffer.concat(exp.dataset) if self.max_size else exp.dataset
        self.max_size = len(self.buffer)

    def resize(self, strategy: Any, new_size: int) -> None:
        raise ValueError("a memory of everything has no size to change")


def joint(
    model: nn.Module,
    *,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    epochs: int = 1,
    batch_size: int = 32,
    evaluator: Any = None,
    device: torch.device | str = "cpu",
) -> Any:
    """SGD from the initial weights on the union of everything seen so far, after every experience.

    So it is the upper bound at every point of the stream, not only at its end, where it is offline training on the whole stream.

    Args:
        epochs: on the union, for every experience.
        evaluator: Avalanche's ``EvaluationPlugin``; ``None`` measures nothing.
    """
    return SupervisedTemplate(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay),
        train_mb_size=batch_size,
        train_epochs=epochs,
        eval_mb_size=256,
        device=torch.device(device),
        plugins=[MemoryOnlyPlugin(Everything())],
        evaluator=evaluator,
    )

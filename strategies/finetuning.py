"""Fine-tuning: go on with the new data, remember nothing. The lower bound."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.training.templates import SupervisedTemplate
from torch import nn


def finetuning(
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
    """Plain SGD on each experience in turn.

    Args:
        epochs: for every experience.
        evaluator: Avalanche's ``EvaluationPlugin``; ``None`` measures nothing.
    """
    return SupervisedTemplate(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay),
        train_mb_size=batch_size,
        train_epochs=epochs,
        eval_mb_size=256,
        device=torch.device(device),
        evaluator=evaluator,
    )

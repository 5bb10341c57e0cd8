"""Learning without forgetting and experience replay together."""

from __future__ import annotations

from typing import Any, Literal

import torch
from avalanche.training.plugins import LwFPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from ddreplay.avalanche import CondensedReplayPlugin


def lwf_replay(
    model: nn.Module,
    memory: Any,
    *,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    epochs: int = 1,
    batch_size: int = 32,
    batch_size_mem: int | Literal["balanced"] | None = None,
    distill: float = 1.0,
    temperature: float = 2.0,
    crisp: float = 0.0,
    finish_steps: int = 0,
    update: Literal["after", "before"] = "after",
    evaluator: Any = None,
    device: torch.device | str = "cpu",
) -> Any:
    """Experience replay, held to what the network before the experience says of the same images (Avalanche's LwFPlugin).

    The stream must have task labels, one for all where there are no tasks.

    Args:
        memory, epochs, batch_size_mem, crisp, finish_steps, update: as in `experience_replay`.
        distill, temperature: weight of the distillation, and of its softmax.
        evaluator: Avalanche's ``EvaluationPlugin``; ``None`` measures nothing.
    Reference: Li and Hoiem, "Learning without Forgetting", ECCV 2016.
    """
    replay = CondensedReplayPlugin(
        memory, batch_size_mem=batch_size_mem, crisp=crisp, finish_steps=finish_steps, update=update
    )
    return SupervisedTemplate(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay),
        train_mb_size=batch_size,
        train_epochs=epochs,
        eval_mb_size=256,
        device=torch.device(device),
        plugins=[replay, LwFPlugin(alpha=distill, temperature=temperature)],  # which copies the finished network
        evaluator=evaluator,
    )

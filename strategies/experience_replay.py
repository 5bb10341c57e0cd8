"""Experience replay: every step sees a batch of new data and a batch of memory."""

from __future__ import annotations

from typing import Any, Literal

import torch
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from ddreplay.avalanche import CondensedReplayPlugin


def experience_replay(
    model: nn.Module,
    memory: Any,
    *,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    epochs: int = 1,
    batch_size: int = 32,
    batch_size_mem: int | Literal["balanced"] | None = None,
    crisp: float = 0.0,
    finish_steps: int = 0,
    update: Literal["after", "before"] = "after",
    evaluator: Any = None,
    device: torch.device | str = "cpu",
) -> Any:
    """SGD on new data and memory together; the memory takes in every experience when it is over, or before.

    Args:
        memory: a storage policy, e.g. ``CondensedBuffer(images_per_class=10)`` or ``RingBuffer(images_per_class=10)``.
        epochs: for every experience.
        batch_size_mem: replayed images a step, at most what the memory holds; ``None``: as many as new ones; ``"balanced"``: as many
            of every old class as of a new one.
        crisp: share of new images that do not pass the memory's codec, where that is lossy.
        finish_steps: steps on the memory alone at the end of every experience, all classes alike.
        update: whether the memory takes an experience in after it was trained on, or before, and replays its classes too.
        evaluator: Avalanche's ``EvaluationPlugin``; ``None`` measures nothing.
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
        plugins=[replay],
        evaluator=evaluator,
    )

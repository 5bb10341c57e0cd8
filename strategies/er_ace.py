"""ER-ACE: new classes compete among themselves, remembered ones with all."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.training.supervised import ER_ACE
from torch import nn

from ddreplay.avalanche import CodecPlugin, FinishPlugin, use_in


def er_ace(
    model: nn.Module,
    memory: Any,
    *,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    epochs: int = 1,
    batch_size: int = 32,
    replayed: int | None = None,
    crisp: float = 0.0,
    finish_steps: int = 0,
    evaluator: Any = None,
    device: torch.device | str = "cpu",
) -> Any:
    """Avalanche's ER_ACE with any memory; it takes in every experience before that is trained on.

    Args:
        memory: a storage policy; on streams without task labels, ``task_labels="always"``.
        epochs: for every experience.
        replayed: images a step; ``None``: as many as new ones.
        crisp: share of new images that do not pass the memory's codec, where that is lossy.
        finish_steps: steps on the memory alone at the end of every experience, all classes alike.
        evaluator: Avalanche's ``EvaluationPlugin``; ``None`` measures nothing.
    Reference: Caccia et al., "New Insights on Reducing Abrupt Representation Change in Online Continual Learning", ICLR 2022.
    """
    strategy = ER_ACE(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay),
        batch_size_mem=replayed or batch_size,
        train_mb_size=batch_size,
        train_epochs=epochs,
        eval_mb_size=256,
        device=torch.device(device),
        plugins=[CodecPlugin(memory, crisp=crisp), FinishPlugin(memory, finish_steps)],
        evaluator=evaluator,
    )
    return use_in(strategy, memory)

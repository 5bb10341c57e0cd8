"""Experience replay whose classes are named, as in iCaRL, by the nearest mean of what is remembered."""

from __future__ import annotations

from typing import Any, Literal

import torch
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from ddreplay.avalanche import CondensedReplayPlugin, NearestMean, NearestMeanPlugin


def icarl_ncm(
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
    """SGD as in `experience_replay`; in evaluation mode ``strategy.model`` compares embeddings with the memory's class means.

    Args:
        model: ends in an ``nn.Linear``, whose input is the embedding.
        memory, epochs, batch_size_mem, crisp, finish_steps, update: as in `experience_replay`.
        evaluator: Avalanche's ``EvaluationPlugin``; ``None`` measures nothing.
    Departures: trained as a classifier on new images and memory, without iCaRL's distillation and its choice of exemplars, which here
        is the memory's.
    Reference: Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning", CVPR 2017.
    """
    model = NearestMean(model)
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
        plugins=[replay, NearestMeanPlugin(memory)],
        evaluator=evaluator,
    )

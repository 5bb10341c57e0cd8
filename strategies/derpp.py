"""DER++: replay of images, labels and of what the network said of them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from ddreplay.avalanche import DarkExperiencePlugin


def derpp(
    model: nn.Module,
    memory: Any,
    *,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    epochs: int = 1,
    batch_size: int = 32,
    batch_size_mem: int | Literal["balanced"] | None = None,
    alpha: float = 0.1,
    beta: float = 0.5,
    logit_bytes_per_class: int | float | None = None,
    logit_bits: int = 8,
    crisp: float = 0.0,
    finish_steps: int = 0,
    evaluator: Any = None,
    device: torch.device | str = "cpu",
) -> Any:
    """Dark experience replay with any memory; outputs are stored in a few bits, beside the memory's own bytes.

    Args:
        memory, epochs, batch_size_mem, crisp, finish_steps: as in `experience_replay`.
        alpha, beta: weights of the remembered outputs and labels.
        logit_bytes_per_class: at most so many for outputs, beside what ``memory`` may store; ``None``: for every image.
        logit_bits: of every output.
        evaluator: Avalanche's ``EvaluationPlugin``; ``None`` measures nothing.
    Reference: Buzzega et al., "Dark Experience for General Continual Learning: a Strong, Simple Baseline", NeurIPS 2020.
    """
    dark = DarkExperiencePlugin(
        memory,
        alpha=alpha,
        beta=beta,
        batch_size_mem=batch_size_mem,
        logit_bytes_per_class=logit_bytes_per_class,
        logit_bits=logit_bits,
        crisp=crisp,
        finish_steps=finish_steps,
    )
    return SupervisedTemplate(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay),
        train_mb_size=batch_size,
        train_epochs=epochs,
        eval_mb_size=256,
        device=torch.device(device),
        plugins=[dark],
        evaluator=evaluator,
    )

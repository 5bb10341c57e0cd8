"""A-GEM: new data alone, in steps that do not raise the loss on the memory."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from ddreplay.avalanche import CodecPlugin, FinishPlugin, ReferenceGradientPlugin


def agem(
    model: nn.Module,
    memory: Any,
    *,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    epochs: int = 1,
    batch_size: int = 32,
    sample_size: int = 64,
    crisp: float = 0.0,
    finish_steps: int = 0,
    evaluator: Any = None,
    device: torch.device | str = "cpu",
) -> Any:
    """SGD on new data, its gradient projected where it points against that of a batch of memory.

    Args:
        memory: a storage policy, e.g. ``CondensedBuffer(images_per_class=10)`` or ``RingBuffer(images_per_class=10)``.
        epochs: for every experience.
        sample_size: remembered images behind a reference gradient.
        crisp: share of new images that do not pass the memory's codec, where that is lossy.
        finish_steps: steps on the memory alone at the end of every experience, all classes alike.
        evaluator: Avalanche's ``EvaluationPlugin``; ``None`` measures nothing.
    Reference: Chaudhry et al., "Efficient Lifelong Learning with A-GEM", ICLR 2019.
    """
    reference = ReferenceGradientPlugin(memory, sample_size=sample_size)
    return SupervisedTemplate(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay),
        train_mb_size=batch_size,
        train_epochs=epochs,
        eval_mb_size=256,
        device=torch.device(device),
        plugins=[CodecPlugin(memory, crisp=crisp), reference, FinishPlugin(memory, finish_steps)],
        evaluator=evaluator,
    )

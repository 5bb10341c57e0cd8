"""GDumb: put the new data into the memory, then train a fresh network on the memory alone."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from ddreplay.avalanche import MemoryOnlyPlugin


class FixedSteps(SupervisedPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
    """As many epochs of every experience as give about so many gradient steps, however large the memory is."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Set the epochs of the experience that begins."""
        strategy.train_epochs = max(1, round(self.steps / len(strategy.dataloader)))


class Annealed(SupervisedPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
    """The step size falls along half a cosine to a share of itself, in every experience anew."""

    def __init__(self, to: float) -> None:
        self.to = to

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Begin at the top."""
        steps, top = strategy.train_epochs * len(strategy.dataloader), strategy.optimizer.param_groups[0]["lr"]
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(strategy.optimizer, steps, self.to * top)

    def after_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """A step further."""
        self.schedule.step()

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Leave the step size as it was."""
        strategy.optimizer.param_groups[0]["lr"] = self.schedule.base_lrs[0]
        del self.schedule  # a checkpoint keeps nothing of it


def gdumb(
    model: nn.Module,
    memory: Any,
    *,
    lr: float = 0.01,
    lr_to: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    epochs: int = 100,
    steps: int | None = None,
    batch_size: int = 32,
    evaluator: Any = None,
    device: torch.device | str = "cpu",
) -> Any:
    """SGD from the initial weights on the memory, after every experience; what is compared is the memory and nothing else.

    Args:
        lr_to: the share of ``lr`` at which an experience ends; in between lies half a cosine (paper: from 0.05 to 0.0005). 1: constant.
        memory: a storage policy, e.g. ``CondensedBuffer(images_per_class=10)``.
        epochs: on the memory, for every experience.
        steps: gradient steps instead of epochs, about, for every experience.
        evaluator: Avalanche's ``EvaluationPlugin``; ``None`` measures nothing.
    Reference: Prabhu, Torr and Dokania, "GDumb: A Simple Approach that Questions Our Progress in Continual Learning", ECCV 2020.
    """
    return SupervisedTemplate(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay),
        train_mb_size=batch_size,
        train_epochs=epochs,
        eval_mb_size=256,
        device=torch.device(device),
        plugins=[MemoryOnlyPlugin(memory), *([] if steps is None else [FixedSteps(steps)]), Annealed(lr_to)],
        evaluator=evaluator,
    )

"""Some steps on the memory alone at the end of an experience, all classes alike."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from avalanche.core import BaseSGDPlugin, SupervisedPlugin
from avalanche.training.plugins import EvaluationPlugin, LRSchedulerPlugin
from avalanche.training.plugins.clock import Clock
from avalanche.training.templates.base_sgd import PeriodicEval
from torch.utils.data import DataLoader, Sampler

__all__ = ["FinishPlugin", "finish"]

log = logging.getLogger(__name__)

OBSERVERS = (EvaluationPlugin, PeriodicEval, Clock, LRSchedulerPlugin)
"""Plugins that count, measure or schedule the steps of an experience; those of a finish are none of them."""


class FinishPlugin(SupervisedPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
    """Finish every experience with some steps on the memory alone, all classes alike.

    While an experience is trained on, its classes have more and better images than the old ones. The last word is then given to a
    memory that has as many images of every class: with the strategy's own optimiser, criterion and plugins (augmentation, penalties),
    at half and then a tenth of its learning rate, which is restored afterwards. Metrics, clocks and schedulers do not see these steps.

    `CondensedReplayPlugin` does this by itself (``finish_steps``); alone it is for strategies that hold a policy of their own. In a
    list of plugins it stands behind those that update the memory, and before those that keep a copy of the model (LwF, EWC).

    Args:
        storage_policy: any policy of Avalanche or of this package.
        steps: of every finish; 0: none.
        batch_size: images of a step; ``None``: twice the strategy's ``train_mb_size``.
    Raises:
        ValueError: when ``steps`` is negative or ``batch_size`` not positive.
    """

    def __init__(self, storage_policy: Any, steps: int, *, batch_size: int | None = None) -> None:
        super().__init__()
        if steps < 0:
            raise ValueError(f"steps must be at least 0, got {steps}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.storage_policy, self.steps, self.batch_size = storage_policy, steps, batch_size

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Finish the experience that is over."""
        finish(strategy, self.storage_policy.buffer, self.steps, self.batch_size or 2 * strategy.train_mb_size)


def finish(strategy: Any, memory: Any, steps: int, batch_size: int, *, rates: Sequence[float] = (0.5, 0.1)) -> None:
    """Train a strategy's model on a memory alone, for ``steps`` batches that hold all classes alike.

    Args:
        memory: a dataset of Avalanche; read through its training transforms. An empty one trains nothing.
        rates: factors of the learning rate, each for an equal part of the steps.
    """
    if steps == 0 or len(memory) == 0:
        return
    plugins = [p for p in strategy.plugins if isinstance(p, BaseSGDPlugin) and not isinstance(p, OBSERVERS)]
    batches = Alike([int(label) for label in memory.targets], batch_size, steps)
    loader = DataLoader(memory.train(), batch_sampler=batches, collate_fn=memory.collate_fn)
    strategy.model.train()
    with _restored_rates(strategy.optimizer) as groups:
        for step, batch in enumerate(loader):
            for group, lr in groups:
                group["lr"] = lr * rates[step * len(rates) // steps]
            strategy.mbatch = batch
            _learn(strategy, plugins)
    log.info("finished the experience with %d steps on %d remembered images", steps, len(memory))


def _learn(strategy: Any, plugins: Sequence[Any]) -> None:
    """One step of Avalanche's training loop, for these plugins."""

    def call(event: str) -> None:
        for plugin in plugins:
            getattr(plugin, event)(strategy)

    strategy._unpack_minibatch()
    call("before_training_iteration")
    strategy.optimizer.zero_grad()
    strategy.loss = strategy._make_empty_loss()
    call("before_forward")
    strategy.mb_output = strategy.forward()
    call("after_forward")
    strategy.loss += strategy.criterion()
    call("before_backward")
    strategy.backward()
    call("after_backward")
    call("before_update")
    strategy.optimizer_step()
    call("after_update")
    call("after_training_iteration")


@contextmanager
def _restored_rates(optimizer: torch.optim.Optimizer) -> Iterator[list[tuple[dict[str, Any], float]]]:
    """The optimiser's parameter groups with their learning rates, which are put back at the end."""
    groups = [(group, float(group["lr"])) for group in optimizer.param_groups]
    try:
        yield groups
    finally:
        for group, lr in groups:
            group["lr"] = lr


class Alike(Sampler[list[int]]):
    """Batches of indices that hold all labels alike; within a label, every image once before any a second time.

    What is left over when ``batch_size`` is divided by the number of labels goes to labels drawn at random. Draws come from the
    global generator, as those of data loaders do.

    Args:
        labels: of every sample. steps: how many batches there are.
    """

    def __init__(self, labels: Sequence[int], batch_size: int, steps: int) -> None:
        self.batch_size, self.steps = batch_size, steps
        y = torch.tensor(labels)
        self.rows = [(y == label).nonzero().flatten() for label in y.unique()]

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        cycles = [_cycle(rows) for rows in self.rows]
        whole, rest = divmod(self.batch_size, len(cycles))
        for _ in range(self.steps):
            more = set(torch.randperm(len(cycles))[:rest].tolist())
            yield [next(cycle) for k, cycle in enumerate(cycles) for _ in range(whole + (k in more))]


def _cycle(rows: torch.Tensor) -> Iterator[int]:
    while True:
        yield from rows[torch.randperm(len(rows))].tolist()

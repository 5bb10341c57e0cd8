"""The one hook for trackers of runs: nothing is tracked unless it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Tracked"]


@dataclass(frozen=True)
class Tracked:
    """An ``on_step`` hook that gives the loss to a tracker now and then; between, nothing waits for the device.

    Args:
        log: takes a mapping of names to numbers, and ``step=``, as Weights & Biases' ``run.log`` and MLflow's ``mlflow.log_metrics`` do.
        every: image steps from one loss to the next; the first is that of step ``every``.
        name: what the loss is called there.
    `terms` does the same for the terms of a sum, as ``condense/loss/mutual information``: ``on_terms=track.terms``.

    Raises:
        ValueError: when ``every`` is below 1.
    Example:
        >>> from ddreplay import ConvNet, dm
        >>> seen = []
        >>> track = Tracked(lambda values, step: seen.append((step, sorted(values))), every=2)
        >>> _ = dm(ConvNet(width=8), steps=5)(toy_pool(), 1, on_step=track)
        >>> seen
        [(2, ['condense/loss']), (4, ['condense/loss'])]
    """

    log: Callable[..., Any]
    every: int = 50
    name: str = "condense/loss"

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1 image step, got {self.every}")

    def __call__(self, step: int, loss: Tensor) -> None:
        """Take in the loss of a step."""
        if step % self.every == 0:
            values: Mapping[str, float] = {self.name: float(loss)}
            self.log(values, step=step)

    def terms(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Take in what each term came to in a step."""
        if step % self.every == 0:
            self.log({f"{self.name}/{term}": float(value) for term, value in values.items()}, step=step)

"""How the loss went, in a few numbers that a file has room for."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

__all__ = ["LossCurve", "TermCurves"]


class LossCurve:
    """An ``on_step`` hook that keeps means of the loss over stretches of steps; when there are too many stretches, two become one.

    Args:
        points: at most so many, an even number.
    Example:
        >>> import torch
        >>> curve = LossCurve(points=4)
        >>> for step in range(1, 9):
        ...     curve(step, torch.tensor(float(step)))
        >>> curve.points()
        [(2, 1.5), (4, 3.5), (6, 5.5), (8, 7.5)]
    """

    def __init__(self, points: int = 64) -> None:
        if points < 2 or points % 2:
            raise ValueError(f"points must be even and at least 2, got {points}")
        self.limit, self.stride = points, 1
        self._kept: list[tuple[int, Tensor]] = []
        self._open: list[tuple[int, Tensor]] = []

    def __call__(self, step: int, loss: Tensor) -> None:
        """Take in the loss of a step; it stays on its device, and nothing waits for it."""
        self._open.append((step, loss))
        if len(self._open) < self.stride:
            return
        if len(self._kept) == self.limit:
            self._kept = [_mean(self._kept[k : k + 2]) for k in range(0, self.limit, 2)]
            self.stride *= 2
            return
        self._kept.append(_mean(self._open))
        self._open = []

    def points(self) -> list[tuple[int, float]]:
        """(last step of a stretch, mean loss in it); the last stretch may be shorter than the others."""
        rest = [_mean(self._open)] if self._open else []
        return [(step, float(f"{float(loss):.5g}")) for step, loss in [*self._kept, *rest]]


class TermCurves:
    """An ``on_terms`` hook that keeps a `LossCurve` for every term of a sum.

    Args:
        points: at most so many for each term, an even number.
    """

    def __init__(self, points: int = 64) -> None:
        self.limit = points
        self._curves: dict[str, LossCurve] = {}

    def __call__(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Take in what each term came to in a step."""
        for name, value in values.items():
            self._curves.setdefault(name, LossCurve(self.limit))(step, value)

    def points(self) -> dict[str, list[tuple[int, float]]]:
        """By the term's name, as `LossCurve.points` gives them; empty where there are fewer than two terms."""
        return {name: curve.points() for name, curve in self._curves.items()} if len(self._curves) > 1 else {}


def _mean(stretch: list[tuple[int, Tensor]]) -> tuple[int, Tensor]:
    total = stretch[0][1]
    for _, loss in stretch[1:]:
        total = total + loss
    return stretch[-1][0], total / len(stretch)

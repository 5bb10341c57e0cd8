"""Hooks that watch a run: what they take in, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddreplay import ClassPool, ConvNet, dm
from ddreplay.condense import LossCurve, Tracked

MakePool = Callable[..., ClassPool]


def losses(pool: ClassPool, steps: int, *hooks: Any) -> list[float]:
    seen: list[float] = []

    def hook(step: int, loss: torch.Tensor) -> None:
        seen.append(float(loss))
        for one in hooks:
            one(step, loss)

    dm(ConvNet(width=8), steps=steps)(pool, 1, on_step=hook)
    return seen


def test_a_tracker_gets_the_losses_of_its_steps(toy_pool: MakePool) -> None:
    told: list[tuple[dict[str, float], int]] = []
    seen = losses(toy_pool(), 7, Tracked(lambda values, step: told.append((values, step)), every=3, name="l"))
    assert told == [({"l": seen[2]}, 3), ({"l": seen[5]}, 6)]
    with pytest.raises(ValueError, match="every must be at least 1"):
        Tracked(print, every=0)


def test_a_watched_run_gives_the_same_images(toy_pool: MakePool) -> None:
    method = dm(ConvNet(width=8), steps=3)
    watched = method(toy_pool(), 1, on_step=Tracked(lambda *_, **__: None, every=1))
    assert torch.equal(watched.images().x, method(toy_pool(), 1).images().x)


@pytest.mark.parametrize("steps", [0, 1, 3, 4, 5, 9, 37])
def test_a_curve_is_the_mean_of_its_stretches(steps: int) -> None:
    curve, values = LossCurve(points=4), [float(k * k % 11) for k in range(1, steps + 1)]
    for step, value in enumerate(values, 1):
        curve(step, torch.tensor(value))
    points = curve.points()
    assert len(points) <= 5
    ends = [step for step, _ in points]
    assert ends == sorted(set(ends))
    assert ends[-1:] == ([steps] if steps else [])
    for start, (end, mean) in zip([0, *ends], points, strict=False):
        part = values[start:end]
        assert mean == pytest.approx(sum(part) / len(part), rel=1e-4)
    with pytest.raises(ValueError, match="points must be even"):
        LossCurve(points=3)

"""Hooks that watch a run: what they take in, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddreplay import ClassPool, ConvNet, ddm, dm, idm
from ddreplay.condense import LossCurve, TermCurves, Tracked
from ddreplay.objectives import MutualInformation

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


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (dm(ConvNet(width=8), steps=3).plus(MutualInformation(), 0.5), ["mean embedding", "mutual information"]),
        (ddm(ConvNet(width=8), steps=3), ["mean embedding", "gram matching"]),
        (idm(ConvNet(width=8), steps=3), ["mean embedding", "class regulariser"]),  # a step for each class, swept
        (dm(ConvNet(width=8), steps=3), []),
    ],
)
def test_terms_add_up_to_the_loss(method: Any, names: list[str], toy_pool: MakePool) -> None:
    losses: list[float] = []
    terms: list[dict[str, float]] = []
    how: dict[str, Any] = {"on_step": lambda _, loss: losses.append(float(loss))}
    how["on_terms"] = lambda _, values: terms.append({name: float(value) for name, value in values.items()})
    watched = method(toy_pool(), 1, **how)
    assert [list(values) for values in terms] == [names] * (3 if names else 0)
    for loss, values in zip(losses, terms, strict=False):
        assert sum(values.values()) == pytest.approx(loss, rel=1e-5)
    assert torch.equal(watched.images().x, method(toy_pool(), 1).images().x)


def test_two_terms_of_a_kind_are_told_apart(toy_pool: MakePool) -> None:
    seen: list[list[str]] = []
    method = dm(ConvNet(width=8), steps=1).plus(MutualInformation()).plus(MutualInformation(temperature=1.0), 2.0)
    method(toy_pool(), 1, on_terms=lambda _, values: seen.append(list(values)))
    assert seen == [["mean embedding", "mutual information", "mutual information 2"]]


def test_curves_of_terms_are_curves_of_each() -> None:
    curves, one = TermCurves(points=4), LossCurve(points=4)
    for step in range(1, 12):
        curves(step, {"a": torch.tensor(float(step)), "b": torch.tensor(0.0)})
        one(step, torch.tensor(float(step)))
    assert curves.points() == {"a": one.points(), "b": [(end, 0.0) for end, _ in one.points()]}
    alone = TermCurves()
    alone(1, {"a": torch.tensor(1.0)})
    assert alone.points() == {}


def test_a_tracker_gets_the_terms_of_its_steps(toy_pool: MakePool) -> None:
    told: list[tuple[list[str], int]] = []
    track = Tracked(lambda values, step: told.append((list(values), step)), every=2, name="l")
    ddm(ConvNet(width=8), steps=3)(toy_pool(), 1, on_terms=track.terms)
    assert told == [(["l/mean embedding", "l/gram matching"], 2)]

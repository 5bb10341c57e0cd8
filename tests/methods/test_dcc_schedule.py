"""DCC and DSAC: when gradients are compared by class and when together, loops by budget, the papers' constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from ddreplay import ConvNet
from ddreplay.methods.gradient import DC_LOOPS, DCC_LOOPS, dcc, dsac
from ddreplay.objectives import GradientMatching, Side, WarmUp


class Recorded(GradientMatching):
    """Notes how many gradients are compared at every step."""

    def __init__(self, schedule: Any, notes: list[int]) -> None:
        super().__init__(schedule)
        self._notes = notes

    def __deepcopy__(self, memo: Any) -> Recorded:
        return self

    def distance(self, statistic: Any, syn: Side) -> Tensor:
        self._notes.append(len(self._parts(syn)))
        return super().distance(statistic, syn)


SCHEDULES = {
    "both levels": (WarmUp(rounds=2, steps=2), "CCS CCS SSS SSS"),
    "networks alone": (WarmUp(rounds=2, steps=None), "CCC CCC SSS SSS"),
    "steps alone": (WarmUp(rounds=None, steps=1), "CSS CSS CSS CSS"),
    "none": (WarmUp(rounds=None, steps=None), "SSS SSS SSS SSS"),
    "of length zero": (WarmUp(rounds=0, steps=0), "SSS SSS SSS SSS"),
    "longer than the loop, as with 10 of 10 steps": (WarmUp(rounds=1, steps=10), "CCC SSS SSS SSS"),
    "the default, a quarter of the rounds": (None, "CCC SSS SSS SSS"),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warm_up_is_the_sequence_of_algorithm_1(name: str, toy_pool: Callable[..., Any]) -> None:
    schedule, expected = SCHEDULES[name]
    method = dcc(ConvNet(width=4), rounds=4, loops=(3, 0), scope=schedule)
    notes: list[int] = []
    assert isinstance(method.objective, GradientMatching)
    type(method)(**{**vars(method), "objective": Recorded(method.objective.scope, notes)})(toy_pool(), 1)
    assert notes == [3 if letter == "C" else 1 for letter in expected.replace(" ", "")]


def test_warm_up_lengths_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        WarmUp(rounds=-1)


@pytest.mark.parametrize(
    ("images_per_class", "expected"),
    [
        (1, (10, 5)),
        (2, (10, 50)),
        (10, (10, 50)),
        (11, (20, 25)),
        (30, (30, 20)),
        (40, (40, 15)),
        (50, (50, 10)),
        (99, (50, 10)),
    ],
)
def test_loops_of_dcc(images_per_class: int, expected: tuple[int, int]) -> None:
    assert DCC_LOOPS(images_per_class) == expected
    assert (DC_LOOPS(images_per_class) == expected) == (images_per_class > 1)


def test_constants_of_the_paper() -> None:
    method = dsac()
    assert isinstance(method.objective, GradientMatching)
    assert repr(method.objective.scope) == "WarmUp(rounds=250, steps=10)"
    assert method.steps(10) == 1000 * 10  # type: ignore[operator]
    assert (method.optimizer.lr, method.optimizer.momentum, method.batch_real) == (0.1, 0.5, 256)  # type: ignore[attr-defined]

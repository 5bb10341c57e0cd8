"""Gradient matching under a bank, for one image per class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from ddreplay import ConvNet
from ddreplay.methods.gradient import dc, dcc, dsa, dsac
from ddreplay.networks import Banked
from ddreplay.objectives import WarmUp


@pytest.mark.parametrize("method", [dc, dsa])
def test_a_bank_is_made_once_and_looked_at_in_every_round(
    method: Callable[..., Any], toy_pool: Callable[..., Any]
) -> None:
    made: list[nn.Module] = []

    def net(shape: Any, classes: int) -> nn.Module:
        made.append(ConvNet(width=4)(shape, classes))
        return made[-1]

    steps: list[int] = []
    pool = toy_pool()
    method(net, rounds=6)(pool, 1, on_step=lambda step, *_: steps.append(step))
    assert (len(steps), len(made)) == (6, 6)
    made.clear()
    banked = method(net, rounds=12, networks=Banked(size=2))(pool, 1)
    assert len(made) == 2
    longer = method(net, rounds=2, networks=Banked(size=2))(pool, 1)
    assert not banked.images().x.equal(longer.images().x)


@pytest.mark.parametrize("method", [dcc, dsac])
def test_a_warm_up_goes_on_from_classes_to_all_of_them_under_the_same_bank(
    method: Callable[..., Any], toy_pool: Callable[..., Any]
) -> None:
    pool, found = toy_pool(), {}
    ways = {
        "warm-up": WarmUp(rounds=3, steps=None),
        "class": "class",
        "set": "set",
        "long": WarmUp(rounds=9, steps=None),
    }
    for name, scope in ways.items():
        for rounds in (3, 6):
            net = ConvNet(width=4)
            condensed = method(net, rounds=rounds, loops=(1, 0), scope=scope, networks=Banked(size=2))(pool, 1)
            found[name, rounds] = condensed.images().x
    assert found["warm-up", 3].equal(found["class", 3])
    assert found["long", 6].equal(found["class", 6])
    assert not found["warm-up", 6].equal(found["class", 6])
    late = method(ConvNet(width=4), rounds=6, loops=(1, 0), scope=WarmUp(rounds=0), networks=Banked(size=2))(pool, 1)
    assert (late.images().x - found["set", 6]).abs().max() < 1e-4  # the mean of class means for the mean of all


@pytest.mark.parametrize("groups", [2, 3, [[2], [0], [1]], [[1, 2], [0]]])
def test_groups_after_a_warm_up_are_those_without_one(groups: Any, toy_pool: Callable[..., Any]) -> None:
    ways = (WarmUp(rounds=0, steps=0), "set")
    found = [
        dcc(ConvNet(width=4), rounds=4, loops=(2, 1), scope=scope, groups=groups)(toy_pool(), 1).images().x
        for scope in ways
    ]
    assert (found[0] - found[1]).abs().max() < 1e-4

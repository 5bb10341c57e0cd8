"""Step sizes that fall: by the number of steps taken, also those of a run that goes on, and of a whole condensation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from ddreplay import ClassPool, ConvNet, dm, names
from ddreplay.condense import SGD, Cosine, Halved
from ddreplay.condense.optimizer import Adam
from ddreplay.storage.codecs import float32

MakePool = Callable[..., ClassPool]


def groups() -> list[dict[str, Any]]:
    return [{"params": [nn.Parameter(torch.zeros(2))]}, {"params": [nn.Parameter(torch.zeros(2))], "lr": 0.3}]


def rates(optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        for group in optimizer.param_groups:
            group["params"][0].grad = torch.ones(2)
        optimizer.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_it_is_halved_after_so_many_steps_and_an_extra_keeps_its_own() -> None:
    optimizer = Halved(SGD(lr=0.8, momentum=0.0), after=(2, 3))(groups())
    assert rates(optimizer, 5) == pytest.approx([0.8, 0.8, 0.4, 0.2, 0.2])
    assert optimizer.param_groups[1]["lr"] == 0.3
    moved = optimizer.param_groups[0]["params"][0]
    torch.testing.assert_close(moved.detach(), torch.full((2,), -(0.8 + 0.8 + 0.4 + 0.2 + 0.2)))


def test_a_cosine_ends_at_its_share_and_stays() -> None:
    found = rates(Cosine(Adam(lr=1.0), steps=4, to=0.1)(groups()), 7)
    wanted = [0.1 + 0.9 * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]
    assert found == pytest.approx([*wanted, 0.1, 0.1, 0.1])


def test_a_state_knows_how_far_it_was() -> None:
    make = Halved(SGD(lr=0.8), after=(2, 4))
    first, second = make(groups()), make(groups())
    rates(first, 3)
    second.load_state_dict(first.state_dict())
    assert rates(second, 3) == pytest.approx([0.4, 0.2, 0.2])


def test_a_condensation_slows_down(toy_pool: MakePool) -> None:
    base = replace(dm(ConvNet(width=4), steps=3), codec=float32())
    pool = toy_pool()
    plain, still = (base(pool, 1).images().x, replace(base, optimizer=Halved(base.optimizer, after=(9,)))(pool, 1))
    torch.testing.assert_close(plain, still.images().x, atol=0, rtol=0)
    slowed = replace(base, optimizer=Halved(base.optimizer, after=(1, 2)))(pool, 1).images().x
    assert not torch.equal(plain, slowed)


def test_people_type_them_and_wrong_values_are_named() -> None:
    made: Any = names.condenser("frepo(optimizer=cosine(lamb(lr=0.0003), steps=10))")
    assert isinstance(made.optimizer, Cosine)
    with pytest.raises(ValueError, match="after must be rising"):
        Halved(after=(3, 2))
    with pytest.raises(ValueError, match="to from 0 to 1"):
        Cosine(to=2.0)

"""DC and DSA under a bank, for one image per class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from ddreplay import ConvNet
from ddreplay.methods.gradient import dc, dsa
from ddreplay.networks import Banked


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

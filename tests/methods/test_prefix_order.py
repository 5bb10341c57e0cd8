"""The order in which a set shrinks best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from ddreplay import ClassPool, CondensedSet, ConvNet, dm
from ddreplay.methods import selections
from ddreplay.methods.prefix_order import prefix_ordered
from ddreplay.parameterize import Partitioned

MakePool = Callable[..., ClassPool]


class Flat(nn.Module):
    """Whose embedding is the image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(x.flatten(1))
        return logits


def test_the_order_is_that_of_a_slow_herding(toy_pool: MakePool) -> None:
    found = selections.random()(toy_pool(), 6)
    ordered = prefix_ordered(found, Flat(), networks=1)
    for before, after in zip(found.parts[0].images, ordered.parts[0].images, strict=True):
        x, taken = before.flatten(1), list[int]()
        while len(taken) < len(x):
            gap = {
                k: float((x.mean(0) - x[[*taken, k]].mean(0)).square().sum()) for k in range(len(x)) if k not in taken
            }
            taken.append(min(gap, key=lambda k: gap[k]))
        torch.testing.assert_close(after, before[taken], atol=1e-6, rtol=0)


def test_it_is_the_same_set_with_prefixes_nearer_to_its_mean(toy_pool: MakePool) -> None:
    found = dm(ConvNet(width=8), steps=3)(toy_pool(images_per_class=12), 8)
    ordered = prefix_ordered(found, Flat(), networks=1)
    assert ordered.nbytes == found.nbytes
    for a, b in zip(found.parts[0].images, ordered.parts[0].images, strict=True):
        torch.testing.assert_close(a.flatten(1).sum(1).sort().values, b.flatten(1).sum(1).sort().values)
        gaps = [[float((x.mean(0) - x[:k].mean(0)).norm()) for k in range(1, 8)] for x in (a, b)]
        assert sum(gaps[1]) < sum(gaps[0])
    twice = [prefix_ordered(found, ConvNet(width=8), seed=3) for _ in range(2)]
    assert torch.equal(twice[0].images().x, twice[1].images().x)


def test_soft_labels_and_tiles_go_with_their_images(toy_pool: MakePool) -> None:
    tiled = dm(ConvNet(width=8), steps=1, parameterize=Partitioned(2))(toy_pool(), 3)
    part = tiled.parts[0]
    marks = torch.cat(list(part.images)).flatten(1).sum(1, keepdim=True).expand(-1, 3).contiguous()
    ordered = prefix_ordered(CondensedSet((replace(part, soft_labels=marks),)), ConvNet(width=8))
    assert ordered.soft_labels is not None
    moved = torch.cat(list(ordered.parts[0].images)).flatten(1).sum(1)
    torch.testing.assert_close(ordered.soft_labels[:, 0], moved, atol=1e-3, rtol=1e-4)
    assert not torch.equal(ordered.images().x, tiled.images().x)


def test_what_cannot_be_ordered(toy_pool: MakePool) -> None:
    single = selections.random()(toy_pool(), 1)
    assert torch.equal(prefix_ordered(single).images().x, single.images().x)
    with pytest.raises(ValueError, match="at least 1"):
        prefix_ordered(single, networks=0)

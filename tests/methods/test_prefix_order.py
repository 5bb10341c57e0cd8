"""The order in which a set shrinks best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from ddreplay import Budget, ClassPool, CondensedMemory, CondensedSet, ConvNet, dm
from ddreplay.methods import selections
from ddreplay.methods.prefix_order import PrefixOrdered, prefix_ordered
from ddreplay.parameterize import Partitioned
from ddreplay.storage.codecs import jpeg, uint8

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


@pytest.mark.parametrize("budget", [{"max_bytes": 3 * 8 * 64 + 60}, {"budget": Budget.total_images(24)}])
def test_a_memory_that_shrinks_keeps_the_first_images(toy_pool: MakePool, budget: dict[str, Any]) -> None:
    pool, method = toy_pool(images_per_class=40), dm(ConvNet(width=8), steps=2).stored_by(uint8())
    memory = CondensedMemory(PrefixOrdered(method, net=Flat(), networks=1), **budget)
    memory.update(pool.select([0]))
    before = memory.condensed.parts[0].images[0]
    assert torch.equal(before, prefix_ordered(memory.condensed, Flat(), networks=1).parts[0].images[0])
    memory.update(pool.select([1, 2]))
    after = memory.condensed.select([int(pool.class_ids[0])]).parts[0].images[0]
    assert 2 <= len(after) < len(before)
    torch.testing.assert_close(after, before[: len(after)], atol=0.02, rtol=0)


def test_it_is_a_condenser_that_takes_what_its_own_takes(toy_pool: MakePool) -> None:
    inner = dm(ConvNet(width=8), steps=2)
    ordered = PrefixOrdered(inner, networks=2)
    assert ordered.takes == inner.takes
    assert PrefixOrdered(lambda pool, budget, seed=0: inner(pool, budget, seed=seed)).takes == frozenset()
    found = ordered(toy_pool(), 4, seed=3, seconds=60.0)
    assert torch.equal(found.images().x, prefix_ordered(inner(toy_pool(), 4, seed=3), networks=2, seed=3).images().x)
    assert found.provenance["prefix_ordered"]["networks"] == 2
    assert CondensedSet.from_bytes(found.to_bytes()).provenance["method"] == "dm"
    assert ordered.stored_by(uint8()).condenser.codec == uint8()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="at least 1"):
        PrefixOrdered(inner, networks=0)


def test_pictures_stay_within_their_bytes(toy_pool: MakePool) -> None:
    found = selections.random(codec=jpeg())(toy_pool(images_per_class=12), Budget.bytes(700))
    ordered = prefix_ordered(found)
    assert ordered.stored_images == found.stored_images > 6
    assert ordered.nbytes <= found.nbytes
    assert not torch.equal(ordered.images().x, found.images().x)

"""The memory for streams without boundaries: what waits, what is condensed and when, and what all of it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddreplay import ClassPool, CondensedSet, ConvNet, dm
from ddreplay.methods import selections
from ddreplay.online_memory import OnlineMemory
from ddreplay.storage.codecs import uint8

MakePool = Callable[..., ClassPool]
RANDOM = selections.random(codec=uint8())


def drops(pool: ClassPool, size: int, seed: int = 0) -> list[ClassPool]:
    """A pool as it comes without boundaries: a few images at a time, in random order."""
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
    labels = pool.relabel(pool.all_labels())
    how: dict[str, Any] = {"mean": pool.mean, "std": pool.std, "device": "cpu"}
    return [ClassPool(pool.stored(rows), labels[rows], **how) for rows in order.split(size)]


def test_bytes_are_never_exceeded_and_everything_is_charged(toy_pool: MakePool) -> None:
    memory = OnlineMemory(RANDOM, max_bytes=3000, enough=12)
    for drop in drops(toy_pool(images_per_class=40), 5):
        memory.update(drop)
        assert memory.nbytes <= 3000
        assert memory.nbytes == memory.memory.nbytes + memory.waiting * (64 + 8)
        assert len(memory.batch().x) == len(memory)
    assert sorted(memory.memory.condensed.class_ids) == [2, 5, 9]


def test_a_class_is_condensed_when_enough_of_it_has_come(toy_pool: MakePool) -> None:
    seen: list[tuple[list[int], tuple[int, ...]]] = []

    def spy(pool: ClassPool, budget: Any, *, seed: int = 0) -> CondensedSet:
        seen.append((pool.class_ids.tolist(), pool.counts))
        return RANDOM(pool, budget, seed=seed)

    pool = toy_pool(images_per_class=8)
    memory = OnlineMemory(spy, max_bytes=8000, enough=6)
    memory.update(pool.first(4).select([0, 1]))
    assert not seen
    assert memory.arrived == {2: 4, 5: 4}
    memory.update(pool.first(2).select([1]))
    assert seen == [([5], (6,))]
    assert memory.arrived == {2: 4}
    memory.update(pool.first(7).select([1]))
    assert seen[1][0] == [5]
    assert seen[1][1][0] > 7  # its memory is condensed again with what is new
    memory.flush()
    assert (seen[2][0], memory.waiting) == ([2], 0)


def test_what_waits_comes_back_to_the_bit(toy_pool: MakePool) -> None:
    pool = toy_pool()
    memory = OnlineMemory(RANDOM, max_bytes=10**5, enough=100)
    memory.update(pool)
    torch.testing.assert_close(memory.batch().x, pool.all().x, atol=1e-5, rtol=0)
    assert torch.equal(memory.batch().y, pool.relabel(pool.all().y))


def test_the_reservoir_is_a_uniform_sample_and_classes_share_it() -> None:
    held = torch.zeros(40)
    for seed in range(60):
        memory = OnlineMemory(RANDOM, max_bytes=2 * (64 + 8) * 10, enough=1000, seed=seed)
        for k in range(40):
            x = torch.full((1, 1, 8, 8), 6 * k, dtype=torch.uint8)
            memory.update(ClassPool(x, torch.tensor([0]), mean=[0.0], std=[1.0], device="cpu"))
        found = memory.batch().x[:, 0, 0, 0].mul(255).round() / 6
        assert len(found) == 10
        held[found.long()] += 1
    assert abs(float(held[:20].sum()) - 300) < 60  # half of 600, five standard deviations
    x = torch.zeros(9, 1, 8, 8, dtype=torch.uint8)
    memory.update(ClassPool(x, torch.full((9,), 1), mean=[0.0], std=[1.0], device="cpu"))
    assert memory.batch().y.bincount().tolist() == [5, 5]


def test_it_goes_on_from_its_state_to_the_same_bits(toy_pool: MakePool) -> None:
    parts = drops(toy_pool(images_per_class=20), 6)
    whole = OnlineMemory(dm(ConvNet(width=8), steps=1), max_bytes=4000, enough=9, seed=4)
    for part in parts:
        whole.update(part)
    again = OnlineMemory(dm(ConvNet(width=8), steps=1), max_bytes=4000, enough=9, seed=4)
    for part in parts:
        state = again.state_dict()
        again = OnlineMemory(dm(ConvNet(width=8), steps=1), max_bytes=4000, enough=9)
        again.load_state_dict(state)
        again.update(part)
    assert torch.equal(again.batch().x, whole.batch().x)
    with pytest.raises(ValueError, match="stays as it was"):
        again.load_state_dict({**again.state_dict(), "waiting": [[0, torch.zeros(3), torch.zeros(3)]]})


def test_an_update_that_fails_changes_nothing(toy_pool: MakePool) -> None:
    pool = toy_pool()

    def broken(*_: Any, **__: Any) -> CondensedSet:
        raise OSError("no")

    memory, twin = (OnlineMemory(RANDOM, max_bytes=4000, enough=4, seed=1) for _ in range(2))
    for one in (memory, twin):
        one.update(pool.first(3))
    memory.memory.condenser = broken
    with pytest.raises(OSError, match="no"):
        memory.update(pool)
    with pytest.raises(ValueError, match="shape"):
        memory.update(toy_pool(shape=(1, 8, 9)))
    with pytest.raises(ValueError, match="normalised as those before"):
        memory.update(ClassPool(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.tensor([1]), device="cpu"))
    memory.memory.condenser = RANDOM
    for one in (memory, twin):
        one.update(pool)
    assert torch.equal(memory.batch().x, twin.batch().x)


@pytest.mark.parametrize("wrong", [{"enough": 0}, {"reservoir": 0.0}, {"reservoir": 1.0}, {"max_bytes": 0}])
def test_arguments_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        OnlineMemory(RANDOM, **{"max_bytes": 1000, **wrong})


def test_a_reservoir_of_no_image_is_refused(toy_pool: MakePool) -> None:
    with pytest.raises(ValueError, match="one image takes 72"):
        OnlineMemory(RANDOM, max_bytes=140).update(toy_pool())

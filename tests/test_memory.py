"""The replay memory without a framework."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ddreplay import Budget, ClassPool, CondensedMemory, CondensedSet, ConvNet, dm
from ddreplay.methods import selections

MakePool = Callable[..., ClassPool]


def test_it_grows_with_the_stream_and_never_looks_back(toy_pool: MakePool) -> None:
    pool = toy_pool(classes=6)
    memory = CondensedMemory(selections.random(), images_per_class=2)
    sizes, nbytes = [], []
    for classes in ([0, 1], [2, 3], [4, 5]):
        memory.update(pool.select(classes))
        sizes.append(len(memory))
        nbytes.append(memory.nbytes)
    assert sizes == [4, 8, 12]
    assert nbytes[0] < nbytes[1] < nbytes[2]
    assert sorted(memory.batch().y.unique().tolist()) == pool.class_ids.tolist()
    assert len(memory.seconds) == 3


def test_earlier_classes_keep_their_bits(toy_pool: MakePool) -> None:
    pool = toy_pool(classes=4)
    memory = CondensedMemory(dm(ConvNet(width=8), steps=2), images_per_class=1)
    memory.update(pool.select([0, 1]))
    before = memory.batch().x.clone()
    memory.update(pool.select([2, 3]))
    assert torch.equal(memory.batch().x[:2], before)


def test_a_class_that_comes_back_is_condensed_from_new_images_and_memory(toy_pool: MakePool) -> None:
    seen: list[ClassPool] = []

    def spy(pool: ClassPool, budget: Budget | int, *, seed: int = 0) -> CondensedSet:
        seen.append(pool)
        return selections.random()(pool, budget, seed=seed)

    pool = toy_pool()
    memory = CondensedMemory(spy, images_per_class=2)
    memory.update(pool.select([0, 1]))
    memory.update(pool.select([1, 2]))
    assert seen[1].counts == (6 + 3 * 2, 6)  # two images stand for six
    assert sorted(memory.condensed.class_ids) == pool.class_ids.tolist()
    assert len(memory) == 6


def test_resizing_keeps_the_first_images(toy_pool: MakePool) -> None:
    memory = CondensedMemory(selections.random(), images_per_class=3)
    memory.update(toy_pool())
    x = memory.batch().x
    memory.resize(1)
    torch.testing.assert_close(memory.batch().x, x[::3], atol=1e-6, rtol=0)
    assert memory.budget == Budget.images(1)
    with pytest.raises(ValueError, match="at least 1"):
        memory.resize(0)


def test_it_goes_on_from_its_state(toy_pool: MakePool) -> None:
    pool = toy_pool(classes=4)
    whole = CondensedMemory(selections.random(), images_per_class=2, seed=5)
    whole.update(pool.select([0, 1]))
    state = whole.state_dict()
    whole.update(pool.select([2, 3]))
    resumed = CondensedMemory(selections.random(), images_per_class=9)
    resumed.load_state_dict(state)
    resumed.update(pool.select([2, 3]))
    assert torch.equal(resumed.batch().x, whole.batch().x)
    assert resumed.budget == Budget.images(2)


def test_an_empty_memory_says_so() -> None:
    memory = CondensedMemory(selections.random(), images_per_class=2)
    assert (len(memory), memory.nbytes) == (0, 0)
    with pytest.raises(ValueError, match="empty"):
        memory.batch()
    with pytest.raises(ValueError, match="at least 1"):
        CondensedMemory(selections.random(), images_per_class=0)

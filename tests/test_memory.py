"""The replay memory without a framework."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddreplay import Budget, ClassPool, CondensedMemory, CondensedSet, ConvNet, dm
from ddreplay.condense.image_count import hold_out
from ddreplay.memory import check_pool
from ddreplay.methods import BestOf, selections
from ddreplay.randomness import Random

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=8)


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


def test_what_is_remembered_counts_for_what_it_stands_for(toy_pool: MakePool) -> None:
    """A class that was dark and comes back light is both; light would be five sixths of it otherwise."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.rand(80, 1, 8, 8, generator=draw) * 0.2 + torch.tensor([0.0, 0.8]).repeat_interleave(40).view(
        -1, 1, 1, 1
    )
    labels = torch.arange(80) % 2
    how: dict[str, Any] = {"mean": [0.5], "std": [0.25], "device": "cpu"}
    dark, light = (ClassPool((pixels[k] - 0.5) / 0.25, labels[k], **how) for k in (slice(0, 40), slice(40, 80)))
    for condenser, seeds in ((selections.random(), 12), (selections.herding(NET, epochs=0), 1), (dm(NET, steps=20), 1)):
        brightness = []
        for seed in range(seeds):
            memory = CondensedMemory(condenser, images_per_class=4, seed=seed)
            memory.update(dark)
            memory.update(light)
            assert memory.stands_for == {0: 40, 1: 40}
            images = memory.batch().x
            assert len({x.numpy().tobytes() for x in images}) == 8  # no image is there twice
            brightness.append(float(images.mul(0.25).add(0.5).mean()))
        assert 0.3 < statistics.fmean(brightness) < 0.65


def test_many_shows_do_not_make_a_pool_grow(toy_pool: MakePool) -> None:
    seen: list[ClassPool] = []

    def spy(pool: ClassPool, budget: Budget | int, *, seed: int = 0) -> CondensedSet:
        seen.append(pool)
        return selections.random()(pool, budget, seed=seed)

    memory, pool = CondensedMemory(spy, images_per_class=2), toy_pool()
    for _ in range(9):
        memory.update(pool)
    assert [max(one.counts) for one in seen] == [6, 12, 18, 24, 30, 30, 30, 30, 30]
    other = CondensedMemory(spy, images_per_class=2)
    other.load_state_dict(memory.state_dict())
    assert other.stands_for == memory.copy().stands_for == dict.fromkeys(pool.class_ids.tolist(), 54)


def test_a_larger_budget_takes_no_copies(toy_pool: MakePool) -> None:
    """Two images stand for twelve; with room for twenty, there are eight to keep."""
    for condenser in (
        selections.random(),
        selections.herding(NET, epochs=0),
        dm(NET, steps=1),
        BestOf(dm(NET, steps=1)),
    ):
        memory = CondensedMemory(condenser, images_per_class=2)
        memory.update(toy_pool(images_per_class=12))
        memory.resize(20)
        memory.update(toy_pool(images_per_class=6))
        assert memory.condensed.parts[0].counts == (8, 8, 8)


def test_what_is_held_out_is_not_learned_as_a_copy(toy_pool: MakePool) -> None:
    copied = toy_pool(images_per_class=4).subset(torch.tensor([0, 0, 0, 1, 2, 3, 4, 5, 5, 6, 8, 9, 9, 9]))
    learned, held = hold_out(copied, 0.5, Random(1))
    assert held is not None
    assert held.counts == (2, 2, 1)  # of images, not of copies
    assert held.origin is None
    both = {x.numpy().tobytes() for x in learned.all().x}, {x.numpy().tobytes() for x in held.all().x}
    assert not both[0] & both[1]
    assert len(both[0] | both[1]) == 9


@pytest.mark.parametrize("wrong", [None, "digits", torch.zeros(3, 1, 8, 8)])
def test_what_is_no_pool_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="pool must be a ClassPool, got"):
        check_pool(wrong)


def test_a_condenser_of_ones_own_is_held_to_its_word(toy_pool: MakePool) -> None:
    pool, real = toy_pool(), selections.random()
    wrong: dict[str, tuple[Any, Budget]] = {
        "must give a CondensedSet, got list": (lambda pool, budget, seed=0: [], Budget.images(2)),
        "must keep the classes that it is given": (
            lambda pool, budget, seed=0: real(pool.select([0]), 2),
            Budget.images(2),
        ),
        "must stay within 2 images a class": (lambda pool, budget, seed=0: real(pool, 3), Budget.images(2)),
        "must stay within 100 B a class": (lambda pool, budget, seed=0: real(pool, 3), Budget.bytes(100)),
    }
    for said, (condenser, budget) in wrong.items():
        memory = CondensedMemory(real, budget)
        memory.update(pool.select([0]))
        before, memory.condenser = memory.condensed, condenser
        with pytest.raises((TypeError, ValueError), match=said):
            memory.update(pool.select([1, 2]))
        assert memory.condensed is before


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

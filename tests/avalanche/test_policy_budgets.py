"""How much the storage policies hold, and when they condense."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.training.templates import SupervisedTemplate
from toy_streams import MEAN, STD, Images, label_free_stream, labelled, noisy, plain, task_labelled_stream

from ddreplay import Budget, ConvNet, dm, selections
from ddreplay.avalanche import CondensedBuffer, CondensedReplayPlugin, MemoryOnlyPlugin, RingBuffer
from ddreplay.networks import Banked

QUICK = dm(ConvNet(width=8), networks=Banked(size=2), steps=2, batch_real=4)
SPACE: dict[str, Any] = {"mean": MEAN, "std": STD, "device": "cpu"}


def condensed(**how: Any) -> CondensedBuffer:
    return CondensedBuffer(condenser=QUICK, **{**SPACE, "images_per_class": 2, **how})


def ring(**how: Any) -> CondensedBuffer:
    return RingBuffer(**{**SPACE, "images_per_class": 2, **how})


def after(dataset: Any) -> Any:
    """All that a policy may look at of an experience."""
    return SimpleNamespace(dataset=dataset)


def labels_of(buffer: Any) -> list[int]:
    return [int(buffer[k][1]) for k in range(len(buffer))]


def policy(max_size: Any, adaptive: bool, total: Any, images: Any) -> CondensedBuffer:
    return CondensedBuffer(max_size, adaptive, total, images_per_class=images, condenser=QUICK)


@pytest.mark.parametrize(
    ("given", "expected", "size"),
    [
        ((25, False, 10, None), Budget.total_images(25, classes=10), 25),
        ((None, False, 10, 5), Budget.images(5, classes=10), 50),
        ((55, False, None, 5), Budget.images(5, classes=11), 55),
        ((None, False, None, 5), Budget.images(5), 0),
        ((40, True, None, None), Budget.total_images(40), 40),
    ],
)
def test_what_a_budget_lacks_follows_from_what_it_has(given: Any, expected: Budget, size: int) -> None:
    found = policy(*given)
    assert (found.budget, found.max_size) == (expected, size)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((None, False, None, None), "needs images_per_class"),
        ((200, False, None, None), "adaptive_size=True"),
        ((None, True, None, None), "shares max_size alone"),
        ((200, True, 10, None), "shares max_size alone"),
        ((9, False, 10, None), "less than one image"),
        ((40, False, 10, 5), "more than max_size"),
        ((4, False, None, 5), "more than max_size"),
        ((0, True, None, None), "max_size must be at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        policy(*given)


def test_positions_of_the_arguments_are_those_of_the_stock_buffer() -> None:
    memory = CondensedBuffer(20, False, 10)
    assert (memory.max_size, memory.adaptive_size, memory.total_num_classes) == (20, False, 10)
    assert CondensedBuffer(20, True).adaptive_size


@pytest.mark.parametrize(
    "how", [{"total_num_classes": 2}, {"max_size": 2, "adaptive_size": True, "images_per_class": None}]
)
def test_more_classes_than_declared_are_refused_and_change_nothing(how: Any) -> None:
    memory = ring(**how)
    memory.post_adapt(None, after(plain(noisy([0, 1]))))
    before = memory.condensed.images().x
    with pytest.raises(ValueError, match="raise"):
        memory.post_adapt(None, after(plain(noisy([1, 2]))))
    assert torch.equal(memory.condensed.images().x, before)
    assert memory.staged == 0
    memory.post_adapt(None, after(plain(noisy([1]))))


def test_a_budget_for_each_class_alone_grows_with_the_stream() -> None:
    memory = ring()
    assert memory.max_size == 0
    for k in range(3):
        memory.post_adapt(None, after(plain(noisy([2 * k, 2 * k + 1]))))
        assert memory.max_size == len(memory.buffer) == 4 * (k + 1)


def test_an_adaptive_memory_shrinks_each_class_to_its_first_images() -> None:
    memory = CondensedBuffer(13, True, condenser=QUICK, **SPACE)
    sizes, kept = [], None
    for k in range(3):
        memory.post_adapt(None, after(plain(noisy([2 * k, 2 * k + 1]))))
        sizes.append([len(part) for part in memory.buffer_datasets])
        x, y = memory.condensed.images()
        kept = x[y == 0] if kept is None else kept
        torch.testing.assert_close(x[y == 0], kept[: sizes[-1][0]], rtol=0, atol=1e-6)
    assert sizes == [[6] * 2, [3] * 4, [2] * 6]


def test_resize_keeps_first_images() -> None:
    memory = ring(images_per_class=4, total_num_classes=2)
    memory.post_adapt(None, after(plain(noisy([0, 1]))))
    before = memory.condensed.images()
    memory.resize(None, 5)
    assert (memory.max_size, len(memory.buffer)) == (5, 4)
    x, y = memory.condensed.images()
    torch.testing.assert_close(x[y == 1], before.x[before.y == 1][:2], rtol=0, atol=1e-6)
    memory.resize(None, 100)
    assert (memory.max_size, len(memory.buffer)) == (100, 4)
    with pytest.raises(ValueError, match="max_size 1"):
        memory.resize(None, 1)


def test_a_group_can_be_shortened_but_not_updated_alone() -> None:
    memory = ring(images_per_class=4)
    memory.post_adapt(None, after(plain(noisy([0, 1]))))
    memory.buffer_groups[1].resize(None, 1)
    assert sorted(labels_of(memory.buffer)) == [0, 0, 0, 0, 1]
    with pytest.raises(TypeError, match="update the CondensedBuffer"):
        memory.buffer_groups[1].post_adapt(None, None)


def test_an_online_stream_is_condensed_at_boundaries() -> None:
    stream = split_online_stream(task_labelled_stream().train_stream, experience_size=5)
    memory = condensed(condense_every=4)
    held = []
    for sub_experience in stream:
        memory.post_adapt(None, sub_experience)
        held.append((len(memory.buffer), memory.staged))
    assert held[:5] == [(0, 5), (0, 10), (0, 15), (4, 0), (4, 5)]
    assert held[-1] == (12, 0)
    memory.post_adapt(None, after(labelled(noisy([0]))))
    assert memory.staged_nbytes > memory.nbytes > 0
    memory.flush()
    memory.flush()
    assert (memory.staged, memory.staged_nbytes, len(memory.buffer)) == (0, 0, 12)


def test_staged_parts_give_what_the_whole_experience_gives() -> None:
    whole, parts = noisy([0, 1], per_class=8), condensed(condense_every=100)
    for rows in torch.arange(16).split(4):
        parts.post_adapt(None, after(plain(Images(whole.x[rows], [whole.targets[k] for k in rows]))))
    parts.flush()
    at_once = condensed()
    at_once.post_adapt(None, after(plain(whole)))
    assert torch.equal(parts.condensed.images().x, at_once.condensed.images().x)


def test_the_stock_plugin_says_which_size_to_give() -> None:
    from avalanche.training.plugins import ReplayPlugin

    memory = ring(total_num_classes=10)
    with pytest.raises(ValueError, match=r"mem_size=memory\.max_size"):
        ReplayPlugin(mem_size=200, storage_policy=memory)
    assert ReplayPlugin(mem_size=memory.max_size, storage_policy=memory).storage_policy is memory
    assert memory.max_size == 20 != 21


def test_a_named_condenser_and_a_ring_buffer_spend_bytes_alike() -> None:
    x = torch.nn.functional.interpolate(
        torch.rand(80, 3, 4, 4, generator=torch.Generator().manual_seed(0)), size=(32, 32)
    )
    data = [(image, k % 2) for k, image in enumerate(x)]
    space: dict[str, Any] = {"mean": (0.0,), "std": (1.0,), "device": "cpu"}
    for memory in (
        CondensedBuffer(bytes_per_class=1000, condenser=QUICK, **space),
        RingBuffer(bytes_per_class=1000, **space),
    ):
        memory.update_from_dataset(data)
        assert {part.codec.name for part in memory.condensed.parts} == {"avif"}
        assert len(memory.buffer) > 20
        assert memory.nbytes <= 2000


def test_a_ring_buffer_is_a_class() -> None:
    assert isinstance(ring(), RingBuffer)
    assert not isinstance(condensed(), RingBuffer)
    with pytest.raises(TypeError, match="CondensedBuffer"):
        ring(condenser=QUICK)


def test_it_says_what_it_does_and_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    memory = condensed(on_progress=told.append)
    with caplog.at_level("INFO", "ddreplay"):
        memory.post_adapt(None, after(plain(noisy([0, 1]))))
    assert "condensing 2 classes" in caplog.text
    assert "2 images a class" in caplog.text
    assert [(p.phase, p.done, p.total) for p in told if p.phase == "steps"] == [("steps", 1, 2), ("steps", 2, 2)]


def test_an_update_of_two_tasks_is_whole_or_has_not_been(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = ring()
    first, second = labelled(noisy([0]), 0), labelled(noisy([1]), 1)
    calls: list[int] = []
    original = memory.condenser

    def fails_at_the_second(*given: Any, **how: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("no")
        return original(*given, **how)

    memory.condenser = fails_at_the_second
    with pytest.raises(OSError, match="no"):
        memory.post_adapt(None, after(first.concat(second)))
    assert memory.memories == {}
    assert (memory.staged, len(memory.buffer)) == (0, 0)
    memory.condenser = original
    memory.post_adapt(None, after(first.concat(second)))
    assert sorted(memory.memories) == [0, 1]


class Asked:
    """A condenser that remembers how many seconds it was given."""

    takes = frozenset(("seconds",))

    def __init__(self) -> None:
        self.seconds: list[float | None] = []

    def __call__(self, pool: Any, budget: Any, *, seed: int = 0, seconds: float | None = None) -> Any:
        self.seconds.append(seconds)
        return selections.random()(pool, budget, seed=seed)


def test_a_fixed_limit_is_shared_by_the_tasks_of_an_update() -> None:
    asked = Asked()
    CondensedBuffer(images_per_class=2, condenser=asked, seconds=6.0).update_from_dataset(noisy([0, 1]))
    assert asked.seconds == [6.0]


@pytest.mark.parametrize("plugin", [CondensedReplayPlugin, MemoryOnlyPlugin])
def test_condensing_may_take_as_long_as_training_took(plugin: Any) -> None:
    asked = Asked()
    memory = CondensedBuffer(images_per_class=2, condenser=asked, seconds="training")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    strategy = SupervisedTemplate(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        train_mb_size=4,
        train_epochs=2,
        plugins=[plugin(memory)],
        evaluator=None,
    )
    for experience in label_free_stream([[0, 1], [2, 3]]).train_stream:
        started = time.perf_counter()
        strategy.train(experience)
        spent = time.perf_counter() - started
    if plugin is MemoryOnlyPlugin:  # it condenses before it trains: nothing is known at first, then the training before
        assert asked.seconds[0] is None
    assert 0 < asked.seconds[1] < spent
    assert memory.training_seconds is not None

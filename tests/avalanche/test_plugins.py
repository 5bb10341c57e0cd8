"""The plugins, strategies that hold a policy of their own, and the ready strategies."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer, ReservoirSamplingBuffer
from avalanche.training.supervised import DER, ER_ACE, ER_AML, MER, MIR, GDumb, Naive
from jaxtyping import TypeCheckError
from toy_streams import MEAN, STD, Seen, label_free_stream, linear, task_labelled_stream

from ddreplay import ConvNet, dm
from ddreplay.augment.siamese import Siamese
from ddreplay.avalanche import (
    AugmentPlugin,
    CondensedBuffer,
    CondensedReplayPlugin,
    MemoryOnlyPlugin,
    RingBuffer,
    use_in,
)
from ddreplay.networks import Banked

STREAMS = {"labelled": task_labelled_stream, "label-free": lambda: label_free_stream([[0, 1], [2, 3], [4, 5]])}


class Negative:
    """An augmentation that turns the sign."""

    def draw(self, shape: Any, random: Any, *, n: int | None = None) -> Any:
        assert n is not None
        return torch.neg


def ring(**how: Any) -> CondensedBuffer:
    return RingBuffer(**{"images_per_class": 2, "mean": MEAN, "std": STD, "device": "cpu", **how})


def base(kind: Any = Naive, **how: Any) -> Any:
    model = how.pop("model", None) or linear()
    how = {"criterion": torch.nn.CrossEntropyLoss(), "train_mb_size": 8, "evaluator": None, **how}
    return kind(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), **how)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(
    ("images_per_class", "batch_size_mem", "replayed"), [(2, None, [4, 8]), (2, 3, [3, 3]), (1, 3, [2, 3])]
)
def test_every_step_replays_what_the_memory_has(
    stream: str, drop_last: bool, images_per_class: int, batch_size_mem: int | None, replayed: list[int]
) -> None:
    plugin = CondensedReplayPlugin(ring(images_per_class=images_per_class), batch_size_mem=batch_size_mem)
    strategy = base(plugins=[plugin, seen := Seen()], train_epochs=2)
    old: set[int] = set()
    for k, experience in enumerate(STREAMS[stream]().train_stream):
        strategy.train(experience, drop_last=drop_last)
        counts = [sum(c in old for c in step) for step in seen.labels[-1]]
        expected = replayed[k - 1] if k else 0
        assert counts
        assert counts[0] == expected
        assert min(counts) >= min(1, expected)
        assert not drop_last or set(counts) == {expected}
        old |= {int(c) for c in experience.dataset.targets}
    assert plugin.batch_size_mem == batch_size_mem


def test_old_classes_are_seen_as_often_as_new_ones() -> None:
    memory = ring(images_per_class=10)
    plugin = CondensedReplayPlugin(memory, batch_size_mem="balanced")
    strategy = base(plugins=[plugin, seen := Seen()], train_mb_size=4)
    old: set[int] = set()
    for experience in STREAMS["label-free"]().train_stream:
        strategy.train(experience, drop_last=True)
        assert {sum(c in old for c in step) for step in seen.labels[-1]} == {2 * len(old)}
        old |= {int(c) for c in experience.dataset.targets}
    assert len(old) == 6
    wrong: Any = {"batch_size_mem": "all"}
    with pytest.raises((ValueError, TypeCheckError), match="balanced"):
        CondensedReplayPlugin(memory, **wrong)


def test_new_and_replayed_images_are_augmented_in_training_alone() -> None:
    class Sees(SupervisedPlugin):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.given: list[torch.Tensor] = []
            self.shown: list[torch.Tensor] = []

        def before_training_iteration(self, strategy: Any, **kwargs: Any) -> None:
            self.given.append(strategy.mb_x.clone())

        def after_forward(self, strategy: Any, **kwargs: Any) -> None:
            self.shown.append(strategy.mb_x.clone())

        def after_eval_forward(self, strategy: Any, **kwargs: Any) -> None:
            assert strategy.mb_x.shape[1:] == (1, 8, 8)
            assert not any(torch.equal(x, -strategy.mb_x) for x in self.shown)

    def run() -> Sees:
        plugins = [CondensedReplayPlugin(ring()), AugmentPlugin(Negative(), seed=3), sees := Sees()]
        strategy, stream = base(plugins=plugins), STREAMS["label-free"]()
        for experience in stream.train_stream:
            strategy.train(experience)
        strategy.eval(stream.test_stream)
        return sees

    found = run()
    assert max(map(len, found.given)) > 8  # a batch of new images and one of memory
    for before, after in zip(found.given, found.shown, strict=True):
        torch.testing.assert_close(after, -before)


def test_images_that_er_ace_replays_apart_are_augmented_too() -> None:
    class Apart(SupervisedPlugin):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.batches: list[torch.Tensor] = []

        def after_forward(self, strategy: Any, **kwargs: Any) -> None:
            if strategy.replay_loader is not None:
                self.batches.append(strategy.mb_buffer_x.clone())

    plugins = [AugmentPlugin(Negative()), apart := Apart()]
    strategy = use_in(base(ER_ACE, batch_size_mem=4, plugins=plugins), memory := ring(task_labels="always"))
    for experience in task_labelled_stream().train_stream:
        strategy.train(experience)
    stored = torch.stack([memory.buffer[k][0] for k in range(len(memory.buffer))])
    assert len(apart.batches) == 6
    assert all(bool((stored == -x).flatten(1).all(1).any()) for batch in apart.batches for x in batch)


def test_the_drawn_operations_follow_from_the_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(0)
        strategy = base(plugins=[AugmentPlugin(Siamese(), seed=seed)])
        strategy.train(next(iter(STREAMS["label-free"]().train_stream)))
        return torch.cat([p.detach().flatten() for p in strategy.model.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_metrics_tell_what_the_memory_costs() -> None:
    memory = ring()
    strategy = base(plugins=[CondensedReplayPlugin(memory)], evaluator=EvaluationPlugin(accuracy_metrics(stream=True)))
    for experience in task_labelled_stream().train_stream:
        result = strategy.train(experience)
    prefix, suffix = "Memory_", "/train_phase/train_stream"
    assert result[f"{prefix}Images{suffix}"] == 12
    assert result[f"{prefix}Bytes{suffix}"] == memory.nbytes
    assert result[f"{prefix}Update_Seconds{suffix}"] >= memory.seconds[-1] > 0
    assert strategy.evaluator.get_all_metrics()[f"{prefix}Images{suffix}"][1] == [4, 8, 12]


class OldStyle(ReservoirSamplingBuffer):
    """A policy from before ``post_adapt``."""

    post_adapt = ReservoirSamplingBuffer.__mro__[1].post_adapt

    def update(self, strategy: Any, **kwargs: Any) -> None:
        self.update_from_dataset(strategy.experience.dataset)


@pytest.mark.parametrize(
    "policy", [lambda: ClassBalancedBuffer(12), lambda: ReservoirSamplingBuffer(12), lambda: OldStyle(12)]
)
@pytest.mark.parametrize("plugin", [CondensedReplayPlugin, MemoryOnlyPlugin])
def test_plugins_take_any_storage_policy(policy: Any, plugin: Any) -> None:
    strategy = base(plugins=[plugin(memory := policy())])
    for experience in task_labelled_stream().train_stream:
        strategy.train(experience)
        assert len(memory.buffer) == 12


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("stream", STREAMS)
def test_memory_only_starts_from_the_initial_weights_and_sees_the_memory_alone(stream: str) -> None:
    start = weights(linear())
    memory = ring()
    strategy = base(plugins=[MemoryOnlyPlugin(memory), seen := Seen()], train_epochs=0)
    for experience in STREAMS[stream]().train_stream:
        strategy.train_epochs = 0
        strategy.train(experience)
        assert torch.equal(weights(strategy.model), start)
        strategy.train_epochs = 2
        strategy.train(experience)
        assert not torch.equal(weights(strategy.model), start)
        stored = torch.stack([memory.buffer[k][0] for k in range(len(memory.buffer))])
        assert all(bool((x == stored).flatten(1).all(1).any()) for step in seen.images[-1] for x in step)
        assert {c for step in seen.labels[-1] for c in step} == {int(c) for c in memory.buffer.targets}


def test_memory_only_does_not_depend_on_what_was_trained_before() -> None:
    def result(first: bool) -> torch.Tensor:
        benchmark = task_labelled_stream()
        memory = ring()
        strategy = base(plugins=[MemoryOnlyPlugin(memory)], train_epochs=5)
        if first:
            strategy.train(benchmark.train_stream[0])
        else:
            memory.post_adapt(None, benchmark.train_stream[0])
        torch.manual_seed(0)
        strategy.train(benchmark.train_stream[1])
        return weights(strategy.model)

    assert torch.equal(result(True), result(False))


@pytest.mark.parametrize("access_task_boundaries", [True, False])
def test_memory_only_trains_in_every_part_of_an_online_stream(access_task_boundaries: bool) -> None:
    stream = split_online_stream(
        task_labelled_stream(per_class=5).train_stream, experience_size=5, access_task_boundaries=access_task_boundaries
    )
    start = weights(linear())
    strategy = base(plugins=[MemoryOnlyPlugin(ring())], train_epochs=3)
    for sub_experience in stream:
        strategy.train(sub_experience)
        assert not torch.equal(weights(strategy.model), start)
        held = {id(p) for group in strategy.optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in strategy.model.parameters()}


def test_memory_only_with_nothing_to_train_on(caplog: pytest.LogCaptureFixture) -> None:
    memory = ring(condense_every=2)
    strategy = base(plugins=[MemoryOnlyPlugin(memory)], train_epochs=3)
    first, second, _ = task_labelled_stream().train_stream
    strategy.train(first)
    assert torch.equal(weights(strategy.model), weights(linear()))
    assert "the memory is empty" in caplog.text
    strategy.train(second)
    assert not torch.equal(weights(strategy.model), weights(linear()))


def test_memory_only_trains_on_less_than_a_batch_whatever_drop_last_says() -> None:
    strategy = base(plugins=[MemoryOnlyPlugin(ring()), seen := Seen()])
    strategy.train(task_labelled_stream().train_stream[0], drop_last=True)
    assert [len(step) for step in seen.labels[-1]] == [4]


class LongestBatch(Seen):
    """Notes the size of the replayed part where a strategy keeps it apart."""

    def __init__(self) -> None:
        super().__init__()
        self.replayed: list[int] = []

    def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        loader = strategy.replay_loader
        self.replayed.append(0 if loader is None else len(strategy.mb_buffer_y))


@pytest.mark.parametrize(
    "how", [{"total_num_classes": 6}, {"max_size": 11, "adaptive_size": True, "images_per_class": None}]
)
def test_er_ace_replays_from_a_memory_smaller_than_its_batch(how: Any, caplog: pytest.LogCaptureFixture) -> None:
    memory = CondensedBuffer(
        condenser=dm(ConvNet(width=8), networks=Banked(size=2), steps=2, batch_real=4),
        **{"images_per_class": 2, "mean": MEAN, "std": STD, "device": "cpu", **how},
    )
    with caplog.at_level(logging.WARNING):
        strategy = use_in(base(ER_ACE, batch_size_mem=32, plugins=[spy := LongestBatch()]), memory)
    assert "before it trains" in caplog.text
    for experience in task_labelled_stream().train_stream:
        spy.replayed.clear()
        strategy.train(experience)
        assert (min(spy.replayed) > 0) == (experience.current_experience > 0)
    assert strategy.mem_size == memory.max_size


def test_mir_replays_from_a_memory_smaller_than_its_batch() -> None:
    strategy = use_in(base(MIR, mem_size=200, subsample=50, batch_size_mem=32), memory := ring())
    plugin = next(p for p in strategy.plugins if getattr(p, "storage_policy", None) is memory)
    for experience in task_labelled_stream().train_stream:
        strategy.train(experience)
    assert plugin.replay_loader is not None
    assert plugin.batch_size_mem < len(memory.buffer)


def test_gdumb_takes_the_policy() -> None:
    strategy = use_in(base(GDumb, mem_size=200, plugins=[seen := Seen()]), memory := ring())
    for experience in task_labelled_stream().train_stream:
        strategy.train(experience)
    assert len(memory.buffer) == 12
    assert sum(len(step) for step in seen.labels[-1]) == 12


def test_mer_takes_the_policy() -> None:
    strategy = use_in(base(MER), memory := ring())
    for experience in task_labelled_stream(per_class=4).train_stream:
        strategy.train(experience)
    assert len(memory.buffer) == len(strategy.buffer) == 12


def test_strategies_that_cannot_use_it_say_so() -> None:
    with pytest.raises(TypeError, match="CondensedReplayPlugin"):
        use_in(base(), ring())
    with pytest.raises(TypeError, match="logits"):
        use_in(base(DER), ring())
    aml = base(ER_AML, feature_extractor=torch.nn.Identity())
    with pytest.raises(ValueError, match="lower train_mb_size"):
        use_in(aml, ring())


def test_a_strategy_with_its_memory_can_be_copied() -> None:
    strategy = base(plugins=[CondensedReplayPlugin(ring())])
    strategy.train(task_labelled_stream().train_stream[0])
    twin = copy.deepcopy(strategy)
    twin.train(task_labelled_stream().train_stream[1])
    assert len(strategy.plugins[0].storage_policy.buffer) == 4
    assert len(twin.plugins[0].storage_policy.buffer) == 8

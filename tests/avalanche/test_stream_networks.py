"""Condensing with copies of the model in training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.supervised import Naive
from toy_streams import MEAN, STD, label_free_stream, task_labelled_stream

from ddreplay import ClassPool, ConvNet, dm
from ddreplay.avalanche import CondensedBuffer, CondensedReplayPlugin, RingBuffer, SnapshotPlugin
from ddreplay.networks import Banked, Snapshots

STREAMS = {"labelled": task_labelled_stream, "label-free": lambda: label_free_stream([[0, 1], [2, 3], [4, 5]])}


def condensed(**how: Any) -> CondensedBuffer:
    condenser = dm(networks=Banked(ConvNet(width=8), size=2), steps=4, batch_real=4)
    return CondensedBuffer(images_per_class=2, condenser=condenser, mean=MEAN, std=STD, device="cpu", **how)


def base(plugins: list[Any], **how: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = ConvNet(width=8)((1, 8, 8), 6)
    how = {"train_mb_size": 4, "train_epochs": 2, "evaluator": None, **how}
    torch.manual_seed(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    return Naive(model=model, optimizer=optimizer, criterion=torch.nn.CrossEntropyLoss(), plugins=plugins, **how)


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Ages(SupervisedPlugin):  # type: ignore[misc]
    """Notes the weights after every step."""

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.weights: list[torch.Tensor] = []

    def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.weights.append(weights(strategy.model))


class Used(SupervisedPlugin):  # type: ignore[misc]
    """Notes what the memory would condense with, before it does."""

    def __init__(self, memory: CondensedBuffer) -> None:
        super().__init__()
        self.memory = memory

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.source = self.memory.condenser.networks


@pytest.mark.parametrize("stream", STREAMS)
def test_the_copies_are_the_model_at_even_steps_and_the_memory_is_made_with_them(stream: str) -> None:
    memory, twin = condensed(), condensed()
    own = memory.condenser
    plugins = [ages := Ages(), SnapshotPlugin(memory, size=3), used := Used(memory), CondensedReplayPlugin(memory)]
    strategy = base(plugins)
    for experience in STREAMS[stream]().train_stream:
        strategy.train(experience)
        assert len(ages.weights) == 10  # 20 images, 2 epochs
        assert isinstance(used.source, Snapshots)
        for net, age in zip(used.source.nets, (3, 7, 10), strict=True):
            assert torch.equal(weights(net), ages.weights[age - 1])
        twin.condenser = replace(own, networks=Snapshots(used.source.nets))
        twin.post_adapt(None, experience)
        assert torch.equal(memory.memories[0].batch().x, twin.memories[0].batch().x)
        assert memory.condenser is own
        assert strategy.plugins[1].networks == []


def test_a_whole_stream_can_be_trained_in_one_call() -> None:
    memory = condensed()
    own = memory.condenser
    strategy = base(
        [SnapshotPlugin(memory, size=40), used := Used(memory), CondensedReplayPlugin(memory)], train_epochs=1
    )
    seen = []
    used.before_training_exp = lambda strategy, **how: seen.append(memory.condenser is own)  # type: ignore[method-assign]
    strategy.train(task_labelled_stream().train_stream)
    assert seen == [True] * 3
    assert len(used.source.nets) == 5  # one copy a step at most
    assert memory.condenser is own
    assert len(memory.buffer) == 12


def test_the_practical_default_looks_with_the_copies_too() -> None:
    memory = CondensedBuffer(images_per_class=2, mean=MEAN, std=STD, device="cpu")
    own = memory.condenser
    strategy = base([SnapshotPlugin(memory, size=2), used := Used(memory), CondensedReplayPlugin(memory)])
    strategy.train(task_labelled_stream().train_stream[0])
    assert len(used.source.nets) == 2
    assert memory.condenser is own
    assert memory.condensed.provenance["settings"]["networks"]["is"] == "Snapshots"


def test_what_does_not_condense_with_networks_is_refused() -> None:
    ring = RingBuffer(images_per_class=2, mean=MEAN, std=STD, device="cpu")
    with pytest.raises(TypeError, match="needs a Distiller for a condenser, got Selection"):
        SnapshotPlugin(ring)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        SnapshotPlugin(condensed(), size=0)


def test_copies_with_more_outputs_than_a_pool_has_classes_serve() -> None:
    x, y = torch.rand(20, 1, 8, 8), torch.tensor([3, 5] * 10)
    nets = [ConvNet(width=8)((1, 8, 8), 6) for _ in range(2)]
    method = replace(dm(ConvNet(width=8), steps=2), networks=Snapshots(nets))
    assert method(ClassPool(x, y, device="cpu"), 2).class_ids == (3, 5)

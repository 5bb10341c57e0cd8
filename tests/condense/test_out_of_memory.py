"""An accelerator that is out of memory: fewer images at once, and the same result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn

from ddreplay import ClassPool, Condenser, ConvNet, dm, evaluate, methods
from ddreplay.backbones import as_factory
from ddreplay.condense import SGD
from ddreplay.data import Batch
from ddreplay.data.chunks import in_memory
from ddreplay.evaluation import PROTOCOLS, Protocol, predict, train
from ddreplay.methods import selections
from ddreplay.networks import Banked, ModelQueue
from ddreplay.networks.real_batches import Representative
from ddreplay.objectives import MutualInformation
from ddreplay.randomness import Random
from ddreplay.storage.codecs import float32
from ddreplay.training import ByOptimizer, LabelledImages, train_network

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=8)
QUEUE = ModelQueue(train_steps=1, batch_size=40, push_interval=2, size=2, meter_interval=2)


@contextmanager
def memory_for(images: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Networks fail with more images at once than these; gives how many each forward pass had that did not."""
    passed: list[int] = []
    forward = nn.Conv2d.forward

    def limited(self: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        if len(x) > images:
            raise torch.OutOfMemoryError("pretended")
        passed.append(len(x))
        return forward(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(nn.Conv2d, "forward", limited)
        yield passed


@pytest.mark.parametrize(
    "method",
    [
        dm(NET, steps=3),
        dm(NET, steps=3, networks=Banked(size=2)),
        methods.ddm(NET, steps=2),
        methods.ncfm(NET, steps=1),  # whose roots make much of rounding
        dm(NET, steps=2).plus(MutualInformation(), 0.1),
        dm(NET, steps=2, networks=Banked(size=1, trained=2, batch_size=40)),
        replace(dm(NET, steps=2), step_per="class"),
        replace(dm(NET, steps=2), step_per="class", optimizer=SGD(1.0, max_norm=1e9)),
        methods.idm(NET, steps=2, networks=QUEUE, weight=0.01),
        methods.dc(NET, rounds=2, loops=(1, 1)),
        methods.dcc(NET, rounds=2, loops=(1, 1)),
    ],
    ids=["dm", "banked", "ddm", "ncfm", "mim", "trained", "swept", "by class", "idm", "dc", "dcc"],
)
def test_a_condensation_goes_on_with_fewer_images_at_once(
    method: Condenser, toy_pool: MakePool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    method, pool = method.stored_by(float32()), toy_pool(images_per_class=40)  # type: ignore[attr-defined]
    whole = method(pool, 12, seed=1)
    with memory_for(20, monkeypatch) as passed, caplog.at_level(logging.WARNING):
        found = method(pool, 12, seed=1)
    assert 10 < max(passed) <= 20
    assert "going on with half as many" in caplog.text
    torch.testing.assert_close(found.images().x, whole.images().x, atol=1e-3, rtol=0)


def test_the_smaller_number_is_kept(
    toy_pool: MakePool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []

    def attempt(size: int) -> int:
        tried.append(size)
        if size > 16:
            raise torch.OutOfMemoryError("pretended")
        return size

    assert in_memory(attempt, 100, torch.device("cpu")) == (12, 12)
    assert tried == [100, 50, 25, 12]
    with memory_for(20, monkeypatch), caplog.at_level(logging.WARNING):
        dm(NET, steps=4)(toy_pool(images_per_class=40), 12)
    sizes = [record.args[0] for record in caplog.records if record.args]  # type: ignore[index]
    real, synthetic = [128, 64, 32], [128, 64, 32, 16, 8]  # of which four pieces pass at once
    assert sizes[3:] == real + synthetic  # in the first of four steps


def test_networks_are_tested_with_fewer_images_at_once(toy_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = toy_pool(images_per_class=40)
    net = as_factory(NET)(pool.shape, 3)
    whole = predict(net, pool)
    with memory_for(20, monkeypatch) as passed:
        assert torch.equal(predict(net, pool), whole)
        assert max(passed) == 16
        found = evaluate(
            methods.selections.random()(pool, 2), pool, NET, protocol=PROTOCOLS["dc2021"].scaled(1), seeds=1
        )
    assert len(found.accuracies) == 1


def test_training_goes_on_with_fewer_images_at_once(
    toy_pool: MakePool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pool, protocol = toy_pool(images_per_class=20), Protocol("quick", epochs=4, batch_size=48)

    def trained() -> list[torch.Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = NET(pool.shape, 3)
        train(net, pool.all().x, pool.all_labels(), protocol, Random(1))
        return list(net.parameters())

    whole = trained()
    with memory_for(20, monkeypatch) as passed, caplog.at_level(logging.WARNING):
        found = trained()
    assert max(passed) == 12  # a quarter of 48
    assert len(caplog.records) == 2  # in the first step, and kept
    for a, b in zip(found, whole, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


class MovesThenFails(ByOptimizer):
    """A step that moves the weights and then runs out of memory; counts how often it was taken."""

    taken = 0

    def __call__(self, loss: torch.Tensor) -> None:
        type(self).taken += 1
        super().__call__(loss)
        raise torch.OutOfMemoryError("pretended")


def test_a_step_that_has_moved_the_weights_is_not_taken_again() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    images = LabelledImages.of_batch(Batch(torch.ones(4, 1, 1, 3), torch.tensor([0, 1, 0, 1])))
    descend = MovesThenFails(torch.optim.SGD(net.parameters(), lr=0.1))
    with pytest.raises(torch.OutOfMemoryError, match="while the weights moved"):
        train_network(net, images, lambda n, _: [torch.arange(n)], descend, Random(0))
    assert MovesThenFails.taken == 1


def test_real_images_are_embedded_with_fewer_at_once(toy_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = toy_pool(images_per_class=40)
    choices: list[Condenser] = [selections.herding(NET, epochs=0), selections.forgetting(NET, epochs=2)]
    choices.append(replace(dm(NET, steps=1), draw=Representative()))
    whole = [choose(pool, 3).images().x for choose in choices]
    with memory_for(20, monkeypatch):
        for choose, before in zip(choices, whole, strict=True):
            torch.testing.assert_close(choose(pool, 3).images().x, before, atol=1 / 255, rtol=0)


def test_what_does_not_fit_at_all_says_so(toy_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = toy_pool(images_per_class=8)
    state = torch.random.get_rng_state()
    with memory_for(0, monkeypatch), pytest.raises(torch.OutOfMemoryError, match="pretended"):
        dm(NET, steps=1)(pool, 2)
    with memory_for(10, monkeypatch), pytest.raises(torch.OutOfMemoryError, match="pretended"):
        dm(ConvNet(width=8, norm="batch"), steps=1)(pool, 2)  # all images at once, or not at all
    assert torch.equal(torch.random.get_rng_state(), state)

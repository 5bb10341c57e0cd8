"""Sources that train networks: experts, queues, and networks trained between image steps; their edges, and deadlines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddreplay import ClassPool, ConvNet
from ddreplay.augment.siamese import Siamese
from ddreplay.data.pool import Batch
from ddreplay.networks import (
    Context,
    ExpertSegments,
    ModelQueue,
    NetworkSource,
    Pretrained,
    TrainedOnReal,
    TrainedOnSynthetic,
)
from ddreplay.networks.trained_on_synthetic import train_epoch
from ddreplay.objectives import GradientMatching, MeanEmbedding
from ddreplay.objectives.term import Term
from ddreplay.randomness import Random

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=4)


def a_context(pool: ClassPool, objective: Term | None = None, **how: Any) -> Context:
    return Context(pool, objective or MeanEmbedding(), Siamese(), 4, Random(3), lambda: pool.draw(1, Random(0)), **how)


def after(count: int) -> tuple[Callable[[], bool], list[bool]]:
    """Time that is up once it was asked for so often, and the answers so far."""
    said: list[bool] = []

    def stop() -> bool:
        said.append(len(said) >= count)
        return said[-1]

    return stop, said


def flat(weights: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([w.flatten() for w in weights])


def test_an_expert_without_time_is_shown_from_its_beginning_and_not_written(toy_pool: MakePool, tmp_path: Path) -> None:
    pool = toy_pool()
    source = ExpertSegments(NET, experts=1, latest_start=9, segment=2, batch_size=6, folder=tmp_path)
    stop, said = after(7)  # in the third epoch of three batches
    networks = source.start(a_context(pool, stop=stop))
    look, _ = networks.show()
    assert said == [False] * 7 + [True]
    assert list(tmp_path.iterdir()) == []
    start, target = flat(tuple(look.net.parameters())), flat(look.target)
    fresh = source.start(a_context(pool))
    assert torch.equal(start, flat(fresh.weights(0, 0)))  # type: ignore[attr-defined]
    assert torch.equal(target, flat(fresh.weights(0, 2)))  # type: ignore[attr-defined]
    assert len(list(tmp_path.iterdir())) == 1


def test_an_expert_takes_one_step_whatever_the_time(toy_pool: MakePool) -> None:
    """The distance from start to target, in which others are measured, is not zero."""
    source = ExpertSegments(NET, experts=1, latest_start=4, segment=2, batch_size=6)
    networks = source.start(a_context(toy_pool(), stop=lambda: True))
    for _ in range(3):
        look, _ = networks.show()
        assert (flat(tuple(look.net.parameters())) - flat(look.target)).norm() > 0


def test_experts_say_how_many_there_are(toy_pool: MakePool) -> None:
    told: list[tuple[int, int]] = []
    source = ExpertSegments(NET, experts=3, latest_start=1, segment=1, batch_size=18)
    networks = source.start(a_context(toy_pool(), on_network=lambda *of: told.append(of)))
    for _ in range(20):
        networks.show()
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_queue_begins_with_what_there_was_time_for(toy_pool: MakePool) -> None:
    pool, told = toy_pool(), []  # type: ignore[var-annotated]
    stop, said = after(25)
    source = ModelQueue(NET, start_with=1, batch_size=4, train_steps=2, pretrained=Pretrained(networks=3, steps=20))
    networks = source.start(a_context(pool, stop=stop, on_network=lambda *of: told.append(of)))
    assert len(said) == 20 + 6 + 1  # whole, cut in the sixth step, not begun
    assert told == [(1, 3), (2, 3), (3, 3)]
    networks.show()
    networks.moved()
    assert [queued.steps for queued in networks.queue] == [2, 2]  # type: ignore[attr-defined]
    assert len(said) == 27  # training between image steps is not cut


@pytest.mark.parametrize(
    "source",
    [TrainedOnReal(NET, steps=3, images=12, batch_size=4), TrainedOnSynthetic(NET, loops=(3, 2), batch_size=2)],
)
def test_training_between_image_steps_is_not_cut(source: NetworkSource, toy_pool: MakePool) -> None:
    pool = toy_pool()
    states = []
    for stop in (None, lambda: True):
        networks = source.start(a_context(pool, GradientMatching(), stop=stop))
        networks.show()
        networks.moved()
        look, _ = networks.show()
        states.append(flat(tuple(look.net.parameters())))
    assert torch.equal(*states)


def test_real_images_may_be_none(toy_pool: MakePool) -> None:
    networks = TrainedOnReal(NET, images=0).start(a_context(toy_pool(), GradientMatching()))
    before = flat(tuple(networks.show()[0].net.parameters())).clone()
    networks.moved()
    assert torch.equal(before, flat(tuple(networks.show()[0].net.parameters())))


def test_networks_learn_the_synthetic_set_whatever_the_objective_needs(toy_pool: MakePool) -> None:
    """Also where the objective keeps networks without gradients, which they have again after."""
    pool = toy_pool()
    for objective in (MeanEmbedding(), GradientMatching()):
        networks = TrainedOnSynthetic(NET, loops=(3, 4), lr=0.05).start(a_context(pool, objective))
        before = flat(tuple(networks.show()[0].net.parameters())).clone()
        networks.moved()
        look, _ = networks.show()
        assert not torch.equal(before, flat(tuple(look.net.parameters())))
        assert all(p.requires_grad == objective.weight_gradients and p.grad is None for p in look.net.parameters())


def test_several_epochs_are_one_after_the_other(toy_pool: MakePool) -> None:
    pool = toy_pool()
    found = []
    for calls, epochs in ((1, 3), (3, 1)):
        random = Random(2)
        net = a_context(pool, GradientMatching()).network(NET, random)
        batch: Batch = pool.all()
        for _ in range(calls):
            train_epoch(net, batch, random, lr=0.1, batch_size=5, augment=Siamese(), epochs=epochs)
        found.append(flat(tuple(net.parameters())).detach())
    assert torch.equal(*found)

"""The life of a model queue: who comes, who goes, who is trained and for how long."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddreplay import ClassPool, ConvNet
from ddreplay.augment.siamese import Identity
from ddreplay.data.pool import Batch
from ddreplay.networks import Context, ModelQueue, Pretrained
from ddreplay.networks.queue import QueuedNetworks
from ddreplay.objectives import MeanEmbedding
from ddreplay.randomness import Random

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=4)


def queue(pool: ClassPool, seed: int = 0, **how: Any) -> QueuedNetworks:
    context = Context(pool, MeanEmbedding(), Identity(), 4, Random(seed), lambda: Batch(torch.empty(0), torch.empty(0)))
    found = ModelQueue(NET, batch_size=4, **how).start(context)
    assert isinstance(found, QueuedNetworks)
    return found


def test_pushes_pops_and_training_steps_are_as_set(toy_pool: MakePool) -> None:
    networks = queue(toy_pool(), start_with=3, size=5, push_interval=2, train_steps=3, fetch=2)
    known: dict[int, Any] = {}
    lengths = []
    for _ in range(20):
        networks.show()
        lengths.append(len(networks.queue))
        known.update({id(q): q for q in networks.queue})
        before = {id(q): q.steps for q in networks.queue}
        networks.moved()
        trained = [q.steps - before[id(q)] for q in networks.queue]
        assert Counter(trained) == Counter({3: 2, 0: len(networks.queue) - 2})
    # one is pushed at steps 0, 2, 4, ..., 18, from the third of them on an old one goes first
    assert lengths == [4, 4, 5, 5] + [5] * 16
    assert networks.pushed == 3 + 10
    assert networks.popped == 8
    assert len(known) == networks.pushed
    assert sum(q.steps for q in known.values()) == 20 * 2 * 3


def test_by_the_papers_algorithm_the_network_that_looked_is_trained_and_no_other(toy_pool: MakePool) -> None:
    networks = queue(toy_pool(), start_with=3, size=3, push_interval=4, train_steps=2, trains="shown")
    looked = set()
    for _ in range(12):
        look, _ = networks.show()
        before = {id(q): q.steps for q in networks.queue}
        networks.moved()
        assert {id(q.net): q.steps - before[id(q)] for q in networks.queue} == {
            id(q.net): 2 * (q.net is look.net) for q in networks.queue
        }
        looked.add(id(look.net))
    assert len(looked) > 1


def test_the_oldest_is_popped(toy_pool: MakePool) -> None:
    networks = queue(toy_pool(), start_with=2, size=2, push_interval=1, train_steps=0)
    first, second = networks.queue
    networks.show()
    assert networks.queue[0] is second
    assert first not in networks.queue


def test_training_is_sgd_with_momentum_and_decay_on_drawn_images(toy_pool: MakePool) -> None:
    """One step of a network equals the step written out."""
    networks = queue(toy_pool(), start_with=1, train_steps=2, fetch=1, lr=0.1, momentum=0.9, weight_decay=0.01)
    (only,) = networks.queue
    weights = [p.detach().clone() for p in only.net.parameters()]
    drawn: list[torch.Tensor] = []
    rows = networks.context.pool.rows
    networks.context.pool.rows = lambda index: drawn.append(index) or rows(index)  # type: ignore[assignment,method-assign,func-returns-value]
    networks.moved()
    other = NET(networks.context.pool.shape, networks.context.pool.classes)
    for p, w in zip(other.parameters(), weights, strict=True):
        p.data.copy_(w)
    velocity = [torch.zeros_like(w) for w in weights]
    hits = 0
    for index in drawn:
        truth = networks.labels[index]
        logits = other(rows(index))
        hits += int((logits.argmax(1) == truth).sum())
        loss = -logits.log_softmax(1)[torch.arange(len(truth)), truth].mean()
        for k, (p, g) in enumerate(
            zip(other.parameters(), torch.autograd.grad(loss, list(other.parameters())), strict=True)
        ):
            velocity[k] = 0.9 * velocity[k] + g + 0.01 * p.detach()
            p.data.sub_(0.1 * velocity[k])
    assert len(drawn) == 2
    for p, q in zip(only.net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.detach(), q.detach())
    assert float(only.accuracy) == pytest.approx(hits / 8)


def test_accuracy_runs_since_the_meter_was_cleared(toy_pool: MakePool) -> None:
    networks = queue(
        toy_pool(images_per_class=30),
        start_with=1,
        size=1,
        push_interval=100,
        train_steps=60,
        fetch=1,
        meter_interval=3,
    )
    found = []
    for _ in range(4):
        look, _ = networks.show()
        found.append(float(look.accuracy))
        networks.moved()
    assert found[0] == 0
    assert 1 / 3 < found[1] <= found[2] <= 1
    assert found[3] == 0  # cleared at step 3


def test_networks_look_in_eval_mode_and_unaware_of_gradients(toy_pool: MakePool) -> None:
    networks = queue(toy_pool(), train_steps=1)
    networks.show()
    networks.moved()
    look, _ = networks.show()
    assert not look.net.training
    assert not any(p.requires_grad for q in networks.queue for p in q.net.parameters())


def test_pretrained_networks_differ_in_rate_and_classes(toy_pool: MakePool) -> None:
    how = Pretrained(networks=2, steps=3, vary_lr=0.1, class_share=0.5)
    networks = queue(toy_pool(classes=4), start_with=6, pretrained=how, lr=0.02)
    rates = [q.lr for q in networks.queue]
    assert len(set(rates)) == 6
    assert all(0.018 <= rate <= 0.022 for rate in rates)
    subsets = [tuple(networks.labels[q.rows].unique().tolist()) for q in networks.queue if q.rows is not None]
    assert [len(s) for s in subsets] == [2] * 6
    assert len(set(subsets)) > 1
    kinds = {tuple(next(q.net.parameters()).flatten().tolist()) for q in networks.queue}
    assert len(kinds) == 2


def test_it_goes_on_from_its_state(toy_pool: MakePool) -> None:
    first = queue(toy_pool(), size=4, push_interval=2, train_steps=2, pretrained=Pretrained(networks=1, steps=1))
    for _ in range(3):
        first.show()
        first.moved()
    second = queue(toy_pool(), 5, size=4, push_interval=2, train_steps=2, pretrained=Pretrained(networks=1, steps=1))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.context.random.load_state_dict(first.context.random.state_dict())
    for networks in (first, second):
        for _ in range(3):
            networks.show()
            networks.moved()
    assert (first.step, first.pushed, first.popped) == (second.step, second.pushed, second.popped)
    for a, b in zip(first.queue, second.queue, strict=True):
        assert a.steps == b.steps
        assert float(a.accuracy) == float(b.accuracy)
        assert all(torch.equal(p, q) for p, q in zip(a.net.parameters(), b.net.parameters(), strict=True))


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"push_interval": 0}, {"start_with": 0}, {"fetch": -1}, {"meter_interval": 0}]
)
def test_wrong_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        ModelQueue(NET, **wrong)


def test_pretrained_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="class_share"):
        Pretrained(class_share=0.0)

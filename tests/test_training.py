"""The one training loop: against the same training written out, and what it promises at its edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddreplay import ClassPool, ConvNet
from ddreplay.augment.mixing import CutMix
from ddreplay.augment.siamese import Siamese
from ddreplay.data.pool import Batch
from ddreplay.randomness import Random
from ddreplay.training import (
    ByOptimizer,
    LabelledImages,
    PlainSGD,
    Shuffled,
    WithReplacement,
    learnable,
    train_network,
)

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=4)


def new(pool: ClassPool, seed: int = 0) -> nn.Module:
    with Random(seed).scope():
        return NET(pool.shape, pool.classes)


def weights(net: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    target = y if y.dim() == 2 else nn.functional.one_hot(y, logits.shape[1])
    return -(target * logits.log_softmax(1)).sum() / len(logits)


def test_it_is_sgd_written_out(toy_pool: MakePool) -> None:
    """Momentum and weight decay, augmented and mixed batches of an epoch in random order."""
    pool, augment, mix = toy_pool(), Siamese(), CutMix(p=0.5)
    net, other = new(pool), new(pool)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    train_network(
        net,
        LabelledImages.of_pool(pool),
        Shuffled(5),
        ByOptimizer(optimizer),
        Random(3),
        epochs=2,
        augment=augment,
        mix=mix,
    )
    random, (x, y) = Random(3), pool.all()
    velocity = [torch.zeros_like(w) for w in other.parameters()]
    for _ in range(2):
        order = torch.randperm(len(pool), generator=random.device)
        for start in range(0, len(pool), 5):
            rows = order[start : start + 5]
            seen = augment.draw(pool.shape, random, n=len(rows))(x[rows])
            batch = mix.draw(pool.shape, random, n=len(rows)).mix(Batch(seen, y[rows]), pool.classes)
            loss = cross_entropy(other(batch.x), batch.y)
            for v, w, g in zip(
                velocity, other.parameters(), torch.autograd.grad(loss, list(other.parameters())), strict=True
            ):
                v.mul_(0.9).add_(g + 0.01 * w.detach())
                w.data.sub_(0.1 * v)
    for ours, written in zip(weights(net), weights(other), strict=True):
        torch.testing.assert_close(ours, written, atol=1e-5, rtol=1e-4)


def test_plain_sgd_is_the_optimisers_to_the_bit_and_keeps_no_gradient(toy_pool: MakePool) -> None:
    pool, (net, other) = toy_pool(), (new(toy_pool()), new(toy_pool()))
    unused = nn.Parameter(torch.ones(3))
    net.register_parameter("unused", unused)
    images, order = LabelledImages.of_batch(pool.all()), Shuffled(7)
    train_network(net, images, order, PlainSGD(net, 0.1), Random(1), epochs=3)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    train_network(other, images, order, ByOptimizer(optimizer), Random(1), epochs=3)
    kept = [p for name, p in net.named_parameters() if name != "unused"]
    assert all(torch.equal(p, q) for p, q in zip(kept, other.parameters(), strict=True))
    assert not torch.equal(kept[0], next(new(pool).parameters()))
    assert torch.equal(unused, torch.ones(3))
    assert all(p.grad is None for p in net.parameters())


def test_an_epoch_shows_every_image_once_or_the_first_of_its_order() -> None:
    batches = list(Shuffled(4)(10, Random(0)))
    assert [len(rows) for rows in batches] == [4, 4, 2]
    assert torch.cat(batches).sort().values.tolist() == list(range(10))
    assert torch.equal(torch.cat(list(Shuffled(4, 6)(10, Random(0)))), torch.cat(batches)[:6])
    assert list(Shuffled(4, 0)(10, Random(0))) == []


def test_with_replacement_every_image_is_as_likely_in_every_batch() -> None:
    batches = list(WithReplacement(500, 8)(5, Random(0)))
    assert [len(rows) for rows in batches] == [8] * 500
    found = Counter(torch.cat(batches).tolist())
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert all(abs(count - 800) < 4 * (4000 * 0.2 * 0.8) ** 0.5 for count in found.values())


def test_some_rows_alone_are_trained_on_with_their_labels(toy_pool: MakePool) -> None:
    pool = toy_pool()
    rows = torch.tensor([2, 8, 16])
    some = LabelledImages.of_pool(pool).among(rows)
    assert len(some) == 3
    index = torch.tensor([1, 1, 0, 2])
    assert torch.equal(some.at(index), pool.rows(rows[index]))
    assert torch.equal(some.labels[index], pool.all_labels()[rows[index]])


@pytest.mark.parametrize("soft", [False, True])
def test_mixed_labels_have_a_column_for_each_class(toy_pool: MakePool, soft: bool) -> None:
    pool = toy_pool()
    x, y = pool.all()
    images = LabelledImages.of_batch(Batch(x, nn.functional.one_hot(y, 3).float() if soft else y))
    seen: list[Tensor] = []
    net = new(pool)
    train_network(
        net, images, Shuffled(6), PlainSGD(net, 0.1), Random(0), mix=CutMix(p=1.0), on_step=lambda _, y: seen.append(y)
    )
    mixed = torch.cat(seen)
    assert mixed.shape == (18, 3)
    torch.testing.assert_close(mixed.sum(1), torch.ones(18))
    assert ((mixed > 0) & (mixed < 1)).any()


def test_hooks_see_every_step_and_every_whole_epoch(toy_pool: MakePool) -> None:
    pool, net = toy_pool(), new(toy_pool())
    steps: list[tuple[tuple[int, ...], list[int]]] = []
    epochs: list[int] = []
    before = net(pool.all().x).detach()
    taken = train_network(
        net,
        LabelledImages.of_pool(pool),
        Shuffled(18),
        PlainSGD(net, 0.1),
        Random(0),
        epochs=3,
        on_step=lambda logits, y: steps.append((tuple(logits.shape), y.tolist())),
        on_epoch=epochs.append,
    )
    assert taken == len(steps) == 3
    assert epochs == [0, 1, 2]
    assert all(shape == (18, 3) and sorted(y) == pool.all_labels().tolist() for shape, y in steps)
    assert not torch.equal(before, net(pool.all().x))


def test_stop_ends_the_training_between_steps(toy_pool: MakePool) -> None:
    pool, asked, epochs = toy_pool(), [], []  # type: ignore[var-annotated]

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 4

    net, other = new(pool), new(pool)
    how: dict[str, Any] = {"on_epoch": epochs.append}
    images, order = LabelledImages.of_pool(pool), Shuffled(6)
    assert train_network(net, images, order, PlainSGD(net, 0.1), Random(0), epochs=9, stop=stop, **how) == 4
    assert epochs == [0]  # the second was not whole
    assert train_network(other, images, order, PlainSGD(other, 0.1), Random(0), epochs=2) == 6
    assert not torch.equal(weights(net)[0], weights(other)[0])
    fresh = new(pool)
    assert train_network(fresh, images, order, PlainSGD(fresh, 0.1), Random(0), stop=lambda: True) == 0
    assert all(torch.equal(p, q) for p, q in zip(weights(fresh), weights(new(pool)), strict=True))


def test_frozen_networks_learn_within_learnable_alone(toy_pool: MakePool) -> None:
    pool = toy_pool()
    net = new(pool).requires_grad_(False).eval()
    net.get_parameter("classifier.bias").requires_grad_(True)
    before = weights(net)
    descend = ByOptimizer(torch.optim.SGD(net.parameters(), lr=0.1))
    with torch.no_grad(), learnable(net):
        train_network(net, LabelledImages.of_pool(pool), WithReplacement(2, 4), descend, Random(0))
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["classifier.bias"]
    assert all(p.grad is None for p in net.parameters())
    moved = [not torch.equal(p, q) for p, q in zip(before, weights(net), strict=True) if p.dim() > 1]
    assert moved == [True] * 3  # two convolutions and the classifier
    assert net.training


def test_weights_that_somebody_froze_stay(toy_pool: MakePool) -> None:
    pool = toy_pool()
    net = new(pool)
    net.get_submodule("blocks").requires_grad_(False)
    frozen = weights(net.get_submodule("blocks"))
    descend = ByOptimizer(torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.1))
    train_network(net, LabelledImages.of_pool(pool), WithReplacement(3, 4), descend, Random(0))
    assert all(torch.equal(p, q) for p, q in zip(frozen, weights(net.get_submodule("blocks")), strict=True))
    assert not torch.equal(net.get_parameter("classifier.weight"), new(pool).get_parameter("classifier.weight"))


def test_a_learning_rate_schedule_is_a_hook(toy_pool: MakePool) -> None:
    """A rate of zero from the second epoch on: the weights stand still."""
    pool, net, seen = toy_pool(), new(toy_pool()), []  # type: ignore[var-annotated]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def after(epoch: int) -> None:
        seen.append(weights(net)[0])
        if epoch == 0:
            optimizer.param_groups[0]["lr"] = 0.0

    train_network(
        net, LabelledImages.of_pool(pool), Shuffled(6), ByOptimizer(optimizer), Random(0), epochs=3, on_epoch=after
    )
    assert not torch.equal(seen[0], weights(new(pool))[0])
    assert torch.equal(seen[0], seen[2])


def test_a_batch_in_pieces_is_the_same_step(toy_pool: MakePool) -> None:
    pool, sizes = toy_pool(), list[int]()
    x, y = pool.all()
    nets = [new(pool).double() for _ in range(2)]
    nets[1].register_forward_pre_hook(lambda _, images: sizes.append(len(images[0])))
    logits: list[list[Tensor]] = [[], []]
    for net, pieces, seen in zip(nets, (None, 4), logits, strict=True):
        train_network(
            net,
            LabelledImages.of_batch(Batch(x.double(), y)),
            Shuffled(10),
            ByOptimizer(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)),
            Random(3),
            epochs=2,
            pieces=pieces,
            on_step=lambda out, _, seen=seen: seen.append(out),  # type: ignore[misc]
        )
    assert set(sizes) == {4, 2} if len(x) % 10 == 0 else {4, 2} <= set(sizes)
    for a, b in zip(weights(nets[0]), weights(nets[1]), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(torch.cat(logits[0]), torch.cat(logits[1]), atol=1e-10, rtol=1e-8)


def test_a_network_that_mixes_a_batch_sees_it_whole(toy_pool: MakePool) -> None:
    pool, sizes = toy_pool(), list[int]()
    x, y = pool.all()
    with Random(0).scope():
        net = ConvNet(width=4, norm="batch")(pool.shape, pool.classes)
    net.register_forward_pre_hook(lambda _, images: sizes.append(len(images[0])))
    how = (LabelledImages.of_batch(Batch(x, y)), Shuffled(10), PlainSGD(net, 0.1), Random(3))
    train_network(net, *how, pieces=4)
    assert max(sizes) == min(10, len(x))


@pytest.mark.parametrize("pieces", [None, 4])
def test_a_step_moves_the_same_weights_whole_and_in_pieces(pieces: int | None, toy_pool: MakePool) -> None:
    """Those of the descent alone, and those that are learned when it is their turn."""
    pool, flags = toy_pool(), {1: True, 2: False}
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    body, head = net[1], net[3]
    before = [layer.weight.detach().clone() for layer in (body, head)]
    train_network(net, LabelledImages.of_pool(pool), Shuffled(9), PlainSGD(head, 0.1), Random(0), pieces=pieces)
    assert torch.equal(body.weight, before[0])
    assert not torch.equal(head.weight, before[1])

    seen: list[Tensor] = []
    body.requires_grad_(False)

    def after(epoch: int) -> None:
        seen.append(body.weight.detach().clone())
        body.requires_grad_(flags.get(epoch, False))

    how: dict[str, Any] = {"epochs": 4, "pieces": pieces, "on_epoch": after}
    train_network(net, LabelledImages.of_pool(pool), Shuffled(9), PlainSGD(net, 0.1), Random(0), **how)
    moved = [not torch.equal(a, b) for a, b in pairwise([before[0], *seen])]
    assert moved == [False, False, True, False]


@pytest.mark.parametrize("pieces", [None, 4])
def test_a_gradient_that_was_left_on_a_frozen_weight_moves_nothing(pieces: int | None, toy_pool: MakePool) -> None:
    pool, net = toy_pool(), nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 3))
    frozen = net[1].requires_grad_(False).weight
    frozen.grad, before = torch.ones_like(frozen), frozen.clone()
    descend = ByOptimizer(torch.optim.SGD(net.parameters(), lr=0.1))
    train_network(net, LabelledImages.of_pool(pool), Shuffled(9), descend, Random(0), pieces=pieces)
    assert torch.equal(frozen, before)


def test_a_function_is_no_descent(toy_pool: MakePool) -> None:
    with pytest.raises(TypeError, match="descend"):
        train_network(nn.Linear(1, 1), LabelledImages.of_pool(toy_pool()), Shuffled(9), print, Random(0))  # type: ignore[arg-type]

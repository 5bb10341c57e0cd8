"""Evaluation: the protocol's own counts, intervals, and that the test images are only counted."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ddreplay import ClassPool, ConvNet, Protocol, evaluate
from ddreplay.augment.siamese import DIGITS, NATURAL
from ddreplay.evaluation import PROTOCOLS, interval, matching_classes, train
from ddreplay.methods import selections
from ddreplay.randomness import Random
from ddreplay.stopping import StopRequested
from ddreplay.training import squared_error

MakePool = Callable[..., ClassPool]
QUICK = Protocol("quick", epochs=20, lr=0.05)


def test_the_named_protocols_are_the_papers() -> None:
    dc, dm = PROTOCOLS["dc2021"], PROTOCOLS["dm2023"]
    assert (dc.epochs, dc.augment, dm.epochs) == (300, None, 1000)
    assert dm.augment == "color_crop_cutout_flip_scale_rotate"
    for protocol in (dc, dm):
        assert (protocol.lr, protocol.momentum, protocol.weight_decay, protocol.batch_size) == (0.01, 0.9, 5e-4, 256)
    assert dm.scaled(100).name == "dm2023, 100 epochs"


def test_epochs_and_the_drop_are_counted_as_released() -> None:
    rates: list[float] = []

    class Recorder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.linear(x.flatten(1))
            return out

    net = Recorder()
    weights = [net.linear.weight.detach().clone()]
    protocol = Protocol("steps", epochs=6, momentum=0.0, weight_decay=0.0, lr=1.0)
    x, y = torch.ones(2, 1, 2, 2), torch.tensor([0, 1])

    def note(epoch: int) -> None:
        weights.append(net.linear.weight.detach().clone())
        with torch.no_grad():  # the same gradient every epoch
            net.linear.weight.zero_()
            net.linear.bias.copy_(torch.tensor([1.0, 0.0]))
        rates.append(float((weights[-1] - 0).abs().max()))

    with torch.no_grad():
        net.linear.weight.zero_()
        net.linear.bias.copy_(torch.tensor([1.0, 0.0]))
    train(net, x, y, protocol, Random(0), on_epoch=note)
    assert len(rates) == 7  # epochs + 1
    ratio = [r / rates[0] for r in rates]
    assert ratio[:5] == pytest.approx([1.0] * 5)  # the drop comes after epoch index 6 // 2 + 1 = 4
    assert ratio[5:] == pytest.approx([0.1] * 2)


def test_it_is_repeatable_and_leaves_the_callers_state(toy_pool: MakePool) -> None:
    pool, state = toy_pool(), torch.random.get_rng_state()
    condensed = selections.random()(pool, 2)
    first = evaluate(condensed, pool, ConvNet(width=8), protocol=QUICK, seeds=2)
    second = evaluate(condensed, pool, ConvNet(width=8), protocol=QUICK, seeds=2)
    assert first.accuracies == second.accuracies
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.nbytes == condensed.nbytes
    assert first.images == 6


def test_a_learnable_set_is_learned_whatever_its_ids(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=20)
    found = evaluate(selections.random()(pool, 5), pool, ConvNet(width=8), protocol=QUICK, seeds=2)
    assert found.mean > 90
    assert set(found.per_class) == {2, 5, 9}
    assert found.mean == pytest.approx(sum(found.per_class.values()) / 3)


def test_a_subset_of_the_classes_can_be_tested(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=20)
    found = evaluate(selections.random()(pool, 5), pool.select([2]), ConvNet(width=8), protocol=QUICK, seeds=1)
    assert found.mean > 90
    assert math.isnan(found.ci95)
    assert math.isnan(found.std)


def test_what_does_not_fit_is_refused(toy_pool: MakePool) -> None:
    pool = toy_pool()
    condensed = selections.random()(pool.select([0, 1]), 1)
    with pytest.raises(ValueError, match="lacks"):
        evaluate(condensed, pool)
    with pytest.raises(ValueError, match="shape"):
        evaluate(condensed, toy_pool(shape=(3, 8, 8)).select([0, 1]))
    x, y = pool.select([0, 1]).all()
    other = ClassPool(x, pool.relabel(y), mean=(0.9,), std=(2.0,), device="cpu")
    with pytest.raises(ValueError, match="normalised"):
        evaluate(condensed, other)


def named(pool: ClassPool, names: dict[int, str]) -> ClassPool:
    """The classes of a pool in the order of these ids, under new ids and names."""
    x, y = pool.all()
    ids = torch.tensor(list(names))
    return ClassPool(x, ids[y], mean=pool.mean, std=pool.std, class_names=names, device="cpu")


def test_classes_are_matched_by_name_where_both_have_names(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=20)
    condensed = selections.random()(named(pool, {0: "cat", 1: "dog", 2: "fox"}), 5)
    moved = named(pool, {7: "cat", 8: "dog", 9: "fox"})
    assert matching_classes(condensed, moved) == [0, 1, 2]
    found = evaluate(condensed, moved, ConvNet(width=8), protocol=QUICK, seeds=1)
    assert found.mean > 90
    assert set(found.per_class) == {7, 8, 9}
    turned = named(pool, {0: "fox", 1: "cat", 2: "dog"})  # the images of cats are called foxes here
    assert evaluate(condensed, turned, ConvNet(width=8), protocol=QUICK, seeds=1).mean < 10
    numbers = named(pool, {0: "0", 1: "1", 2: "2"})
    assert matching_classes(condensed, numbers) == [0, 1, 2]


def test_classes_of_other_names_are_refused_by_name(toy_pool: MakePool) -> None:
    pool = toy_pool().select([0, 1])
    condensed = selections.random()(named(pool, {0: "Samoyed", 1: "beagle"}), 1)
    with pytest.raises(ValueError, match=r"the set lacks: dingo \(1\); the set has Samoyed, beagle"):
        evaluate(condensed, named(pool, {0: "Samoyed", 1: "dingo"}), protocol=QUICK, seeds=1)
    with pytest.raises(ValueError, match="several classes of the test data have one name"):
        evaluate(condensed, named(pool, {3: "beagle", 4: "beagle"}), protocol=QUICK, seeds=1)
    folders = selections.random()(named(toy_pool(), {0: "1", 1: "10", 2: "2"}), 1)  # folders called by numbers
    assert matching_classes(folders, named(pool, {0: "1", 1: "2"})) == [0, 2]


def test_counts_below_one_are_refused(toy_pool: MakePool) -> None:
    condensed = selections.random()(toy_pool(), 1)
    with pytest.raises(ValueError, match="seeds must be at least 1 network, got 0"):
        evaluate(condensed, toy_pool(), protocol=QUICK, seeds=0)
    with pytest.raises(ValueError, match="epochs of protocol dm2023, -1 epochs must be at least 0, got -1"):
        PROTOCOLS["dm2023"].scaled(-1)


def test_the_interval_is_students() -> None:
    # 1..5: mean 3, deviation sqrt(2.5), t(0.975, 4) = 2.776445
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert math.isnan(interval([1.0]))


def test_one_seed_has_no_interval_and_says_none(toy_pool: MakePool) -> None:
    pool, condensed = toy_pool(), selections.random()(toy_pool(), 1)
    protocol = Protocol("quick", epochs=1)
    one, two = (str(evaluate(condensed, pool, ConvNet(width=4), protocol=protocol, seeds=n)) for n in (1, 2))
    assert "±" not in one
    assert "(1 seed, quick" in one
    assert "±" in two
    assert "(2 seeds, quick" in two


def test_frepos_protocol_counts_steps_by_images_warms_up_and_falls_to_a_hundredth(toy_pool: MakePool) -> None:
    protocol = PROTOCOLS["frepo2022"]

    def of(n: int) -> Protocol:
        pool = toy_pool(images_per_class=n // 5, classes=5)
        return protocol.of(selections.random()(pool, n // 5))

    found = {n: of(n).epochs for n in (10, 60, 100, 300, 1000, 2000)}
    assert found == {10: 1000, 60: 2000, 100: 2000, 300: 5000, 1000: 5000, 2000: 10000}  # two and four batches an epoch
    assert of(1000).warm_up == 250
    short = replace(protocol, epochs=10, warm_up=4, steps=())
    optimizer = short.optimizer(nn.Linear(2, 2))
    assert isinstance(optimizer, torch.optim.Adam)
    rates = []
    for epoch in range(10):
        rates.append(optimizer.param_groups[0]["lr"] / 3e-4)
        short.anneal(optimizer, epoch)
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[7] == pytest.approx((1 + 0.01) / 2)
    assert sorted(rates[4:], reverse=True) == rates[4:]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 3e-4)


def test_the_squared_error_is_half_the_distance_to_centred_labels() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.5, 0.25]])
    by_hand = 0.5 * ((1 - 0.5) ** 2 + 0.5**2 + (0.5 + 0.5) ** 2 + (0.25 - 0.5) ** 2) / 2
    assert float(squared_error(logits, torch.tensor([0, 1]))) == pytest.approx(by_hand)
    targets = torch.tensor([[0.5, -0.5], [-0.5, 0.5]])
    assert float(squared_error(logits, targets)) == pytest.approx(by_hand)


def test_bptts_protocol_never_drops_and_takes_its_own_operations_alone() -> None:
    protocol = PROTOCOLS["bptt2022"]
    assert protocol.on(NATURAL) == protocol
    assert protocol.on(DIGITS).augment == "rotate"
    assert protocol.on("color").augment is None
    optimizer = protocol.optimizer(nn.Linear(2, 2))
    for epoch in range(300):
        protocol.anneal(optimizer, epoch)
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert protocol.passes == 300


def test_an_evaluation_goes_on_with_the_next_network(toy_pool: MakePool, tmp_path: Path) -> None:
    pool, path = toy_pool(), tmp_path / "ck"
    condensed = selections.random()(pool, 2)
    how: dict[str, Any] = {"protocol": QUICK.scaled(2), "seeds": 3, "seed": 4}
    whole = evaluate(condensed, pool, ConvNet(width=8), **how)
    seen: list[int] = []

    def stop(k: int, epoch: int) -> None:
        seen.append(k)
        if seen.count(1) == k == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StopRequested, match="the state is in"):
        evaluate(condensed, pool, ConvNet(width=8), **how, checkpoint=path, on_epoch=stop)
    again = selections.random()(pool, 2)  # the same set, made in other seconds
    resumed = evaluate(again, pool, ConvNet(width=8), **how, checkpoint=path, on_epoch=lambda k, _: seen.append(k))
    assert seen == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (resumed.accuracies, resumed.confusion) == (whole.accuracies, whole.confusion)
    others: dict[str, Any] = {"net": ConvNet(width=4), "protocol": QUICK, "seed": 5, "seeds": 4}
    for name, value in others.items():
        with pytest.raises(ValueError, match="another run"):
            evaluate(condensed, pool, **{"net": ConvNet(width=8), **how, name: value}, checkpoint=path)
    for one, test in ((selections.random()(pool, 1), pool), (condensed, pool.subset(torch.arange(len(pool))[::2]))):
        with pytest.raises(ValueError, match="another run"):
            evaluate(one, test, ConvNet(width=8), **how, checkpoint=path)

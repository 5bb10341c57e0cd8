"""Banks of few training runs, each kept at several ages; and what a deadline or a lonely class does to a bank's training."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddreplay import ClassPool, ConvNet, dm
from ddreplay.augment.siamese import Siamese
from ddreplay.networks import Bank, Banked, Context, Snapshots
from ddreplay.networks.bank import _accuracy
from ddreplay.objectives import ClassRegulariser, MeanEmbedding
from ddreplay.randomness import Random
from ddreplay.training import ByOptimizer, LabelledImages, WithReplacement, learnable, train_network

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=8)


def a_context(pool: ClassPool, seed: int = 0, **how: Any) -> Context:
    return Context(pool, MeanEmbedding(), Siamese(), 4, Random(seed), lambda: pool.draw(1, Random(0)), **how)


def built(source: Banked, pool: ClassPool, seed: int = 0, **how: Any) -> Bank:
    return source.build(a_context(pool, seed, **how))


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize(("runs", "ages"), [(2, (3, 6, 9)), (6, (9,))], ids=["three ages", "one age"])
def test_every_entry_is_its_run_at_its_age(runs: int, ages: tuple[int, ...], toy_pool: MakePool) -> None:
    """Against a network trained for so many steps in one go, and the statistic under the entry's own draw."""
    pool = toy_pool(images_per_class=9)
    source = Banked(NET, 6, trained=9, runs=runs, images=None, batch_size=5, lr=0.05, momentum=0.5)
    bank = built(source, pool, 4).fill()
    assert source.ages == ages
    seeds = Random(4)
    for run in range(runs):
        seed = seeds.seed()
        for position, age in enumerate(source.ages, run * len(ages)):
            random = Random(seed)
            for _ in source.ages:
                random.seed()  # one for each entry
            net = a_context(pool).network(NET, random)
            descend = ByOptimizer(torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.5))
            with learnable(net):
                train_network(
                    net, LabelledImages.of_pool(pool), WithReplacement(age, 5), descend, random, augment=Siamese()
                )
            look, statistic = bank.entry(position)
            assert torch.equal(weights(look.net), weights(net))
            for k in range(pool.classes):
                with torch.no_grad():
                    mean = look.probe(look.transform(pool.of_class(k))).embedding.mean(0)
                torch.testing.assert_close(statistic[0][k], mean, atol=1e-5, rtol=1e-4)
    assert not any(p.requires_grad or p.grad is not None for k in range(6) for p in bank.entry(k)[0].net.parameters())


def test_entries_of_a_run_have_draws_of_their_own(toy_pool: MakePool) -> None:
    bank = built(Banked(NET, 6, trained=3, runs=2), toy_pool()).fill()
    draws = {repr(bank.entry(k)[0].transform) for k in range(6)}
    assert len(draws) == 6
    kinds = torch.stack([weights(bank.entry(k)[0].net) for k in range(6)])
    assert torch.pdist(kinds).min() > 0


def test_a_run_is_trained_once_and_when_it_is_asked_for(toy_pool: MakePool) -> None:
    pool, read, told = toy_pool(), [], []  # type: ignore[var-annotated]
    original = pool.rows
    pool.rows = lambda index: read.append(len(index)) or original(index)  # type: ignore[method-assign,assignment,func-returns-value]
    bank = built(Banked(NET, 6, trained=4, runs=3, batch_size=7), pool, on_network=lambda *of: told.append(of))
    assert read == []
    bank.entry(3)
    assert read.count(7) == 4
    bank.entry(2)
    bank.entry(3)
    assert read.count(7) == 4
    bank.entry(0)
    assert read.count(7) == 8
    assert told == [(1, 6), (2, 6), (3, 6)]
    assert bank.ready == 3


def test_the_order_of_asking_changes_no_entry(toy_pool: MakePool) -> None:
    source = Banked(NET, 6, trained=6, runs=2)
    one, two = built(source, toy_pool(), 3), built(source, toy_pool(), 3)
    for k in (4, 0, 5, 2, 1, 3):
        two.entry(k)
    for k in range(6):
        assert torch.equal(one.entry(k)[1][0], two.entry(k)[1][0])


def test_bytes_are_those_of_all_weights_and_statistics(toy_pool: MakePool) -> None:
    pool = toy_pool()
    bank = built(Banked(NET, 6, trained=3, runs=2), pool)
    assert bank.nbytes == 0
    one = sum(p.nbytes for p in NET(pool.shape, pool.classes).parameters())
    _, statistic = bank.entry(0)
    assert bank.nbytes == 3 * one + statistic[0].nbytes  # the run is there at all its ages
    bank.entry(1)
    assert bank.nbytes == 3 * one + 2 * statistic[0].nbytes
    assert bank.fill().nbytes == 6 * (one + statistic[0].nbytes)
    bank.replace(0, 5)
    assert bank.nbytes == 3 * (one + statistic[0].nbytes)


def test_a_run_goes_on_from_a_checkpoint_to_the_same_bits(toy_pool: MakePool, tmp_path: Path) -> None:
    pool, file = toy_pool(), tmp_path / "run.pt"
    method = dm(NET, steps=8, networks=Banked(size=4, trained=6, runs=2))
    whole = method(pool, 1)

    def stop(step: int, loss: Tensor) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method(pool, 1, checkpoint=file, checkpoint_every=1, on_step=stop)
    assert torch.equal(whole.images().x, method(pool, 1, checkpoint=file, checkpoint_every=1).images().x)


def test_a_bank_takes_over_the_seeds_of_a_state(toy_pool: MakePool) -> None:
    source, pool = Banked(NET, 4, trained=4, runs=2), toy_pool()
    one, two = source.build(a_context(pool, 1)).fill(), source.build(a_context(pool, 2)).fill()
    networks = one.start(one.context)
    networks.moved()
    before = [two.entry(k)[1][0] for k in range(4)]
    other = two.start(two.context)
    other.load_state_dict(networks.state_dict())
    for k in range(4):
        assert torch.equal(one.entry(k)[1][0], two.entry(k)[1][0])
        assert not torch.equal(before[k], two.entry(k)[1][0])
    assert other.state_dict() == {"step": 1, "seeds": one.seeds}


@pytest.mark.parametrize("source", [Banked(NET, 2, trained=900), Banked(NET, 4, trained=900, runs=2)])
def test_a_deadline_cuts_training_short_and_what_was_cut_is_not_kept(source: Banked, toy_pool: MakePool) -> None:
    pool, asked = toy_pool(), []  # type: ignore[var-annotated]

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 5

    bank = source.build(a_context(pool))
    networks = bank.start(a_context(pool, stop=stop))
    look, statistic = networks.show()
    assert len(asked) == 6
    assert torch.isfinite(statistic[0]).all()
    assert torch.isfinite(weights(look.net)).all()
    assert bank.ready == bank.nbytes == 0
    fresh = source.build(a_context(pool)).entry(0)
    assert torch.equal(fresh[1][0], bank.entry(0)[1][0])


def test_a_class_alone_trains_nothing_and_says_so(toy_pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    alone = toy_pool().select([1])
    with caplog.at_level(logging.INFO, logger="ddreplay"):
        for source in (Banked(NET, 4, trained=50), Banked(NET, 4, trained=50, runs=2)):
            caplog.clear()
            taught, new = built(source, alone).fill(), built(Banked(NET, 4), alone).fill()
            assert [record.getMessage() for record in caplog.records] == [
                f"class {alone.class_names[0]} is alone, which teaches a network nothing: the bank's networks stay untrained"
            ]
            kinds = torch.stack([weights(taught.entry(k)[0].net) for k in range(4)])
            assert torch.pdist(kinds).min() > 0
            for k in range(4):
                assert torch.equal(taught.entry(k)[1][0], new.entry(k)[1][0])
        caplog.clear()
        built(Banked(NET, 4, trained=5), toy_pool())
        assert caplog.records == []


def test_networks_that_draw_by_themselves_follow_from_the_seed(toy_pool: MakePool) -> None:
    """Dropout in training and under the statistic; the caller's generator stays where it is."""

    def dropping(classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Dropout(), nn.Linear(12, classes))

    for source in (Banked(dropping, 2, trained=6), Banked(dropping, 2, trained=6, runs=1)):
        found = []
        for caller in (1, 2):
            torch.manual_seed(caller)
            before = torch.random.get_rng_state()
            bank = built(source, toy_pool()).fill()
            assert torch.equal(before, torch.random.get_rng_state())
            found.append(bank.entry(1))
        assert torch.equal(weights(found[0][0].net), weights(found[1][0].net))
        assert torch.equal(found[0][1][0], found[1][1][0])


def test_a_fraction_of_a_bank_has_fewer_runs_of_the_same_ages() -> None:
    whole = Banked(NET, 20, trained=300, runs=4)
    assert whole.ages == (60, 120, 180, 240, 300)
    assert (whole.fraction(2).runs, whole.fraction(2).size, whole.fraction(2).ages) == (2, 10, whole.ages)
    assert (whole.fraction(8).runs, whole.fraction(8).size) == (1, 5)
    assert Banked(NET, 20, trained=300).fraction(4) == Banked(NET, 5, trained=300)
    assert Banked(NET, 3).fraction(4).size == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 6, "trained": 9, "runs": 4}, "size must be a multiple of runs.*size=6 and runs=4"),
        ({"size": 6, "trained": 9, "runs": 0}, "multiple of runs"),
        ({"size": 6, "trained": 2, "runs": 2}, "kept at 3 ages each need trained=3 steps at least, got trained=2"),
        ({"size": 6, "runs": 2}, "got trained=0"),
        ({"size": 6, "trained": 9, "runs": 2, "refresh": 3}, "refresh=3 or runs=2, not both"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"momentum": 1.0}, "momentum in"),
        ({"images": 0}, "images must be at least 1 per class"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Banked(NET, **wrong)


KNOWING = MeanEmbedding() + 0.5 * ClassRegulariser()


@pytest.mark.parametrize("source", [Banked(NET, 2, trained=40, runs=1, lr=0.1), Banked(NET, 2, trained=40, lr=0.1)])
def test_a_trained_bank_knows_what_its_networks_know(source: Banked, toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=9)
    context = replace(a_context(pool), objective=KNOWING)
    for look, _ in (source.build(context).entry(position) for position in range(2)):
        with torch.no_grad():
            right = (look.net(pool.all().x).argmax(1) == pool.all_labels()).float().mean()
        assert float(look.accuracy) == pytest.approx(float(right))
        assert float(look.accuracy) > 0.5


def test_an_untrained_bank_and_one_that_nobody_asks_know_nothing(toy_pool: MakePool) -> None:
    pool = toy_pool()
    untrained = Banked(NET, 1).build(replace(a_context(pool), objective=KNOWING))
    unasked = Banked(NET, 1, trained=5, runs=1).build(a_context(pool))
    assert untrained.entry(0)[0].accuracy == unasked.entry(0)[0].accuracy == 0.0


def test_given_networks_are_asked_what_they_know(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=9)
    context = replace(a_context(pool), objective=KNOWING)
    nets = Banked(NET, 2, trained=40, runs=1, lr=0.1).build(context).networks()
    look, _ = Snapshots(nets).build(context).entry(1)
    with torch.no_grad():
        right = (nets[1](pool.all().x).argmax(1) == pool.all_labels()).float().mean()
    assert float(look.accuracy) == pytest.approx(float(right))


def test_what_a_bank_knows_moves_no_other_draw(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=9)
    source = Banked(NET, 2, trained=4, runs=1)
    alone, asked = (source.build(replace(a_context(pool), objective=o)) for o in (MeanEmbedding(), KNOWING))
    for position in range(2):
        (look, means), (other, (same, _)) = alone.entry(position), asked.entry(position)
        assert torch.equal(weights(look.net), weights(other.net))
        assert all(torch.equal(a, b) for a, b in zip(means, same, strict=True))


@pytest.mark.parametrize("chunk", [None, 4])
def test_what_a_network_with_batch_norm_knows_depends_on_no_chunk(chunk: int | None, toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=9)
    source = Banked(ConvNet(width=8, norm="batch"), 1, trained=40, runs=1, lr=0.1, images=None)
    bank = source.build(replace(a_context(pool, chunk=chunk), objective=KNOWING))
    (net,) = bank.networks()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        right = (copy.deepcopy(net).eval()(pool.all().x).argmax(1) == pool.all_labels()).float().mean()
    measured = _accuracy(net, bank.context, Random(0))
    assert float(measured) == pytest.approx(float(right))
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

"""What is said beforehand of the time: the sums are right, and asking changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddreplay import Budget, ClassPool, ConvNet, Protocol, dc, dm, forecast, idm, mtt, selections
from ddreplay.forecast import condensing_seconds, evaluating_seconds, in_words
from ddreplay.methods import Whitened
from ddreplay.networks import Banked, ModelQueue, Pretrained

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=8)
BUDGET = Budget.images(2)


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A step takes 1 s, with a new entry of a bank 5 s, and the first one a minute besides; a batch of training 0.5 s.

    What was tried is listed.
    """
    tried: list[Any] = []

    def times(method: Any, pool: ClassPool, *_: Any, **__: Any) -> list[float]:
        tried.append((method, pool))
        step = 5.0 if isinstance(method.networks, Banked) and method.networks.refresh == 1 else 1.0
        return [60.0 + step, step, step]

    monkeypatch.setattr(forecast, "_step_times", times)
    monkeypatch.setattr(forecast, "_batch_seconds", lambda *_: 0.5)
    return tried


@pytest.mark.parametrize(
    ("networks", "seconds"),
    [
        (None, 100),
        (Banked(size=4), 4 * 4 + 100),
        (Banked(size=4, refresh=10), (4 + 10) * 4 + 100),
        (Banked(size=4, trained=10), 4 * 4 + 4 * 5 * 0.5 + 100),
        (Banked(size=4, trained=10, runs=2), 4 * 4 + 2 * 10 * 0.5 + 100),
        (Banked(size=400), 100 * 4 + 100),  # no more entries than steps
        (ModelQueue(pretrained=Pretrained(networks=3, steps=20)), 3 * 20 * 0.5 + 100),
    ],
)
def test_what_is_made_once_and_what_every_step_costs(
    networks: Any, seconds: float, clock: list[Any], toy_pool: MakePool
) -> None:
    how = {} if networks is None else {"networks": networks}
    assert condensing_seconds(dm(NET, steps=100, **how), toy_pool(), BUDGET) == pytest.approx(seconds)
    (method, _) = clock[0]
    assert method.steps == forecast.TRIED


def test_experts_are_trained_for_all_their_epochs(clock: list[Any], toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=100)
    method = mtt(NET, iterations=50, experts=3, latest_start=4, segment=2, batch_expert=64)
    batches = 3 * 5 * 5  # experts, epochs, 300 images in batches of 64
    assert condensing_seconds(method, pool, BUDGET) == pytest.approx(batches * 0.5 + 50)
    tried, few = clock[0]
    assert (tried.networks.experts, tried.networks.latest_start, tried.networks.segment) == (1, 1, 1)
    assert len(few) == 3 * forecast.FEW
    assert condensing_seconds(Whitened(method), pool, BUDGET) == pytest.approx(batches * 0.5 + 50)


def test_nothing_is_said_of_what_has_few_steps_or_none(clock: list[Any], toy_pool: MakePool) -> None:
    assert condensing_seconds(dm(NET, steps=3), toy_pool(), BUDGET) is None
    assert condensing_seconds(selections.random(), toy_pool(), BUDGET) is None
    assert not clock


def test_nothing_is_said_where_every_class_keeps_its_images(toy_pool: MakePool) -> None:
    assert condensing_seconds(dm(NET, steps=5000), toy_pool(), Budget.images(6)) is None


@pytest.mark.parametrize(
    "method",
    [dm(NET, steps=5000), dc(NET, rounds=900), idm(NET, steps=5000), dm(NET, networks=Banked(size=3), steps=5000)],
)
@pytest.mark.parametrize("budget", [BUDGET, Budget.bytes(300)])
def test_trying_takes_little_and_changes_nothing(method: Any, budget: Budget, toy_pool: MakePool) -> None:
    pool, state = toy_pool(shape=(1, 16, 16)), torch.random.get_rng_state()
    before = pool.all().x
    expected = condensing_seconds(method, pool, budget, patience=0.0)
    assert expected is not None
    assert expected > 0
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(before, pool.all().x)


def test_an_evaluation_is_epochs_and_tests_of_every_network(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=30)
    condensed = selections.random()(pool, 2)
    short, long = (Protocol("p", epochs=n) for n in (100, 10_000))
    one, more, longer = (
        evaluating_seconds(condensed, pool, NET, protocol=protocol, seeds=seeds)
        for protocol, seeds in ((short, 1), (short, 50), (long, 1))
    )
    assert 0 < one < more
    assert one < longer


def test_words_have_two_figures() -> None:
    assert [in_words(s) for s in (0.2, 99.0, 101.0, 5999.0, 6001.0, 47 * 3600.0, 5 * 86400.0)] == [
        "1 s", "99 s", "2 minutes", "100 minutes", "1.7 hours", "47 hours", "5.0 days",
    ]  # fmt: skip

"""The practical default: what it condenses with, and how it plans for the time there is."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from ddreplay import Budget, ClassPool, ConvNet
from ddreplay.methods import Practical, practical
from ddreplay.methods.practical import within
from ddreplay.networks import Banked

module = sys.modules["ddreplay.methods.practical"]


def pool_of(per_class: int = 40, size: int = 16) -> ClassPool:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2 * per_class, 3, size, size), generator=generator, dtype=torch.uint8)
    return ClassPool(images, torch.arange(2).repeat_interleave(per_class), device="cpu")


def test_bytes_get_a_trained_bank_and_images_a_fresh_one() -> None:
    for_bytes, for_images = practical(Budget.bytes(1000)), practical(10)
    assert isinstance(for_bytes.networks, Banked)
    assert isinstance(for_images.networks, Banked)
    assert (for_bytes.networks.trained, for_bytes.networks.runs) == (300, 4)
    assert for_images.networks.trained == 0


@pytest.mark.parametrize("budget", [Budget.bytes(1000), Budget.images(10)])
def test_little_time_makes_a_smaller_plan_and_much_time_none(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_seconds_a_visit", lambda method, pool: 1e-4)
    pool, method = pool_of(), practical(budget, ConvNet(width=8))
    assert within(method, pool, budget, 1e6) is method
    small = within(method, pool, budget, 0.05)
    large = within(method, pool, budget, 0.4)
    assert isinstance(small.networks, Banked)
    assert isinstance(large.networks, Banked)
    assert small.steps <= large.steps < 400
    assert small.networks.size <= large.networks.size <= 20
    assert small.networks.trained <= large.networks.trained <= 300
    assert small.networks.images == method.networks.images


def test_other_methods_are_left_as_they_are() -> None:
    pool, budget = pool_of(), Budget.images(2)
    refreshed = replace(practical(2, ConvNet(width=8)), steps=lambda n: 10 * n)
    assert within(refreshed, pool, budget, 0.01) is refreshed


def test_a_plan_is_made_from_the_speed_of_this_machine_and_leaves_the_callers_random_state() -> None:
    pool, state = pool_of(100, 16), torch.get_rng_state()
    method = practical(Budget.bytes(1000), ConvNet(width=8))
    assert 1e-7 < module._seconds_a_visit(method, pool) < 1.0
    found = Practical(ConvNet(width=8))(pool, Budget.bytes(1000), seconds=2.0)
    assert found.nbytes <= 2000
    assert found.provenance["seconds"] < 60
    assert torch.equal(torch.get_rng_state(), state)

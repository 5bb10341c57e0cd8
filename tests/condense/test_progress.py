"""What is told of every phase: it goes up by one, knows its end, and reaches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ddreplay import Budget, ClassPool, ConvNet, dm
from ddreplay.condense.condenser import Progress
from ddreplay.condense.image_count import AtQuality, Validated
from ddreplay.methods import selections
from ddreplay.networks import Banked
from ddreplay.storage.codecs import avif, bits

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=8)


def told(progress: list[Progress], phase: str) -> list[tuple[int, int]]:
    found = [(p.done, p.total or 0) for p in progress if p.phase == phase]
    assert [done for done, _ in found] == list(range(1, len(found) + 1))
    assert all(done <= total for done, total in found)
    return found


def test_a_condensation_tells_of_numbers_networks_and_steps(toy_pool: MakePool) -> None:
    seen: list[Progress] = []
    method = replace(dm(NET, networks=Banked(size=2), steps=8), codec=bits(), choose=Validated(NET, visits=4))
    method(toy_pool(images_per_class=40), Budget.bytes(500), on_progress=seen.append)
    numbers = told(seen, "images")
    assert numbers[-1][0] == numbers[-1][1]  # by the last one it knows that no more will come
    assert told(seen, "steps") == [(k, 8) for k in range(1, 9)]
    assert told(seen, "bank") == [(1, 2), (2, 2)]


@pytest.mark.parametrize("budget", [150, 600, 5000])
def test_the_search_for_a_number_that_fits_ends_where_it_said(budget: int, toy_pool: MakePool) -> None:
    seen: list[Progress] = []
    chosen = replace(selections.random(codec=avif(speed=9)), choose=AtQuality(0.2))
    chosen(toy_pool(images_per_class=60), Budget.bytes(budget), on_progress=seen.append)
    numbers = told(seen, "images")
    assert numbers[-1][0] >= numbers[-1][1] - 1


@pytest.mark.parametrize(
    ("selection", "epochs"), [(selections.herding(NET, epochs=3), 3), (selections.el2n(NET, epochs=2, networks=3), 6)]
)
def test_a_selection_tells_of_the_training_of_its_networks(
    selection: selections.Selection, epochs: int, toy_pool: MakePool
) -> None:
    seen: list[Progress] = []
    selection(toy_pool(), 2, on_progress=seen.append)
    assert told(seen, "ranking") == [(k, epochs) for k in range(1, epochs + 1)]

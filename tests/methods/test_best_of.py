"""The memory that chooses by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from toy_streams import MEAN, STD, noisy

from ddreplay import Budget, ClassPool, CondensedMemory, CondensedSet, ConvNet, ReplayMemory, dm, selections
from ddreplay.avalanche import CondensedBuffer
from ddreplay.condense.condenser import stored_by
from ddreplay.methods import BestOf
from ddreplay.storage.codecs import uint8
from ddreplay.storage.part import Part

NET = ConvNet(width=8)


def pool_of(classes: list[int], per_class: int = 60) -> ClassPool:
    images = noisy(classes, per_class)
    return ClassPool(images.x, torch.tensor(images.targets), mean=MEAN, std=STD, device="cpu")


@dataclass
class Made:
    """A condenser that stores what a function makes of a pool, and remembers what it was asked."""

    name: str
    make: Callable[[ClassPool, int], torch.Tensor]
    asked: list[tuple[int, float | None]] = field(default_factory=list)
    takes: frozenset[str] = frozenset(("seconds",))

    def __call__(self, pool: ClassPool, budget: Any, *, seed: int = 0, seconds: float | None = None) -> CondensedSet:
        self.asked.append((len(pool), seconds))
        part = Part.of_images(pool, [self.make(pool, k) for k in range(pool.classes)], uint8())
        return CondensedSet((part,), {"method": self.name})


def good(pool: ClassPool, k: int) -> torch.Tensor:
    return pool.of_class(k)[:8]


def useless(pool: ClassPool, k: int) -> torch.Tensor:
    """Images of another class under this one's name."""
    return pool.of_class((k + 1) % pool.classes)[:8]


def best_of(condensed: Any, real: Any, **more: Any) -> BestOf:
    return BestOf(condensed, (real,), net=NET, visits=2000, fraction=0.2, **more)


@pytest.mark.parametrize("condensed_is_good", [True, False])
def test_what_teaches_more_is_kept_and_real_images_are_chosen_among_all(condensed_is_good: bool) -> None:
    condensed = Made("made", good if condensed_is_good else useless)
    real = Made("chosen", useless if condensed_is_good else good)
    pool = pool_of([0, 1, 2])
    found = best_of(condensed, real)(pool, Budget.bytes(200), seed=3)
    assert found.provenance["chosen"] == ("made" if condensed_is_good else "chosen")
    trials = found.provenance["trials"]
    assert trials["made" if condensed_is_good else "chosen"] > 80 > 40 > min(trials.values())
    learned = len(pool) - 3 * 12
    assert condensed.asked == [(learned, None)]
    assert real.asked == ([(learned, None)] if condensed_is_good else [(learned, None), (len(pool), None)])


def test_remembered_classes_stand_beside_every_candidate() -> None:
    """The remembered class 0 looks just like the new class 1: alone a network tells 1 from 2, in its company hardly."""
    twin = pool_of([1], 40).of_class(0)
    remembered = ClassPool(twin, torch.zeros(len(twin), dtype=torch.long), mean=MEAN, std=STD, device="cpu")
    best = best_of(Made("made", good), Made("chosen", good))
    alone = best(pool_of([1, 2]), Budget.bytes(200)).provenance["trials"]
    beside = best(pool_of([1, 2]), Budget.bytes(200), remembered=remembered).provenance["trials"]
    assert alone["made"] > 90
    assert beside["made"] < alone["made"] - 20


def test_everything_is_kept_where_it_fits() -> None:
    condensed = Made("made", good)
    pool = pool_of([0, 1], 20)
    found = BestOf(condensed, (selections.random(codec=uint8()),), net=NET)(pool, Budget.bytes(64 * 20 + 50))
    assert found.provenance["chosen"] == "everything"
    assert len(found) == 40
    assert not condensed.asked


def test_time_is_shared_between_condensing_and_trials() -> None:
    condensed, real = Made("made", good), Made("chosen", good)
    best_of(condensed, real, share=0.4)(pool_of([0, 1, 2]), Budget.bytes(200), seconds=10.0)
    assert condensed.asked[0][1] == pytest.approx(6.0, abs=0.5)
    assert 0 <= real.asked[0][1] < 6.0  # what condensing has left of it


def test_too_few_images_are_not_tried_on() -> None:
    found = best_of(Made("made", useless), Made("chosen", good))(pool_of([0, 1], 12), Budget.bytes(60))
    assert (found.provenance["chosen"], found.provenance["trials"]) == ("made", {})


@pytest.mark.parametrize("wrong", [{"visits": 0}, {"fraction": 1.0}, {"share": 0.0}, {"real": ()}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BestOf(**wrong)


def test_a_memory_hands_over_what_it_remembers_and_stays_within_its_budget() -> None:
    seen: list[Any] = []

    class Watching(BestOf):
        def __call__(self, pool: ClassPool, budget: Any, **more: Any) -> CondensedSet:
            seen.append(more.get("remembered"))
            return super().__call__(pool, budget, **more)

    condenser = Watching(stored_by(dm(NET, steps=3), uint8()), (selections.random(codec=uint8()),), net=NET, visits=100)
    memory = ReplayMemory(bytes_per_class=400, condenser=condenser)
    memory.update(pool_of([0, 1]))
    memory.update(pool_of([2, 3]))
    assert seen[0] is None
    assert seen[1].class_ids.tolist() == [0, 1]
    assert memory.nbytes <= 4 * 400
    assert memory.condensed.class_ids == (0, 1, 2, 3)
    assert isinstance(memory, CondensedMemory)


def test_the_buffer_takes_it_and_the_same_seed_chooses_the_same() -> None:
    def filled() -> CondensedBuffer:
        condenser = BestOf(dm(NET, steps=2), (selections.random(),), net=NET, visits=200)
        buffer = CondensedBuffer(bytes_per_class=400, condenser=condenser, codec="uint8", mean=MEAN, std=STD)
        buffer.update_from_dataset(noisy([0, 1], 30))
        return buffer

    one, two = filled(), filled()
    assert one.condensed.provenance["trials"] == two.condensed.provenance["trials"]
    assert torch.equal(one.memories[0].batch().x, two.memories[0].batch().x)


def test_stored_by_reaches_every_candidate() -> None:
    changed = replace(BestOf(), real=(selections.random(),)).stored_by(uint8())
    assert changed.condensed.codec == uint8()  # type: ignore[attr-defined]
    assert changed.real[0].codec == uint8()  # type: ignore[attr-defined]

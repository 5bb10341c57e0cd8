"""The scores of DD-Ranking: their equations, what is trained on what, and a protocol chosen without test images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ddreplay import ClassPool, CondensedSet, ConvNet, methods
from ddreplay import robust_scores as module
from ddreplay.evaluation import PROTOCOLS, Protocol, choose_protocol, evaluate
from ddreplay.networks import TrainedPool
from ddreplay.robust_scores import RobustScores, robust_scores

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=8)


def test_scores_at_their_ends_and_at_the_shares_in_between() -> None:
    best = RobustScores(real_hard=0.0, hard=100.0, own=100.0, random=0.0, plain=100.0, random_plain=0.0)
    worst = RobustScores(real_hard=100.0, hard=0.0, own=0.0, random=100.0, plain=0.0, random_plain=100.0)
    assert (best.label_robust, best.augmentation_robust) == (pytest.approx(100), pytest.approx(100))
    assert (worst.label_robust, worst.augmentation_robust) == (pytest.approx(0), pytest.approx(0))
    some = RobustScores(real_hard=90.0, hard=60.0, own=70.0, random=50.0, plain=55.0, random_plain=52.0, weight=0.25)
    assert (some.improvement_over_random, some.hard_label_recovery) == (20, 30)
    for found, mixed in (
        (some.label_robust, 0.25 * 0.2 - 0.75 * 0.3),
        (some.augmentation_robust, 0.25 * 0.2 + 0.75 * 0.03),
    ):
        assert found == pytest.approx(100 * (math.exp(mixed) - math.exp(-1)) / (math.exp(1) - math.exp(-1)))
    with pytest.raises(ValueError, match=r"weight is a share and must lie in \[0, 1\], got 1.5"):
        replace(some, weight=1.5)


def test_every_accuracy_is_of_what_it_says(toy_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, seen = toy_pool(images_per_class=12), list[tuple[CondensedSet, Protocol, float]]()

    def noted(condensed: CondensedSet, *given: Any, **how: Any) -> Any:
        found = evaluate(condensed, *given, **how)
        seen.append((condensed, how["protocol"], found.mean))
        return found

    monkeypatch.setattr(module, "evaluate", noted)
    condensed = methods.frepo(NET, networks=TrainedPool(size=2), steps=4, lr=0.01)(pool, 2, seed=1)
    protocol = replace(PROTOCOLS["frepo2022"].scaled(4), warm_up=1)
    found = robust_scores(condensed, pool, pool, NET, protocol=protocol, seeds=2, real_epochs=3)
    whole, hard, own, random, plain, random_plain = seen
    assert [accuracy for *_, accuracy in seen] == [
        found.real_hard, found.hard, found.own, found.random, found.plain, found.random_plain
    ]  # fmt: skip
    assert (len(whole[0]), whole[1].epochs, whole[1].augment, whole[1].loss) == (36, 3, None, "cross_entropy")
    assert hard[0].soft_labels is None
    assert (hard[1].loss, hard[1].augment) == ("cross_entropy", protocol.augment)
    assert own[0] is plain[0] is condensed
    assert own[1] == random[1] == protocol
    assert plain[1].augment is random_plain[1].augment is None
    assert plain[1].loss == "squared_error"
    assert random[0] is random_plain[0]
    assert random[0].stored_images == condensed.stored_images
    known = robust_scores(condensed, pool, pool, NET, protocol=protocol, seeds=2, real_hard=77.0)
    assert replace(found, real_hard=77.0) == known


def test_the_protocol_that_does_best_on_held_out_images_is_chosen(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=12)
    condensed = methods.dm(NET, steps=4)(pool, 2)
    still = replace(PROTOCOLS["dc2021"].scaled(12), name="still", lr=1e-9)
    good = replace(still, name="good", lr=0.05)
    means = [evaluate(condensed, pool, NET, protocol=one, seeds=2).mean for one in (still, good)]
    assert means[1] > means[0]
    assert choose_protocol(condensed, pool, NET, among=(still, good), seeds=2) == good
    assert choose_protocol(condensed, pool, NET, among=(good, still), seeds=2) == good
    with pytest.raises(ValueError, match="at least one protocol"):
        choose_protocol(condensed, pool, NET, among=())

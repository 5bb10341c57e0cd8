"""What the class-incremental benchmark keeps in its folder: condensed sets, and the trained networks of banks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.kept_networks import Kept, Seconds
from benchmarks.kept_sets import KeptSets
from ddreplay import ClassPool, CondensedSet, ConvNet, dm
from ddreplay.datasets import load
from ddreplay.methods import BestOf, selections
from ddreplay.networks import Banked
from ddreplay.storage.checkpoint import Checkpoint

BANK = Banked(size=4, trained=4, runs=2, batch_size=8)


@pytest.fixture(scope="module")
def pool() -> ClassPool:
    return load("digits").pool("train", device="cpu").select([3, 5]).first(20)


def condenser(bank: Banked = BANK) -> Any:
    return dm(ConvNet(width=4), networks=bank, steps=3)


def same(first: CondensedSet, second: CondensedSet) -> bool:
    return torch.equal(first.images().x, second.images().x)


def test_a_set_is_condensed_once_and_comes_back_as_it_was(
    tmp_path: Path, pool: ClassPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = KeptSets(condenser(), tmp_path)
    made = first(pool, 2, seed=7)
    monkeypatch.setattr(KeptSets, "_condense", lambda *given: pytest.fail("it was condensed again"))
    second = KeptSets(condenser(), tmp_path)
    assert same(made, second(pool, 2, seed=7))
    assert second.seconds == first.seconds
    assert 0 < second.elapsed.wall < first.seconds.wall


def test_a_set_goes_on_from_its_checkpoint_and_what_was_spent_counts(
    tmp_path: Path, pool: ClassPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = dm(ConvNet(width=4), steps=4)
    whole, keep, steps = KeptSets(method, tmp_path / "whole")(pool, 2, seed=7), Checkpoint.keep, []

    def interrupted(self: Checkpoint, run: Any, *given: Any, **more: Any) -> None:
        keep(self, run, *given, **more)
        steps.append(run.step)
        if steps == [1, 2]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "keep", interrupted)
    sets = KeptSets(method, tmp_path / "parts", checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        sets(pool, 2, seed=7)
    (spent,) = (tmp_path / "parts").glob("sets/*.spent.json")
    spent.write_text('{"wall": 1000.0, "cpu": 1.0}')
    assert same(whole, sets(pool, 2, seed=7))
    assert steps[:3] == [1, 2, 3]
    assert 1000 < sets.seconds.wall < 1100
    assert sorted(path.suffix for path in (tmp_path / "parts" / "sets").iterdir()) == [".json", ".safetensors"]


def test_whatever_decides_a_set_makes_another_one(tmp_path: Path, pool: ClassPool) -> None:
    sets = KeptSets(selections.random(), tmp_path)
    asked = [(pool, 2, 0), (pool, 3, 0), (pool, 2, 1), (pool.first(19), 2, 0)]
    for k, (images, budget, seed) in enumerate(asked):
        sets(images, budget, seed=seed)
        assert len(list(tmp_path.glob("sets/*.safetensors"))) == k + 1
    KeptSets(selections.herding(ConvNet(width=4), epochs=1), tmp_path)(pool, 2, seed=0)
    assert len(list(tmp_path.glob("sets/*.safetensors"))) == len(list(tmp_path.glob("sets/*.json"))) == 5


def test_a_set_whose_seconds_were_not_written_is_condensed_anew(tmp_path: Path, pool: ClassPool) -> None:
    made = KeptSets(condenser(), tmp_path)(pool, 2)
    (costs,) = tmp_path.glob("sets/*.json")
    costs.unlink()
    assert same(made, KeptSets(condenser(), tmp_path)(pool, 2))
    assert costs.is_file()


def test_networks_are_trained_once_for_two_budgets_and_charged_to_both(
    tmp_path: Path, pool: ClassPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Path] = []
    train = Kept._train

    def noted(self: Kept, context: Any, path: Path, started: Seconds) -> None:
        trained.append(path)
        train(self, context, path, started)

    monkeypatch.setattr(Kept, "_train", noted)
    sets = [KeptSets(condenser(), tmp_path) for _ in range(2)]
    for one, budget in zip(sets, (1, 2), strict=True):
        one(pool, budget, seed=7)
    assert len(trained) == len(list(tmp_path.glob("networks/*.pt"))) == 1
    kept = torch.load(trained[0], weights_only=True)
    assert len(kept["networks"]) == 4
    assert all(one.seconds.wall > kept["wall"] > 0 for one in sets)
    KeptSets(condenser(), tmp_path)(pool, 1, seed=8)  # another seed has other networks
    assert len(trained) == 2


def test_a_set_is_the_same_whether_its_networks_were_trained_now_or_found(tmp_path: Path, pool: ClassPool) -> None:
    (tmp_path / "two").mkdir()
    alone = KeptSets(condenser(), tmp_path / "one")(pool, 2, seed=7)
    shared = KeptSets(condenser(), tmp_path / "two")
    shared(pool, 1, seed=7)
    assert same(alone, shared(pool, 2, seed=7))


def test_kept_networks_are_those_that_the_bank_trains(tmp_path: Path, pool: ClassPool) -> None:
    KeptSets(condenser(), tmp_path)(pool, 1, seed=7)
    (path,) = tmp_path.glob("networks/*.pt")
    states = [torch.cat([v.flatten() for v in s.values()]) for s in torch.load(path, weights_only=True)["networks"]]
    steps = [float((a - b).norm()) for a, b in ((states[0], states[1]), (states[2], states[3]), (states[0], states[2]))]
    assert 0 < max(steps[:2]) < steps[2]  # two ages of a run are closer than two runs


def test_untrained_banks_are_left_as_they_are(tmp_path: Path, pool: ClassPool) -> None:
    plain = Banked(size=2)
    assert same(KeptSets(condenser(plain), tmp_path)(pool, 1, seed=7), condenser(plain)(pool, 1, seed=7))
    assert not (tmp_path / "networks").exists()


def test_seconds_of_training_are_charged_in_full_to_a_set_that_found_its_networks(
    tmp_path: Path, pool: ClassPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    KeptSets(condenser(), tmp_path)(pool, 1, seed=7)
    (path,) = tmp_path.glob("networks/*.pt")
    kept = torch.load(path, weights_only=True)
    torch.save({**kept, "wall": 1000.0, "cpu": 2000.0}, path)
    found = KeptSets(condenser(), tmp_path)
    found(pool, 2, seed=7)
    assert 1000 < found.seconds.wall < 1100
    assert 2000 < found.seconds.cpu < 2100
    assert found.elapsed.wall < 100


def test_a_set_follows_from_the_other_pools_that_its_condenser_looks_at(tmp_path: Path, pool: ClassPool) -> None:
    asked: list[ClassPool | None] = []

    class Looks:
        takes = frozenset(("remembered", "seconds"))

        def __call__(self, pool: ClassPool, budget: Any, *, seed: int = 0, remembered: ClassPool | None = None) -> Any:
            asked.append(remembered)
            return selections.random()(pool, budget, seed=seed)

    sets = KeptSets(Looks(), tmp_path)
    assert sets.takes == {"remembered"}
    for remembered in (None, pool.first(3), pool.first(4), pool.first(3), None):
        sets(pool, 1, remembered=remembered)
    assert [len(other) if other else 0 for other in asked] == [0, 6, 8]
    assert KeptSets(condenser(), tmp_path).takes == {"beside"}


def test_the_candidate_of_a_best_is_kept_with_its_networks_and_charged_in_full(tmp_path: Path, pool: ClassPool) -> None:
    best = BestOf(condenser(), (selections.random(),), net=ConvNet(width=4), visits=64, fraction=0.3)
    made = KeptSets(best, tmp_path)(pool, 2, seed=7)
    assert made.provenance["chosen"] in ("dm", "random")
    assert set(made.provenance["trials"]) == {"dm", "random"}
    assert same(made, KeptSets(best, tmp_path)(pool, 2, seed=7))
    assert len(list(tmp_path.glob("sets/*.safetensors"))) == 2
    (path,) = tmp_path.glob("networks/*.pt")
    torch.save({**torch.load(path, weights_only=True), "wall": 1000.0, "cpu": 2000.0}, path)
    other = KeptSets(best, tmp_path)
    other(pool, 3, seed=7)
    assert 1000 < other.seconds.wall < 1100
    assert other.elapsed.wall < 100

"""Budgets in bytes: never exceeded, spent on the best number of images, paid for to the byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddreplay import Budget, ClassPool, CondensedMemory, CondensedSet, Condenser, ConvNet, Distiller, dm
from ddreplay.condense.image_count import AtQuality, ByCodec, CountQuestion, Fixed, Validated, candidates
from ddreplay.methods import selections
from ddreplay.methods.selection_rules import RandomRule
from ddreplay.methods.selections import Selection
from ddreplay.methods.whitened import Whitened
from ddreplay.networks import Banked
from ddreplay.parameterize.basis import Basis
from ddreplay.parameterize.coded import Coded
from ddreplay.parameterize.frequency import Frequency
from ddreplay.parameterize.partitioned import Partitioned
from ddreplay.storage.codecs import BudgetTooSmall, Codec, avif, bits, dct, float32, jpeg, thumb, uint8, webp
from ddreplay.storage.fit import fit
from ddreplay.storage.part import Part

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=8)
QUICK = Validated(NET, visits=4)
CODECS = [float32(), uint8(), bits(), jpeg(), webp(), avif(speed=9), thumb(), dct(16)]
DISTILLER = replace(dm(NET, networks=Banked(size=1), steps=2), choose=QUICK)
FORMS = {
    "pixels": replace(DISTILLER, codec=jpeg()),
    "partitioned": replace(DISTILLER, codec=jpeg(), parameterize=Partitioned(2)),
    "coded": replace(DISTILLER, parameterize=Coded(webp(), every=2)),
    "frequency": replace(DISTILLER, parameterize=Frequency(8)),
    "uint8": replace(DISTILLER, codec=uint8()),
}


def real(codec: Codec) -> Selection:
    return Selection(RandomRule(), codec, choose=QUICK)


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
@pytest.mark.parametrize("budget", [90, 200, 333.4, 3000])
@pytest.mark.parametrize("classes", [1, 3])
def test_real_images_never_exceed_the_budget(toy_pool: MakePool, codec: Codec, budget: float, classes: int) -> None:
    pool = toy_pool(images_per_class=9, classes=classes)
    try:
        found = real(codec)(pool, Budget.bytes(budget))
    except BudgetTooSmall:
        one = Selection(RandomRule(), codec.qualities()[0])(pool, 1)
        assert one.nbytes > 0.9 * budget * classes  # another image may be a little smaller
        return
    assert found.nbytes <= budget * classes
    assert found.class_ids == tuple(pool.class_ids.tolist())


def asked(pool: ClassPool, codec: Codec, bytes_per_class: float) -> CountQuestion:
    """A question whose answer needs no trial."""
    return CountQuestion(pool, codec, Budget.bytes(bytes_per_class), lambda pool, n: pytest.fail("no trial is made"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("budget", [150, 400])
def test_condensed_images_never_exceed_the_budget(toy_pool: MakePool, form: str, budget: int) -> None:
    pool = toy_pool(images_per_class=9)
    found = FORMS[form](pool, Budget.bytes(budget))
    assert found.nbytes <= budget * 3
    assert torch.isfinite(found.images().x).all()
    assert found.provenance["max_bytes"] == budget * 3
    again = FORMS[form](pool, Budget.total_bytes(budget * 3))
    assert torch.equal(found.images().x, again.images().x)


@pytest.mark.parametrize("form", FORMS)
def test_bytes_charged_are_bytes_on_disk_and_classes_can_be_dropped(
    toy_pool: MakePool, tmp_path: Path, form: str
) -> None:
    found = FORMS[form](toy_pool(), Budget.bytes(250))
    path = found.save(tmp_path / "a.safetensors")
    assert path.stat().st_size == found.nbytes + found.header_nbytes
    loaded = CondensedSet.load(path)
    assert torch.equal(loaded.images().x, found.images().x)
    kept = loaded.select(found.class_ids[1:2])
    x, y = found.images()
    assert torch.equal(kept.images().x, x[y == found.class_ids[1]])


@pytest.mark.parametrize("codec", [webp(20), avif(20, speed=9), dct(16)], ids=lambda c: c.name)
def test_bytes_of_every_codec_are_bytes_on_disk(toy_pool: MakePool, tmp_path: Path, codec: Codec) -> None:
    found = Selection(RandomRule(), codec)(toy_pool(), 3)
    assert found.save(tmp_path / "a").stat().st_size == found.nbytes + found.header_nbytes


def test_small_classes_are_paid_from_the_same_budget(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=9, shape=(3, 16, 16))
    rows = torch.cat([torch.arange(0, 2), torch.arange(9, 27)])
    found = replace(FORMS["pixels"], choose=Fixed(4))(pool.subset(rows), Budget.bytes(300))
    assert found.nbytes <= 900
    assert sorted(n for part in found.parts for n in part.counts) == [2, 4, 4]


def test_exactly_one_budget(toy_pool: MakePool) -> None:
    for given in ({}, {"images_per_class": 1, "bytes_per_class": 9}, {"bytes_per_class": 9, "max_bytes": 9}):
        with pytest.raises(TypeError, match="exactly one"):
            Budget.of(**given)
        with pytest.raises(TypeError, match="exactly one"):
            CondensedMemory(selections.random(), **given)
    with pytest.raises(ValueError, match="bytes_per_class must be at least 1"):
        Budget.of(bytes_per_class=0)
    with pytest.raises(TypeError, match="max_bytes must be an integer"):
        Budget.of(max_bytes=True)


def test_the_best_number_of_images_is_taken(toy_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, tried = toy_pool(images_per_class=30), []
    rule = Validated()
    counts = candidates(asked(pool, jpeg(), 150))
    target = counts[len(counts) // 2]

    def score(self: object, asked: CountQuestion, kept: ClassPool, held: ClassPool, count: int) -> float:
        assert held.counts == (6, 6, 6)
        tried.append(asked.make(kept, count).parts[0].counts[0])
        return -float(abs(tried[-1] - target))

    monkeypatch.setattr(type(rule), "_score", score)
    found = Selection(RandomRule(), jpeg(), choose=rule)(pool, Budget.bytes(150))
    assert found.parts[0].counts == (target,) * 3
    assert len(tried) == len(set(tried))


@pytest.mark.parametrize("codec", [jpeg(), webp()], ids=lambda c: c.name)
def test_as_many_images_as_fit_at_a_quality(toy_pool: MakePool, codec: Codec) -> None:
    pool, counts = toy_pool(images_per_class=60), []
    family = codec.qualities()
    for share in (0.0, 0.3, 1.0):
        n = AtQuality(share)(asked(pool, codec, 150))
        wanted = family[round(share * (len(family) - 1))]
        sizes = [Part.of_images(pool, [pool.of_class(k)[:m] for k in range(3)], wanted).nbytes for m in (n, n + 1)]
        assert sizes[0] <= 450
        assert n == 60 or sizes[1] > 450
        counts.append(n)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < 60
    assert AtQuality()(asked(pool, codec, 1e6)) == 60
    found = replace(FORMS["pixels"], codec=codec, choose=AtQuality())(pool, Budget.bytes(150))
    assert found.nbytes <= 450
    with pytest.raises(BudgetTooSmall):
        replace(FORMS["pixels"], codec=codec, choose=AtQuality())(pool, Budget.bytes(20))
    with pytest.raises(ValueError, match="share"):
        AtQuality(1.5)


def test_small_images_keep_more_of_their_quality(toy_pool: MakePool) -> None:
    def chosen(side: int, share: float | None) -> int:
        pool = toy_pool(images_per_class=60, shape=(1, side, side))
        return AtQuality(share)(asked(pool, jpeg(), 150))

    assert chosen(8, None) == chosen(8, 1.5 / 8) != chosen(8, 1.5 / 16)
    assert chosen(16, None) == chosen(16, 1.5 / 16)


def test_only_what_is_no_picture_is_tried(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=30)
    rule = ByCodec(pictures=Fixed(7), others=Fixed(3))
    assert [rule(asked(pool, codec, 150)) for codec in (jpeg(), webp(), bits(), uint8())] == [7, 7, 3, 3]
    assert selections.random().choose == ByCodec()


def test_candidates_end_where_nothing_fits_and_begin_where_all_fits(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=40)
    for codec in (jpeg(), bits(), webp()):
        counts = candidates(asked(pool, codec, 250))
        assert counts == sorted(set(counts))
        assert counts[0] >= 1
        assert counts[-1] <= 40
    assert candidates(asked(pool, uint8(), 64 * 5 + 40)) == [5]
    assert candidates(asked(pool, uint8(), 1e9)) == [40]
    with pytest.raises(BudgetTooSmall, match="raise the budget"):
        candidates(asked(pool, uint8(), 60))


def test_what_is_left_for_images_is_the_budget_without_labels_and_normalisation(toy_pool: MakePool) -> None:
    pool = toy_pool()
    found = Selection(RandomRule(), uint8())(pool, 2)
    stored = sum(t.nbytes for t in found.parts[0].stored.values())
    assert Budget.bytes(found.nbytes / 3).room(pool, (2, 2, 2)) == stored


def test_the_chosen_number_ignores_the_global_state(toy_pool: MakePool) -> None:
    before = torch.random.get_rng_state()
    first = real(jpeg())(toy_pool(images_per_class=20), Budget.bytes(100))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(77)
    assert torch.equal(first.images().x, real(jpeg())(toy_pool(images_per_class=20), Budget.bytes(100)).images().x)


def test_fitting_keeps_what_fits_and_shrinks_what_does_not(toy_pool: MakePool) -> None:
    found = Selection(RandomRule(), jpeg(90))(toy_pool(images_per_class=20), 12)
    assert fit(found, found.nbytes) is found
    for share in (0.95, 0.6, 0.3):
        budget = int(share * found.nbytes)
        assert 0.5 * budget < fit(found, budget).nbytes <= budget
    with pytest.raises(BudgetTooSmall):
        fit(found, 60)


@pytest.mark.parametrize("make", [lambda: real(jpeg()), lambda: FORMS["coded"]], ids=["real", "condensed"])
def test_a_memory_in_bytes(toy_pool: MakePool, make: Callable[[], Condenser]) -> None:
    pool = toy_pool(classes=6, images_per_class=10)
    fixed_share = CondensedMemory(make(), bytes_per_class=170)
    shared = CondensedMemory(make(), max_bytes=900)
    seen: set[int] = set()
    for classes in ([0, 1], [2, 3], [1, 4], [5]):
        seen |= set(classes)
        for memory in (fixed_share, shared):
            memory.update(pool.select(classes))
            assert len(memory.condensed.class_ids) == len(seen)
        assert fixed_share.nbytes <= 170 * len(seen)
        assert shared.nbytes <= 900
    state = fixed_share.state_dict()
    resumed = CondensedMemory(make(), bytes_per_class=1)
    resumed.load_state_dict(state)
    assert resumed.budget == Budget.bytes(170)
    fixed_share.resize(bytes_per_class=140)
    assert fixed_share.nbytes <= 140 * 6


@pytest.mark.parametrize("condenser", [real(jpeg()), FORMS["pixels"]], ids=["real", "condensed"])
def test_more_images_than_fit_become_fewer(toy_pool: MakePool, condenser: Selection | Distiller) -> None:
    pool = toy_pool(images_per_class=20, shape=(3, 16, 16))
    found = replace(condenser, choose=Fixed(18))(pool, Budget.bytes(75))
    assert found.nbytes <= 225
    assert 1 <= max(found.parts[0].counts) < 18


def test_what_stands_beside_images_stays_or_is_refused(toy_pool: MakePool) -> None:
    method = dm(ConvNet(width=8), steps=2)
    pool = toy_pool(images_per_class=9)
    combined = replace(method, parameterize=Basis(2))(pool, 2)
    with pytest.raises(BudgetTooSmall, match="cannot be cut"):
        fit(combined, combined.nbytes - 1)
    white = Whitened(method, rank=2)(pool, 4)
    assert len(fit(white, white.nbytes - 1, white.parts[0].codec).images().x) == 9

"""Every condenser goes through one list of promises; joining the table is how a method enters the project."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from ddreplay import Budget, ClassPool, CondensedSet, Condenser, ConvNet, Distiller, methods
from ddreplay.augment.mixing import CutMix
from ddreplay.condense import SGD
from ddreplay.methods import selections
from ddreplay.networks import Banked, ModelQueue, TrainedPool, UntilSettled
from ddreplay.networks.real_batches import Representative, RepresentativeImages
from ddreplay.objectives import MeanEmbedding, MutualInformation, WarmUp
from ddreplay.parameterize.basis import Basis
from ddreplay.parameterize.coded import Coded
from ddreplay.parameterize.frequency import Frequency
from ddreplay.parameterize.partitioned import Partitioned
from ddreplay.parameterize.pixels import Pixels
from ddreplay.storage.codecs import bits

NET = ConvNet(width=8)
CONDENSERS: dict[str, Condenser] = {
    "random": selections.random(),
    "herding": selections.herding(NET, epochs=1),
    "k_center": selections.k_center(NET, epochs=1),
    "k_means": selections.k_means(NET, epochs=1),
    "forgetting": selections.forgetting(NET, epochs=2),
    "el2n": selections.el2n(NET, epochs=1, networks=2),
    "grand": selections.grand(NET, epochs=1, networks=1, keep="hardest"),
    "dm": methods.dm(NET, steps=3),
    "dm, banked": methods.dm(NET, steps=3, networks=Banked(size=2)),
    "dm, refreshed": methods.dm(NET, steps=3, networks=Banked(size=2, refresh=2)),
    "dm, through a codec": methods.dm(NET, steps=3, networks=Banked(size=2), parameterize=Coded(bits(4), every=2)),
    "dm, frequencies": methods.dm(NET, steps=3, networks=Banked(size=2), parameterize=Frequency(16)),
    "dm, partitioned": methods.dm(NET, steps=3, networks=Banked(size=2), parameterize=Partitioned(2)),
    "idm": methods.idm(
        NET,
        steps=3,
        weight=0.01,
        networks=ModelQueue(train_steps=1, batch_size=8, push_interval=2, size=3, meter_interval=2),
    ),
    "dm, representative": replace(
        methods.dm(NET, steps=3, batch_real=3, parameterize=Pixels(RepresentativeImages())),
        draw=Representative(interval=2),
    ),
    "idm, by set": methods.idm(
        NET, steps=3, networks=ModelQueue(train_steps=1, batch_size=8), parameterize=Pixels(), step_per="set"
    ),
    "ddm": methods.ddm(
        NET, steps=3, taps=("convolutions",), moments=100.0, gram=100.0, diversity=1.0, networks=Banked(size=2)
    ),
    "m3d": methods.m3d(NET, steps=3, networks=Banked(size=2)),
    "ncfm": methods.ncfm(NET, steps=3, frequencies=32, networks=Banked(size=2)),
    "dc": methods.dc(NET, rounds=2, loops=(2, 1)),
    "dsa": methods.dsa(NET, rounds=2, loops=(2, 1)),
    "dcc": methods.dcc(NET, rounds=2, loops=(2, 1), scope=WarmUp(rounds=1, steps=1)),
    "dcc, groups of classes": methods.dcc(NET, rounds=2, loops=(2, 1), scope="set", groups=2),
    "dsac": methods.dsac(NET, rounds=2, loops=(2, 1)),
    "idc": methods.idc(NET, rounds=2, steps=2, images_net=8, batch_real=4, lr=0.1),
    "dream": methods.dream(NET, rounds=2, steps=2, interval=2, images_net=8, batch_real=4, lr=0.1),
    "mtt": methods.mtt(NET, iterations=3, steps=2, latest_start=1, segment=1, experts=1, lr=1.0, inner_lr=0.01),
    "tesla": methods.tesla(NET, iterations=3, steps=2, latest_start=1, segment=1, experts=2, batch=2, lr_labels=0.1),
    "bptt": methods.bptt(NET, iterations=3, steps=3, lr_net=0.2, batch=1),
    "bptt, basis": methods.bptt(NET, iterations=3, steps=3, lr_net=0.2, batch=1, parameterize=Basis(2, init="noise")),
    "mtt, whitened": methods.Whitened(
        methods.mtt(NET, iterations=2, steps=2, latest_start=1, segment=1, experts=1, lr=1.0, inner_lr=0.01)
    ),
    "dd": methods.dd(NET, iterations=3, steps=3, lr_net=0.2),
    "ld": methods.ld(NET, rounds=2, loops=(2, 1), lr_net=0.1),
    "cafe": methods.cafe(
        NET, steps=3, taps=("convolutions",), networks=UntilSettled(window=2, images=4, most_epochs=2)
    ),
    "frepo": methods.frepo(NET, steps=3, networks=TrainedPool(size=2, steps=2), lr=0.01),
    "kip": methods.kip(NET, steps=3, batch_real=4),
    "dm + MIM4DD": methods.dm(NET, steps=3).plus(MutualInformation(width=8, images=4), 0.8),
    "dsac, mixed": methods.dsac(NET, rounds=2, loops=(2, 1), mix=CutMix()),
}
MakePool = Callable[..., ClassPool]
First = Callable[[Condenser], CondensedSet]


@pytest.fixture(params=CONDENSERS, name="condenser")
def _condenser(request: pytest.FixtureRequest) -> Condenser:
    return CONDENSERS[request.param]


@pytest.fixture(params=[k for k, v in CONDENSERS.items() if isinstance(v, Distiller)], name="distiller")
def _distiller(request: pytest.FixtureRequest) -> Distiller:
    found = CONDENSERS[request.param]
    assert isinstance(found, Distiller)
    return found


MADE: dict[int, CondensedSet] = {}


@pytest.fixture(name="first")
def _first(toy_pool: MakePool) -> First:
    """What each condenser made first, of the toy pool, two images per class with seed 0: later ones are held against it."""

    def first(condenser: Condenser) -> CondensedSet:
        if id(condenser) not in MADE:
            MADE[id(condenser)] = condenser(toy_pool(), 2, seed=0)
        return MADE[id(condenser)]

    return first


def same(a: CondensedSet, b: CondensedSet) -> bool:
    (ax, ay), (bx, by) = a.images(), b.images()
    return ax.shape == bx.shape and bool((ax == bx).all()) and bool((ay == by).all())


def test_exactly_the_budget_for_every_class(condenser: Condenser, toy_pool: MakePool, first: First) -> None:
    pool, found = toy_pool(), first(condenser)
    assert sorted(found.class_ids) == pool.class_ids.tolist()
    assert found.stored_images == 2 * pool.classes
    x, y = found.images()
    assert torch.isfinite(x).all()
    assert x.shape[1:] == pool.shape
    assert y.unique().tolist() == pool.class_ids.tolist()


def test_same_seed_same_bits_and_other_seeds_differ(condenser: Condenser, toy_pool: MakePool, first: First) -> None:
    assert same(first(condenser), condenser(toy_pool(), 2))
    assert not all(same(first(condenser), condenser(toy_pool(), 2, seed=s)) for s in (2, 3, 4))


def test_the_callers_random_state_and_pool_are_untouched(condenser: Condenser, toy_pool: MakePool) -> None:
    pool = toy_pool()
    before, images = torch.random.get_rng_state(), pool.all().x.clone()
    condenser(pool, 1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(images, pool.all().x)


def test_global_state_does_not_matter(condenser: Condenser, toy_pool: MakePool, first: First) -> None:
    before = first(condenser)
    torch.manual_seed(12345)
    assert same(before, condenser(toy_pool(), 2))


def test_relabelling_commutes(condenser: Condenser, toy_pool: MakePool) -> None:
    pool = toy_pool()
    x, y = pool.all()
    images = x * torch.tensor(pool.std).view(-1, 1, 1) + torch.tensor(pool.mean).view(-1, 1, 1)
    raw = images.mul(255).round().to(torch.uint8)
    moved = ClassPool(raw, pool.relabel(y) * 7 - 100, mean=pool.mean, std=pool.std, device="cpu")
    original = ClassPool(raw, pool.relabel(y), mean=pool.mean, std=pool.std, device="cpu")
    a, b = condenser(original, 2), condenser(moved, 2)
    assert torch.equal(a.images().x, b.images().x)
    assert torch.equal(a.images().y * 7 - 100, b.images().y)


def test_saved_loaded_and_pickled(condenser: Condenser, toy_pool: MakePool, first: First, tmp_path: Any) -> None:
    found = first(condenser)
    path = found.save(tmp_path / "set.safetensors")
    loaded = CondensedSet.load(path)
    assert same(found, loaded)
    assert loaded.provenance["method"] == found.provenance["method"]
    assert path.stat().st_size == loaded.nbytes + loaded.header_nbytes
    assert same(found, pickle.loads(pickle.dumps(found)))
    assert same(pickle.loads(pickle.dumps(condenser))(toy_pool(), 2), found)


def test_small_classes_keep_their_images(condenser: Condenser, toy_pool: MakePool) -> None:
    pool = toy_pool()
    x, y = pool.all()
    keep = torch.tensor(
        [0, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]
    )  # one image of the first class, all of the others
    uneven = ClassPool(x[keep], pool.relabel(y)[keep], mean=pool.mean, std=pool.std, device="cpu")
    found = condenser(uneven, 2)
    bx, by = found.images()
    first = int(pool.class_ids[0])
    assert (by == first).sum() == 1
    torch.testing.assert_close(bx[by == first], uneven.of_class(0), atol=1e-5, rtol=0)
    assert all(int((by == c).sum()) >= 2 for c in pool.class_ids.tolist()[1:])


def test_one_image_in_all(condenser: Condenser, toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=1, classes=1)
    assert len(condenser(pool, 3)) == 1


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12), (2, 9, 8)])
def test_any_shape(condenser: Condenser, toy_pool: MakePool, shape: tuple[int, int, int]) -> None:
    assert condenser(toy_pool(shape=shape), 1).images().x.shape[1:] == shape


def test_constant_images(condenser: Condenser) -> None:
    pool = ClassPool(torch.full((8, 1, 8, 8), 7, dtype=torch.uint8), torch.arange(8) % 2, device="cpu")
    assert torch.isfinite(condenser(pool, 1).images().x).all()


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_below_one_is_refused(condenser: Condenser, toy_pool: MakePool, budget: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        condenser(toy_pool(), budget)


def test_a_budget_must_be_an_integer(condenser: Condenser, toy_pool: MakePool) -> None:
    with pytest.raises(TypeError):
        condenser(toy_pool(), 1.5)  # type: ignore[arg-type]


def bytes_for(condenser: Condenser) -> Budget:
    """So little that something has to give; a whitening of all directions is paid for besides."""
    return Budget.bytes(6_200 if isinstance(condenser, methods.Whitened) else 700)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 8)])
def test_a_budget_in_bytes_is_kept_to_the_byte(
    condenser: Condenser, toy_pool: MakePool, shape: tuple[int, int, int], tmp_path: Any
) -> None:
    pool = toy_pool(images_per_class=12, shape=shape)
    budget = (
        Budget.bytes(115_000) if isinstance(condenser, methods.Whitened) and shape[0] == 3 else bytes_for(condenser)
    )
    found = condenser(pool, budget, seed=1)
    assert found.nbytes <= budget.total(pool.classes)
    assert found.provenance["max_bytes"] == budget.total(pool.classes)
    assert sorted(found.class_ids) == pool.class_ids.tolist()
    assert min(count for part in found.parts for count in part.counts) >= 1
    assert same(CondensedSet.load(found.save(tmp_path / "set")), found)


def test_a_deadline_is_kept_and_what_it_cut_is_told(condenser: Condenser, toy_pool: MakePool) -> None:
    if isinstance(condenser, Distiller):
        condenser = replace(condenser, steps=10**7)
    if isinstance(condenser, methods.Whitened) and isinstance(condenser.condenser, Distiller):
        condenser = replace(condenser, condenser=replace(condenser.condenser, steps=10**7))
    assert "seconds" in condenser.takes  # type: ignore[attr-defined]
    started = time.perf_counter()
    found = condenser(toy_pool(images_per_class=150), bytes_for(condenser), seconds=0.1)  # type: ignore[call-arg]
    assert time.perf_counter() - started < 8
    if not isinstance(condenser, selections.Selection):
        assert any("image steps" in what for what in found.provenance["cut"])


def test_any_network_serves(distiller: Distiller, toy_pool: MakePool) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    weight = net[0].weight.clone()
    networks = replace(distiller.networks, net=net)  # type: ignore[type-var]
    found = replace(distiller, networks=networks)(toy_pool(), 1)
    assert torch.isfinite(found.images().x).all()
    assert torch.equal(net[0].weight, weight)


def test_a_term_of_weight_zero_changes_no_bit(distiller: Distiller, toy_pool: MakePool, first: First) -> None:
    assert same(first(distiller), distiller.plus(MeanEmbedding(), 0.0)(toy_pool(), 2))


def test_an_interrupted_run_goes_on_to_the_same_bits(
    distiller: Distiller, toy_pool: MakePool, first: First, tmp_path: Any
) -> None:
    path = tmp_path / "state.pt"

    class Interrupted(Exception):
        pass

    def stop(step: int, loss: torch.Tensor) -> None:
        if step == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        distiller(toy_pool(), 2, seed=0, checkpoint=path, checkpoint_every=1, on_step=stop)
    steps: list[int] = []
    resumed = distiller(
        toy_pool(), 2, seed=0, checkpoint=path, checkpoint_every=1, on_step=lambda step, _: steps.append(step)
    )
    assert steps[0] == 3
    assert same(first(distiller), resumed)
    with pytest.raises(ValueError, match="another run"):
        distiller(toy_pool(), 2, seed=4, checkpoint=path)


def test_the_objective_goes_down(distiller: Distiller, toy_pool: MakePool) -> None:
    # gradients of ncfm are that much smaller (roots, of embeddings of unit length), those of kip are of an error that begins small
    lr = {"ncfm": 5.0, "kip": 100.0}.get(distiller.name, 0.05)
    longer = replace(distiller, steps=60, optimizer=SGD(lr=lr))
    losses: list[float] = []
    longer(toy_pool(images_per_class=12), 2, on_step=lambda _, loss: losses.append(float(loss)))
    assert len(losses) == 60
    assert sum(losses[-15:]) < sum(losses[:15])


def test_time_is_a_budget_too(distiller: Distiller, toy_pool: MakePool) -> None:
    assert distiller(toy_pool(), 1, seconds=0.0).provenance["steps_done"] == 0

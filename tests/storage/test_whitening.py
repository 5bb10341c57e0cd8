"""Whitening, its inverse, and sets that are made in its space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddreplay import ClassPool, CondensedSet, ConvNet, evaluate, methods
from ddreplay.data.space import to_pixels
from ddreplay.evaluation import Protocol, accuracy, train
from ddreplay.randomness import Random
from ddreplay.storage.codecs import float32
from ddreplay.storage.whitening import Whitening

NET = ConvNet(width=8)
MakePool = Callable[..., ClassPool]
SHORT = Protocol("short", epochs=2)


def pixels(pool: ClassPool) -> torch.Tensor:
    return to_pixels(pool.all().x, pool.mean, pool.std)


def test_it_is_zca(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=40, shape=(2, 3, 3))
    flat = pixels(pool).flatten(1).double()
    centred = flat - flat.mean(0)
    variances, u = torch.linalg.eigh(centred.T @ centred / len(flat))
    expected = centred @ u @ torch.diag(1 / (variances + 0.01).sqrt()) @ u.T
    whitened = Whitening.fit(pool, eps=0.01).apply(pixels(pool)).flatten(1)
    torch.testing.assert_close(whitened.double(), expected, atol=1e-4, rtol=1e-3)
    unit = Whitening.fit(pool, eps=1e-8).apply(pixels(pool)).flatten(1).double()
    torch.testing.assert_close(unit.T @ unit / len(unit), torch.eye(18, dtype=torch.float64), atol=2e-2, rtol=0)


@pytest.mark.parametrize("rank", [None, 5])
def test_there_and_back(toy_pool: MakePool, rank: int | None) -> None:
    pool = toy_pool()
    whitening = Whitening.fit(pool, rank=rank)
    assert whitening.vectors.shape == (64, rank or 64)
    torch.testing.assert_close(whitening.invert(whitening.apply(pixels(pool))), pixels(pool), atol=1e-5, rtol=0)
    white = whitening.pool(pool)
    assert (white.classes, white.counts, white.class_names) == (pool.classes, pool.counts, pool.class_names)
    assert torch.equal(white.class_ids, pool.class_ids)
    torch.testing.assert_close(white.all().x, whitening.apply(pixels(pool)))
    assert abs(float(white.all().x.mean())) < 1e-3


def made(pool: ClassPool, images_per_class: int = 2) -> CondensedSet:
    return methods.Whitened(replace(methods.dm(NET, steps=5), codec=float32()))(pool, images_per_class)


def test_the_file_holds_pixels_again_and_pays_for_the_way_back(toy_pool: MakePool, tmp_path: Path) -> None:
    pool = toy_pool()
    found = made(pool)
    whitening = found.space
    assert isinstance(whitening, Whitening)
    assert whitening.equals(Whitening.fit(pool))
    inner = replace(methods.dm(NET, steps=5), codec=float32())(whitening.pool(pool), 2)
    shown = to_pixels(found.images().x, pool.mean, pool.std)
    torch.testing.assert_close(shown, whitening.invert(inner.images().x), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.in_space().x, inner.images().x, atol=1e-4, rtol=0)
    start = methods.Whitened(replace(methods.dm(NET, steps=1, lr=1e-12), codec=float32()))(pool, 2)
    real = {tuple(x.round(decimals=3).flatten().tolist()) for x in pixels(pool)}
    assert all(
        tuple(x.round(decimals=3).abs().flatten().tolist()) in real
        for x in to_pixels(start.images().x, pool.mean, pool.std)
    )
    assert found.nbytes == inner.nbytes + sum(t.nbytes for t in whitening.tensors().values())
    loaded = CondensedSet.load(found.save(tmp_path / "set.safetensors"))
    assert torch.equal(loaded.images().x, found.images().x)
    assert loaded.space is not None
    assert loaded.space.equals(whitening)


def test_evaluation_trains_and_tests_whitened(toy_pool: MakePool) -> None:
    pool, other = toy_pool(), toy_pool(seed=3)
    test = ClassPool(other.all().x, other.relabel(other.all().y), mean=pool.mean, std=pool.std, device="cpu")
    found = made(pool)
    result = evaluate(found, test, NET, protocol=SHORT, seeds=1, seed=5)
    whitening = found.space
    assert isinstance(whitening, Whitening)
    random = Random(Random(5).seed())
    with random.scope():
        net = NET(pool.shape, 3)
    ids = torch.tensor(sorted(found.class_ids))
    batch = found.in_space()
    train(net, batch.x, torch.searchsorted(ids, batch.y), SHORT, random)
    assert result.accuracies[0] == pytest.approx(accuracy(net, whitening.pool(test)))


def test_picked_recoded_shortened_and_joined(toy_pool: MakePool) -> None:
    found = made(toy_pool())
    x, y = found.images()
    one = found.select([9])
    torch.testing.assert_close(one.images().x, x[y == 9])
    torch.testing.assert_close(found.recode(float32()).images().x, x)
    torch.testing.assert_close(found.take(1).images().x, x[::2])
    assert one.space is not None
    assert one.join(found.select([2])).space is not None
    other = made(toy_pool(seed=1))
    both = one.join(other.select([2]))
    assert both.space is None  # two whitenings: replay in pixels goes on, evaluation is not whitened
    assert torch.isfinite(both.images().x).all()


def test_small_classes_stay_real_and_are_whitened_with_the_rest(toy_pool: MakePool) -> None:
    pool = toy_pool()
    x, y = pool.all()
    keep = torch.tensor([0, *range(6, 18)])
    uneven = ClassPool(x[keep], pool.relabel(y)[keep], mean=pool.mean, std=pool.std, device="cpu")
    found = made(uneven)
    own = found.images().x[found.images().y == int(pool.class_ids[0])]
    torch.testing.assert_close(own, uneven.of_class(0), atol=1e-5, rtol=0)
    assert found.space is not None
    assert len(found.in_space().x) == 5


def test_a_file_without_its_whitening_is_refused(toy_pool: MakePool) -> None:
    part = made(toy_pool()).parts[0]
    broken = replace(part, beside={})
    with pytest.raises(ValueError, match="whitened"):
        _ = broken.images
    with pytest.raises(ValueError, match="eps"):
        Whitening.fit(toy_pool(), eps=0.0)

"""Addressable memories: what is stored, what it decodes to, and that both parts learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddreplay import ClassPool, CondensedSet, ConvNet, methods
from ddreplay.parameterize.basis import Basis, BasisForm
from ddreplay.randomness import Random
from ddreplay.storage.codecs import float32
from ddreplay.storage.part import Part

NET = ConvNet(width=8)
MakePool = Callable[..., ClassPool]


def form_on(pool: ClassPool, times: int = 3) -> BasisForm:
    return Basis(times)(pool, 2, Random(0))


def test_images_are_the_sums_of_the_equation(toy_pool: MakePool) -> None:
    form = form_on(toy_pool())
    images = form.decode()
    assert images.shape == (3 * 6, 1, 8, 8)
    for c in range(3):
        for j in range(6):
            expected = sum(form.coefficients[c, j, r] * form.images[2 * c + r] for r in range(2))
            torch.testing.assert_close(images[6 * c + j], expected)


def test_each_combination_starts_near_a_stored_image(toy_pool: MakePool) -> None:
    pool = toy_pool()
    form = form_on(pool)
    nearest = form.coefficients.detach().argmax(2)
    assert nearest.tolist() == [[0, 1] * 3] * 3
    assert len(form.decode().detach().flatten(1).unique(dim=0)) == 18


def test_a_file_gives_the_images_back_and_every_byte_is_charged(toy_pool: MakePool, tmp_path: Path) -> None:
    pool = toy_pool()
    form = form_on(pool)
    how = {"decoder": form.decoder(), "beside": form.beside()}
    part = Part.of_images(pool, form.images.detach().split(2), float32(), **how)
    found = CondensedSet((part,))
    loaded = CondensedSet.load(found.save(tmp_path / "set.safetensors"))
    torch.testing.assert_close(loaded.images().x, form.decode().detach(), atol=5e-3, rtol=0)
    plain = Part.of_images(pool, form.images.detach().split(2), float32())
    assert loaded.nbytes == plain.nbytes + 2 * form.coefficients.numel()
    assert loaded.stored_images == 6
    assert len(loaded) == 18


def test_classes_are_picked_and_joined(toy_pool: MakePool) -> None:
    pool = toy_pool()
    found = methods.dm(NET, steps=2)
    found = replace(found, parameterize=Basis(2))(pool, 2)
    x, y = found.images()
    for c in found.class_ids:
        one = found.select([c])
        torch.testing.assert_close(one.images().x, x[y == c])
        assert one.stored_images == 2
        assert one.nbytes < found.nbytes
    both = found.select([9]).join(found.select([2]))
    assert both.images().y.tolist() == [9] * 4 + [2] * 4


def test_another_codec_keeps_the_coefficients_and_shortening_is_refused(toy_pool: MakePool) -> None:
    found = replace(methods.dm(NET, steps=1), parameterize=Basis(2))(toy_pool(), 2)
    recoded = found.recode(float32())
    torch.testing.assert_close(recoded.images().x, found.images().x, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="condense again"):
        found.take(1)


def test_images_and_coefficients_both_learn_in_any_method(toy_pool: MakePool) -> None:
    pool = toy_pool()
    none = replace(methods.dm(NET, steps=1, lr=1e-12), parameterize=Basis(2))(pool, 2)
    some = replace(methods.dm(NET, steps=20), parameterize=Basis(2))(pool, 2)
    (before,), (after,) = none.parts, some.parts
    assert not torch.equal(before.beside["coefficients"], after.beside["coefficients"])
    assert not torch.equal(before.stored["values"], after.stored["values"])


def test_one_time_at_least() -> None:
    with pytest.raises(ValueError, match="times"):
        Basis(0)

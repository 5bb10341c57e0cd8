"""The nearest real images, against a loop over all pairs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ddreplay import ClassPool
from ddreplay.data.space import to_pixels
from ddreplay.report.nearest import nearest_real, real_spacing

MakePool = Callable[..., ClassPool]


def test_it_is_the_nearest_of_all_classes(toy_pool: MakePool, monkeypatch: object) -> None:
    pool = toy_pool()
    real = to_pixels(pool.rows(torch.arange(len(pool))), pool.mean, pool.std).clamp(0, 1)
    asked = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 1.4 - 0.2
    found = nearest_real(asked, pool)
    for k, image in enumerate(asked.clamp(0, 1)):
        apart = [float((image - r).square().mean().sqrt()) * 255 for r in real]
        assert int(found.rows[k]) == min(range(len(apart)), key=lambda j: apart[j])
        torch.testing.assert_close(float(found.distances[k]), min(apart), atol=1e-3, rtol=1e-4)


def test_a_real_image_is_found_as_itself(toy_pool: MakePool) -> None:
    pool = toy_pool()
    rows = torch.tensor([4, 11])
    found = nearest_real(to_pixels(pool.rows(rows), pool.mean, pool.std), pool)
    assert found.rows.tolist() == rows.tolist()
    assert found.distances.max() < 1e-2


def test_real_images_are_measured_against_others_than_themselves(toy_pool: MakePool) -> None:
    pool = toy_pool()
    real = to_pixels(pool.rows(torch.arange(len(pool))), pool.mean, pool.std).flatten(1)
    apart = torch.cdist(real, real).fill_diagonal_(torch.inf).min(1).values * 255 / 8
    torch.testing.assert_close(real_spacing(pool), apart.sort().values, atol=1e-2, rtol=1e-3)

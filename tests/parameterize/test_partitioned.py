"""Partitioned images: the order of tiles, and that they cost what one image does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from ddreplay import ClassPool, ConvNet, methods
from ddreplay.networks import ModelQueue
from ddreplay.parameterize.partitioned import Partitioned
from ddreplay.randomness import Random
from ddreplay.storage.decoders import expand_partition


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 9, 7)])
def test_partition_goes_down_columns_of_tiles_and_is_tile_major(factor: int, shape: tuple[int, int, int]) -> None:
    x = torch.rand(2, *shape)
    found = expand_partition(x, factor)
    assert found.shape == (2 * factor**2, *shape)
    h, w = shape[1:]
    high, wide = -(-h // factor), -(-w // factor)
    for column in range(factor):
        for row in range(factor):
            top, left = round(row * (h - high) / (factor - 1)), round(column * (w - wide) / (factor - 1))
            tile = x[:, :, top : top + high, left : left + wide]
            expected = F.interpolate(tile, size=(h, w), mode="bilinear", align_corners=False)
            k = column * factor + row  # top left, bottom left, top right, bottom right for 2
            torch.testing.assert_close(found[2 * k : 2 * k + 2], expected)


def test_a_partitioned_set_costs_what_it_stores(toy_pool: Callable[..., ClassPool]) -> None:
    whole = methods.dm(ConvNet(width=8), steps=1)(toy_pool(20), 2)
    parts = methods.idm(ConvNet(width=8), networks=ModelQueue(train_steps=1, batch_size=8), steps=1)(toy_pool(20), 2)
    assert parts.nbytes == whole.nbytes
    assert len(parts) == 4 * len(whole)
    assert len(Partitioned(3)(toy_pool(20), 2, Random(0)).decode()) == 9 * len(whole)

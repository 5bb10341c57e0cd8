"""Batch norm in networks trained on synthetic images: settled on real ones for matching, trained in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ddreplay import ConvNet
from ddreplay.augment.siamese import Identity
from ddreplay.methods.gradient import dc
from ddreplay.networks import Context
from ddreplay.randomness import Random


def test_batch_norm_is_settled_on_real_images_for_matching_and_trains_in_between(toy_pool: Callable[..., Any]) -> None:
    pool, random = toy_pool(), Random(0)
    method = dc(ConvNet(width=4, norm="batch"), loops=(3, 1))
    syn = pool.draw(2, Random(5))
    context = Context(pool, method.objective, Identity(), 4, random, lambda: syn, 2)
    networks = method.networks.start(context)
    at, _ = networks.show()
    norms = [m for m in at.net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
    assert at.net.training
    before = [m.running_mean.clone() for m in norms if m.running_mean is not None]
    at.net(syn.x)
    assert all(torch.equal(a, m.running_mean) for a, m in zip(before, norms, strict=True))  # type: ignore[arg-type]
    assert int(norms[0].num_batches_tracked or 0) == 1
    weight = norms[0].weight.clone()
    networks.moved()
    assert all(m.training for m in norms)
    assert int(norms[0].num_batches_tracked or 0) == 2
    assert not torch.equal(weight, norms[0].weight)
    networks.show()
    assert not any(m.training for m in norms)


def test_settling_is_one_pass_over_sixteen_real_images_a_class(toy_pool: Callable[..., Any]) -> None:
    pool = toy_pool(images_per_class=40)
    method = dc(ConvNet(width=4, norm="batch"), loops=(1, 0))
    context = Context(pool, method.objective, Identity(), 4, Random(0), lambda: pool.draw(1, Random(5)), 1)
    at, _ = method.networks.start(context).show()

    random = Random(0)
    with random.scope():
        net = ConvNet(width=4, norm="batch")(pool.shape, pool.classes)
    x = pool.draw(16, random).x
    first = net.blocks[0].conv(x)  # type: ignore[index, union-attr]
    torch.testing.assert_close(at.net.blocks[0].norm.running_mean, 0.1 * first.mean((0, 2, 3)))  # type: ignore[index, union-attr]

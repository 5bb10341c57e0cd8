"""Where images start."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ddreplay import ClassPool, names
from ddreplay.parameterize import Pixels, XavierNoise
from ddreplay.randomness import Random


def test_xavier_noise_is_uniform_within_its_bound(toy_pool: Callable[..., ClassPool]) -> None:
    pool, n = toy_pool(), 20
    form = Pixels(XavierNoise())(pool, n, Random(3))
    images, bound = form.images.detach(), math.sqrt(6 / (3 * n + 64))
    assert images.shape == (3 * n, 1, 8, 8)
    assert float(images.abs().max()) <= bound
    assert abs(float(images.std()) / (bound / math.sqrt(3)) - 1) < 0.03
    assert abs(float(images.mean())) < 0.02 * bound
    assert torch.equal(images, XavierNoise()(pool, n, Random(3)))
    assert not torch.equal(images, XavierNoise()(pool, n, Random(4)))
    found = names.condenser("bptt(parameterize=pixels(xavier_noise), iterations=1, steps=1)", net="convnet(width=4)")
    assert found.parameterize == Pixels(XavierNoise())  # type: ignore[attr-defined]
    assert float(found(pool, 1).images().x.abs().max()) < 1

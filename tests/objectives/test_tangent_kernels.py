"""Tangent kernels against loops from the equations, and against the gradients of wide networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddreplay import ClassPool, methods
from ddreplay.objectives import tangent_kernels
from ddreplay.objectives.tangent_kernels import ConvTangentKernel
from ddreplay.randomness import Random

MakePool = Callable[..., ClassPool]


def images(n: int, seed: int, *shape: int) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Wide(nn.Module):
    """A layer in the tangent kernel's scale: weights of variance 1, which are divided by the root of the inputs, times ``weight``."""

    def __init__(self, inputs: int, outputs: int, window: int, weight: float, bias: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(outputs, inputs, window, window, dtype=torch.float64))
        self.b = nn.Parameter(torch.randn(outputs, dtype=torch.float64))
        self.weight, self.bias = weight / (inputs * window**2) ** 0.5, bias

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.w, self.bias * self.b, padding=self.w.shape[-1] // 2)


def empirical(kernel: ConvTangentKernel, x: Tensor, width: int, seed: int) -> Tensor:
    """The Gram matrix of a wide network's gradients by its weights."""
    layers: list[nn.Module] = []
    inputs, size = x.shape[1], x.shape[2]
    with Random(seed).scope():
        for block, count in enumerate(kernel.convolutions):
            for _ in range(count):
                layers += [Wide(inputs, width, 3, kernel.weight, kernel.bias), nn.ReLU()]
                inputs = width
            last = kernel.average and block == len(kernel.convolutions) - 1
            layers.append(nn.AdaptiveAvgPool2d(1) if last else nn.AvgPool2d(2))
            size = 1 if last else size // 2
        net = nn.Sequential(*layers, nn.Flatten(), nn.Unflatten(1, (width * size**2, 1, 1)))
        net.append(Wide(width * size**2, 1, 1, kernel.weight, kernel.bias))
    rows = []
    for image in x:
        gradients = torch.autograd.grad(net(image[None]).sum(), list(net.parameters()))
        rows.append(torch.cat([g.flatten() for g in gradients]))
    jacobian = torch.stack(rows)
    return jacobian @ jacobian.T


@pytest.mark.parametrize(
    "kernel",
    [
        ConvTangentKernel((1,), weight=1.3, bias=0.2),
        ConvTangentKernel((2, 1)),
        ConvTangentKernel((2, 1), average=True, bias=0.5),
    ],
    ids=["one block", "two blocks", "the mean of all pixels"],
)
def test_the_convolutional_kernel_is_that_of_wide_networks(kernel: ConvTangentKernel) -> None:
    x = images(4, 0, 2, 5, 5)
    found = kernel(x, x)
    torch.testing.assert_close(found, found.T)
    wide = torch.stack([empirical(kernel, x, 256, seed) for seed in range(6)])
    spread = wide.std(0) / math.sqrt(len(wide))
    # the error of a mean of six networks, and what a width of 256 is off by
    assert bool(((wide.mean(0) - found).abs() < 4 * spread + 0.02 * found.diagonal().mean()).all())
    others = found - torch.diag(found.diagonal())
    assert float(spread.max()) < 0.2 * float(others.abs().max())


def by_loops(kernel: ConvTangentKernel, x: Tensor, y: Tensor) -> float:
    """One convolution, ReLU and pooling, then the linear layer, pixel pair by pixel pair."""
    w, b, (c, h, width) = kernel.weight**2, kernel.bias**2, x.shape
    pixels = list(itertools.product(range(h), range(width)))

    def covariance(a: Tensor, p: tuple[int, int], o: Tensor, q: tuple[int, int]) -> float:
        total = 0.0
        for i, j in itertools.product((-1, 0, 1), repeat=2):
            one, other = (p[0] + i, p[1] + j), (q[0] + i, q[1] + j)
            if one in pixels and other in pixels:
                total += float(a[:, one[0], one[1]] @ o[:, other[0], other[1]]) / c
        return w * total / 9 + b

    result = 0.0
    for block in itertools.product(range(h // 2), range(width // 2)):
        window = [(2 * block[0] + i, 2 * block[1] + j) for i, j in itertools.product((0, 1), repeat=2)]
        for p, q in itertools.product(window, repeat=2):
            k = covariance(x, p, y, q)
            size = math.sqrt(covariance(x, p, x, p) * covariance(y, q, y, q))
            t = math.acos(min(1.0, k / size))
            result += (size * (math.sin(t) + (math.pi - t) * math.cos(t)) + k * (math.pi - t)) / (2 * math.pi) / 16
    return w * result / ((h // 2) * (width // 2)) + b


def test_the_convolutional_kernel_is_the_equation_pixel_by_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, x, y = ConvTangentKernel((1,), weight=1.3, bias=0.2), images(3, 1, 2, 4, 5), images(2, 2, 2, 4, 5)
    wanted = torch.tensor([[by_loops(kernel, a, b) for b in y] for a in x], dtype=torch.float64)
    torch.testing.assert_close(kernel(x, y), wanted, rtol=1e-6, atol=0)
    monkeypatch.setattr(tangent_kernels, "_PIECE", 1)  # an image at a time
    torch.testing.assert_close(kernel(x, y), wanted, rtol=1e-6, atol=0)
    moving = y.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: kernel(x, z), moving, fast_mode=True, atol=1e-5)


def test_of_images_of_one_pixel_it_is_the_kernel_of_a_fully_connected_network() -> None:
    """A window then sees one pixel and eight zeros, so that inputs count a ninth, and the mean over pixels is over one."""
    x, w = images(3, 3, 4, 1, 1), 1.5
    found = ConvTangentKernel((1,), average=True, weight=w, bias=0.3)(x, x)
    first = w**2 * torch.einsum("mc,nc->mn", x.flatten(1), x.flatten(1)) / 4 / 9 + 0.09
    size = (first.diagonal()[:, None] * first.diagonal()).sqrt()
    t = (first / size).clamp(-1, 1).arccos()
    wanted = w**2 * (size * t.sin() + (math.pi - t) * 2 * first) / (2 * math.pi) + 0.09
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-8)


def test_images_too_small_and_blocks_without_convolutions_are_refused() -> None:
    with pytest.raises(ValueError, match="images of 4 x 8 pixels are too small for pooling 3 times"):
        ConvTangentKernel()(images(1, 0, 1, 4, 8), images(1, 0, 1, 4, 8))
    with pytest.raises(ValueError, match="convolutions must be one number or more"):
        ConvTangentKernel((1, 0))


def test_kip_with_the_convolutional_kernel_lowers_its_loss(toy_pool: MakePool) -> None:
    pool, losses = toy_pool(images_per_class=12), list[float]()
    method = methods.kip(kernel=ConvTangentKernel((1, 1)), steps=8, batch_real=4, lr=0.1)
    found = method(pool, 2, on_step=lambda step, loss: losses.append(float(loss)))
    assert found.images().x.shape[0] == 2 * pool.classes
    assert losses[-1] < 0.8 * losses[0]

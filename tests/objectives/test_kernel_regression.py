"""Kernel ridge regression against loops, its gradient, and what learned targets become in an evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ddreplay import ClassPool, ConvNet, methods
from ddreplay.augment.siamese import Identity
from ddreplay.backbones import Probe
from ddreplay.condense.condenser import Deadline
from ddreplay.condense.run import Classes, Run
from ddreplay.evaluation import PROTOCOLS, evaluate
from ddreplay.networks import TrainedPool
from ddreplay.objectives import KernelRegression, Look, Side
from ddreplay.objectives.kernel_regression import label_margin, ridge_regression
from ddreplay.objectives.tangent_kernels import TangentKernel
from ddreplay.randomness import Random

CLASSES, REAL, SYN = 3, 4, 2
MakePool = Callable[..., ClassPool]


def side(x: Tensor) -> Side:
    with Random(0).scope():
        net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 16, CLASSES)).double()
    net, random = net.requires_grad_(False), Random(0)
    return Side(Look(net, Probe(net), Identity().draw((1, 6, 6), random), Identity(), random), x, range(CLASSES))


def images(n: int, seed: int) -> Tensor:
    return torch.randn(CLASSES * n, 1, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def prepared(**how: float | bool) -> KernelRegression:
    term = KernelRegression(**how)  # type: ignore[arg-type]
    term.prepare(side(images(SYN, 1)))
    assert term.labels is not None
    with torch.no_grad():
        noise = torch.randn(term.labels.shape, generator=torch.Generator().manual_seed(5))
        term.labels.add_(0.2 * noise)
    return term.double()


def value(term: KernelRegression, real: Tensor, syn: Tensor) -> Tensor:
    with torch.no_grad():
        statistic = term.summarise(side(real))
    return term.distance(statistic, side(syn))


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_it_is_the_equation_image_by_image(margin: float) -> None:
    term, real, syn = prepared(ridge=0.1, margin=margin), images(REAL, 2), images(SYN, 3)
    assert term.labels is not None
    labels = term.labels.detach()
    x, s = side(real).embedding, side(syn).embedding
    n = len(s)
    kernel = torch.tensor([[float((s[i] * s[j]).sum()) for j in range(n)] for i in range(n)], dtype=torch.float64)
    inverse = torch.linalg.inv(
        kernel + 0.1 * sum(float(kernel[i, i]) for i in range(n)) / n * torch.eye(n, dtype=torch.float64)
    )
    total = 0.0
    for i in range(len(x)):
        for c in range(CLASSES):
            said = sum(
                float(x[i] @ s[j]) * float(inverse[j, k]) * float(labels[k, c]) for j in range(n) for k in range(n)
            )
            total += 0.5 * (said - (float(i // REAL == c) - 1 / CLASSES)) ** 2 / len(x)
    for k in range(n):
        ordered = sorted(labels[k].tolist(), reverse=True)
        total -= margin * min(ordered[0] - ordered[1], 1 / CLASSES) / n
    assert float(value(term, real, syn).detach()) == pytest.approx(total, rel=1e-9)


def test_gradients_to_images_and_labels_are_right() -> None:
    term, real = prepared(ridge=0.1), images(REAL, 2)
    syn = images(SYN, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: value(term, real, x), syn, fast_mode=True)
    assert term.labels is not None
    (gradient,) = torch.autograd.grad(value(term, real, syn.detach()), term.labels)
    step = 1e-6 * torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        before = value(term, real, syn)
        term.labels.add_(step)
        change = value(term, real, syn) - before
    torch.testing.assert_close(change, (gradient * step).sum(), rtol=1e-3, atol=1e-12)


def test_what_it_sees_it_says_and_labels_start_centred() -> None:
    features = torch.randn(5, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.eye(5, dtype=torch.float64) - 0.2
    torch.testing.assert_close(ridge_regression(features, features, labels, 1e-9), labels, atol=1e-6, rtol=0)
    assert torch.isfinite(ridge_regression(torch.ones(3, 4), torch.zeros(2, 4), torch.ones(2, 2), 1e-6)).all()
    term = KernelRegression()
    term.prepare(side(images(SYN, 1)))
    assert term.labels is not None
    torch.testing.assert_close(term.labels.detach().sum(1), torch.zeros(CLASSES * SYN), atol=1e-6, rtol=0)
    assert float(term.labels.detach()[0, 0]) == pytest.approx((1 - 1 / 3) / (3 / 10) ** 0.5)
    of_a_kernel = KernelRegression(kernel=TangentKernel())
    of_a_kernel.prepare(side(images(SYN, 1)))
    assert of_a_kernel.labels is not None
    assert float(of_a_kernel.labels.detach()[0, 0]) == pytest.approx(1 - 1 / 3)
    assert float(label_margin(torch.tensor([[0.9, 0.0, 0.0], [0.1, 0.0, 0.05]]))) == pytest.approx(-(1 / 3 + 0.05) / 2)
    with pytest.raises(ValueError, match="ridge"):
        KernelRegression(0.0)


def test_the_pool_learns_from_learned_labels_and_replaces_its_networks(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=12)
    method = methods.frepo(ConvNet(width=8), networks=TrainedPool(size=2, steps=4, lr=0.01), steps=12, lr=0.01)
    run = Run(method, Classes(pool, tuple(range(pool.classes))), 2, 0, Deadline(None))
    source = run.networks
    assert source.ages == [0, 2]  # type: ignore[attr-defined]
    first = list(source.nets)  # type: ignore[attr-defined]
    soft = run.syn().y
    assert soft.shape == (2 * pool.classes, pool.classes)
    torch.testing.assert_close(soft, run.objective.soft_labels().detach())  # type: ignore[union-attr]
    before = [p.clone() for p in first[0].parameters()]
    source.chosen = 0  # type: ignore[attr-defined]
    source.moved()
    assert any(not torch.equal(a, b) for a, b in zip(before, first[0].parameters(), strict=True))
    for _ in range(3):
        source.moved()
    assert source.nets[0] is not first[0]  # type: ignore[attr-defined]
    assert source.nets[1] is first[1]  # type: ignore[attr-defined]
    assert source.ages == [0, 2]  # type: ignore[attr-defined]


def test_a_set_with_learned_targets_is_evaluated_by_either_loss(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=12)
    net = ConvNet(width=8)
    found = methods.frepo(net, networks=TrainedPool(size=2, lr=0.01), steps=8, lr=0.01)(pool, 2, seed=1)
    soft = found.soft_labels
    assert soft is not None
    assert float(soft.min()) < 0
    shares = PROTOCOLS["dm2023"].targets(soft)
    torch.testing.assert_close(shares.sum(1), torch.ones(len(soft)))
    assert float(shares.min()) >= 0
    assert torch.equal(PROTOCOLS["frepo2022"].targets(soft), soft)
    for name in ("frepo2022", "dc2021"):
        tested = evaluate(found, pool, net, protocol=PROTOCOLS[name].scaled(40), seeds=1)
        assert 100 / pool.classes < tested.mean <= 100


def test_the_tangent_kernel_pair_by_pair_and_against_a_wide_network() -> None:
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = TangentKernel(2, weight=1.3, bias=0.2)(x, x)
    for i in range(3):
        for j in range(3):
            k = {p: 1.69 * float(x[p[0]] @ x[p[1]]) / 5 + 0.04 for p in ((i, i), (j, j), (i, j))}
            tangent = k[i, j]
            for _ in range(2):
                size = (k[i, i] * k[j, j]) ** 0.5
                t = 0.0 if i == j else math.acos(k[i, j] / size)
                turned = tangent * (math.pi - t) / (2 * math.pi)
                between = size * (math.sin(t) + (math.pi - t) * math.cos(t)) / (2 * math.pi)
                k = {(i, i): k[i, i] / 2, (j, j): k[j, j] / 2, (i, j): between}
                k = {p: 1.69 * v + 0.04 for p, v in k.items()}
                tangent = k[i, j] + 1.69 * turned
            assert float(found[i, j]) == pytest.approx(tangent, rel=1e-5)

    generator, width = torch.Generator().manual_seed(1), 20000
    w1 = torch.randn(width, 5, generator=generator, dtype=torch.float64)
    b1 = torch.randn(width, generator=generator, dtype=torch.float64)
    w2 = torch.randn(width, generator=generator, dtype=torch.float64)
    hidden = (1.3 * x @ w1.T / 5**0.5 + 0.2 * b1).clamp_min(0)
    back = 1.3 * w2 * (hidden > 0) / width**0.5  # of the output to the hidden layer's inputs
    empirical = 1.69 * hidden @ hidden.T / width + 0.04 + (back @ back.T) * (1.69 * x @ x.T / 5 + 0.04)
    torch.testing.assert_close(TangentKernel(1, weight=1.3, bias=0.2)(x, x), empirical, rtol=0.05, atol=0.02)


def test_regression_with_the_tangent_kernel_sees_images_and_no_network(toy_pool: MakePool) -> None:
    term = KernelRegression(0.1, learn_labels=False, margin=0.0, kernel=TangentKernel())
    real, syn = images(REAL, 2), images(SYN, 3)
    term.prepare(side(syn))
    assert term.soft_labels() is None
    assert term.parameter_groups() == []
    kernel = TangentKernel()(syn.flatten(1), syn.flatten(1))
    size = 0.1 * kernel.diagonal().mean()
    labels = torch.eye(CLASSES, dtype=torch.float64).repeat_interleave(SYN, 0) - 1 / CLASSES
    said = (
        TangentKernel()(real.flatten(1), syn.flatten(1))
        @ torch.linalg.inv(kernel + size * torch.eye(len(syn)))
        @ labels
    )
    truth = torch.eye(CLASSES, dtype=torch.float64).repeat_interleave(REAL, 0) - 1 / CLASSES
    torch.testing.assert_close(value(term, real, syn), 0.5 * (said - truth).square().sum(1).mean(), rtol=1e-6, atol=0)
    moving = syn.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: value(term, real, x), moving, fast_mode=True, atol=1e-4)
    a, b = (methods.kip(net, steps=3, batch_real=4)(toy_pool(), 2, seed=1) for net in (None, ConvNet(width=8)))
    assert a.images().x.shape == b.images().x.shape
    assert a.soft_labels is None

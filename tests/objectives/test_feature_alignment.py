"""CAFE's objective against loops, and its loops: when a network is trained on, and when it is replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddreplay import ClassPool, ConvNet, methods
from ddreplay.augment.siamese import Identity
from ddreplay.backbones import Probe
from ddreplay.condense.condenser import Deadline
from ddreplay.condense.run import Classes, Run
from ddreplay.networks import UntilSettled
from ddreplay.objectives import FeatureAlignment, Look, Side
from ddreplay.randomness import Random

CLASSES, REAL, SYN = 3, 4, 2
MakePool = Callable[..., ClassPool]


def network() -> nn.Module:
    with Random(0).scope():
        net = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, CLASSES)
        ).double()
    return net.requires_grad_(False)


def side(x: Tensor, term: FeatureAlignment) -> Side:
    net, random = network(), Random(0)
    return Side(
        Look(net, Probe(net, term.taps), Identity().draw((1, 8, 8), random), Identity(), random), x, range(CLASSES)
    )


def images(n: int, seed: int) -> Tensor:
    return torch.randn(CLASSES * n, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value(term: FeatureAlignment, real: Tensor, syn: Tensor) -> Tensor:
    with torch.no_grad():
        statistic = term.summarise(side(real, term))
    return term.distance(statistic, side(syn, term))


@pytest.mark.parametrize("discrimination", [0.0, 0.3])
def test_it_is_the_equation_class_by_class_and_image_by_image(discrimination: float) -> None:
    term = FeatureAlignment(("convolutions",), weights=(0.1, 0.5, 2.0), discrimination=discrimination)
    real, syn, net = images(REAL, 1), images(SYN, 2), network()
    layers = [net[:1], net[:3], net[:5]]  # type: ignore[index]
    total = 0.0
    for weight, layer in zip((0.1, 0.5, 2.0), layers, strict=True):
        for c in range(CLASSES):
            x = sum(layer(real[c * REAL + i][None]).flatten() for i in range(REAL)) / REAL
            s = sum(layer(syn[c * SYN + j][None]).flatten() for j in range(SYN)) / SYN
            total += weight * float(((x - s) ** 2).sum())
    centres = [sum(layers[2](syn[c * SYN + j][None]).flatten() for j in range(SYN)) / SYN for c in range(CLASSES)]
    for i in range(len(real)):
        scores = torch.stack([layers[2](real[i][None]).flatten() @ centre for centre in centres])
        total -= discrimination * float(scores.log_softmax(0)[i // REAL])
    assert float(value(term, real, syn)) == pytest.approx(total, rel=1e-9)


def test_the_gradient_is_right_and_alignment_of_equal_sets_is_nothing() -> None:
    term, real = FeatureAlignment(("convolutions",)), images(REAL, 1)
    syn = images(SYN, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: value(term, real, x), syn, fast_mode=True)
    assert float(value(FeatureAlignment(("convolutions",), discrimination=0.0), real, real)) == pytest.approx(
        0, abs=1e-12
    )


def test_weights_go_to_the_last_layers_and_wrong_ones_are_named() -> None:
    assert FeatureAlignment().layer_weights(4) == (
        0.1,
        0.1,
        1.0,
        2.0,
    )  # the released code's, three blocks and the embedding
    assert FeatureAlignment().layer_weights(2) == (1.0, 2.0)
    with pytest.raises(ValueError, match="weights"):
        FeatureAlignment(weights=())


def run(pool: ClassPool, **how: Any) -> Run:
    source = UntilSettled(images=4, **how)
    method = methods.cafe(ConvNet(width=8), networks=source, steps=12)
    return Run(method, Classes(pool, tuple(range(pool.classes))), 2, 0, Deadline(None))


def test_a_network_is_replaced_when_its_accuracy_has_settled_and_not_before(toy_pool: MakePool) -> None:
    running: Any = run(toy_pool(images_per_class=12), window=3, outer=1.0, inner=1.0, most_epochs=0)
    running.networks.show()
    first = running.networks.net
    for _ in range(2):
        running.networks.moved()
    assert running.networks.net is first
    running.networks.moved()
    assert running.networks.net is None
    assert (running.networks.round, running.networks.accuracies) == (1, [])
    unsettled: Any = run(toy_pool(images_per_class=12), window=3, outer=0.0, most_steps=5, most_epochs=0)
    unsettled.networks.show()
    for _ in range(4):
        unsettled.networks.moved()
    assert unsettled.networks.net is not None
    unsettled.networks.moved()
    assert unsettled.networks.net is None


def test_it_is_trained_until_its_accuracy_has_moved(toy_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    running: Any = run(toy_pool(images_per_class=12), window=3, outer=0.0, inner=0.25, most_epochs=9)
    running.networks.show()
    told = iter([0.1, 0.1, 0.5, 0.3, 0.9])  # the first is that of the image step
    monkeypatch.setattr(running.networks, "_accuracy", lambda net: next(told))
    before = [p.clone() for p in running.networks.net.parameters()]
    running.networks.moved()
    assert next(told) == 0.9  # the second lies more than 0.25 from the first, but three are compared: three epochs
    assert any(not torch.equal(a, b) for a, b in zip(before, running.networks.net.parameters(), strict=True))


def test_real_images_are_told_apart_by_what_comes_out(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=12)
    term = FeatureAlignment(("convolutions",), weights=(0.0,), discrimination=1.0)
    with Random(0).scope():
        net = ConvNet(width=8)(pool.shape, pool.classes).requires_grad_(False)
    look = Look(net, Probe(net, term.taps), Identity().draw(pool.shape, Random(0)), Identity(), Random(0))
    with torch.no_grad():
        real = term.summarise(Side(look, pool.all().x, range(pool.classes)))
    syn = torch.randn(2 * pool.classes, *pool.shape, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def right() -> float:
        centres = Side(look, syn, range(pool.classes)).embedding.unflatten(0, (pool.classes, 2)).mean(1)
        return float(((real[-1][0] @ centres.T).argmax(1) == real[-1][1]).float().mean())

    before = right()
    for _ in range(40):
        (gradient,) = torch.autograd.grad(term.distance(real, Side(look, syn, range(pool.classes))), syn)
        syn = (syn - 0.5 * F.normalize(gradient.flatten(), dim=0).view_as(gradient)).detach().requires_grad_()
    assert right() > before

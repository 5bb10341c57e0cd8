"""Unrolled training: gradients against autograd through a plain loop, torch's own SGD, and finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.unrolling import peak_of_unrolling
from ddreplay import ClassPool, ConvNet, methods
from ddreplay.augment.siamese import Identity, Siamese
from ddreplay.backbones import Probe
from ddreplay.objectives import Look, Side, UnrolledLoss
from ddreplay.objectives.unrolling import Inner, InnerStep, draw_steps, unroll
from ddreplay.randomness import Random

CLASSES, PER_CLASS = 3, 2
MakePool = Callable[..., ClassPool]


def network(seed: int = 0) -> nn.Module:
    with Random(seed).scope():
        net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 16, CLASSES)).double()
    return net.requires_grad_(False)


def look(net: nn.Module, augment: Any = Identity(), seed: int = 0, **more: Any) -> Look:
    random = Random(seed)
    transform = augment.draw((1, 6, 6), random)
    return Look(net=net, probe=Probe(net), transform=transform, augment=augment, random=random, **more)


def images(n: int = CLASSES * PER_CLASS, seed: int = 1) -> Tensor:
    return torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels() -> Tensor:
    return torch.arange(CLASSES).repeat_interleave(PER_CLASS)


def plain_loop(
    net: nn.Module, steps: list[InnerStep], x: Tensor, y: Tensor, lrs: Tensor, momentum: float
) -> list[Tensor]:
    """The recursion written out, one line after another."""
    names = [name for name, _ in net.named_parameters()]
    w = [p.detach().clone().requires_grad_() for p in net.parameters()]
    v = [torch.zeros_like(p) for p in w]
    for k, step in enumerate(steps):
        rows = torch.arange(len(x)) if step.rows is None else step.rows
        logits = torch.func.functional_call(net, dict(zip(names, w, strict=True)), (step.transform(x[rows]),))
        g = torch.autograd.grad(F.cross_entropy(logits, y[rows]), w, create_graph=True)
        v = [momentum * a + b for a, b in zip(v, g, strict=True)]
        w = [a - lrs[k] * b for a, b in zip(w, v, strict=True)]
    return w


def drawn(steps: int, seed: int = 0) -> list[InnerStep]:
    return draw_steps(
        look(network(), Siamese("color_crop"), seed), images(), steps=steps, blocks=CLASSES, batch=1, anew=True
    )


def gradients(run: Callable[[Tensor, Tensor, Tensor], Any], soft: bool) -> list[Tensor]:
    """Of a scalar of the last weights, with respect to images, step sizes and soft labels."""
    x, lrs = images().requires_grad_(), torch.tensor([0.3, 0.2, 0.4, 0.1, 0.25], dtype=torch.float64).requires_grad_()
    y = F.one_hot(labels()).double().mul(0.8).add(0.1).requires_grad_() if soft else labels()
    end = run(x, y, lrs)
    value = sum((k + 1) * w.sin().sum() for k, w in enumerate(end))
    return list(torch.autograd.grad(value, [x, lrs, *([y] if soft else [])]))


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("memory", ["graph", "constant"])
def test_gradients_equal_autograd_through_the_plain_loop(memory: Any, momentum: float, soft: bool) -> None:
    net, steps = network(), drawn(5)
    names = tuple(name for name, _ in net.named_parameters())
    start = tuple(net.parameters())
    ours = gradients(lambda x, y, a: unroll(Inner(net, names, steps, momentum), start, x, y, a, memory), soft)
    loop = gradients(lambda x, y, a: plain_loop(net, steps, x, y, a, momentum), soft)
    for a, b in zip(ours, loop, strict=True):
        assert b.abs().max() > 1e-4
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("memory", ["graph", "constant", "first-order"])
def test_the_weights_are_those_of_torchs_sgd(memory: Any) -> None:
    net, steps = network(), drawn(5)
    names, start = tuple(name for name, _ in net.named_parameters()), tuple(net.parameters())
    lrs = torch.full((5,), 0.3, dtype=torch.float64)
    end = unroll(Inner(net, names, steps, 0.9), start, images(), labels(), lrs, memory)
    student = network().requires_grad_(True)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.3, momentum=0.9)
    for rows, transform in steps:
        optimizer.zero_grad()
        F.cross_entropy(student(transform(images()[rows])), labels()[rows]).backward()
        optimizer.step()
    for a, b in zip(end, student.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_first_order_path_is_the_gradient_with_weights_held_constant() -> None:
    net, steps, momentum = network(), drawn(5), 0.9
    names, start = tuple(name for name, _ in net.named_parameters()), tuple(net.parameters())

    def held(x: Tensor, y: Tensor, lrs: Tensor) -> list[Tensor]:
        w, v = list(start), [torch.zeros_like(p) for p in start]
        for k, (rows, transform) in enumerate(steps):
            constant = [a.detach().requires_grad_() for a in w]
            logits = torch.func.functional_call(net, dict(zip(names, constant, strict=True)), (transform(x[rows]),))
            g = torch.autograd.grad(F.cross_entropy(logits, y[rows]), constant, create_graph=True)
            v = [momentum * a + b for a, b in zip(v, g, strict=True)]
            w = [a - lrs[k] * b for a, b in zip(w, v, strict=True)]
        return w

    ours = gradients(lambda x, y, a: unroll(Inner(net, names, steps, momentum), start, x, y, a, "first-order"), False)
    exact = gradients(lambda x, y, a: plain_loop(net, steps, x, y, a, momentum), False)
    torch.testing.assert_close(ours[0], gradients(held, False)[0], rtol=1e-9, atol=1e-11)
    assert (ours[0] - exact[0]).norm() > 0.01 * exact[0].norm()  # it is not the gradient of five steps


def test_one_step_has_nothing_to_drop() -> None:
    net, steps = network(), drawn(1)
    names, start = tuple(name for name, _ in net.named_parameters()), tuple(net.parameters())
    found = {}
    for memory in ("graph", "constant", "first-order"):
        x, lrs = images().requires_grad_(), torch.tensor([0.3], dtype=torch.float64)
        end = unroll(Inner(net, names, steps), start, x, labels(), lrs, memory)  # type: ignore[arg-type]
        (found[memory],) = torch.autograd.grad(sum(w.sin().sum() for w in end), x)
    torch.testing.assert_close(found["constant"], found["graph"])
    torch.testing.assert_close(found["first-order"], found["graph"])


def test_every_image_comes_before_any_comes_again() -> None:
    steps = draw_steps(look(network()), images(12), steps=4, blocks=3, batch=2, anew=False)
    first = torch.cat([steps[0].rows, steps[1].rows])  # type: ignore[list-item]
    assert sorted(first.tolist()) == list(range(12))
    assert all(sorted((step.rows // 4).tolist()) == [0, 0, 1, 1, 2, 2] for step in steps)  # type: ignore[operator]
    assert draw_steps(look(network()), images(12), steps=1, blocks=3, batch=None, anew=False)[0].rows is None


def unrolled_loss(term: UnrolledLoss, x: Tensor) -> Tensor:
    net = network()
    real = Side(look(net), images(12, seed=5), range(CLASSES))
    return term.distance(term.summarise(real), Side(look(net), x, range(CLASSES)))


@pytest.mark.parametrize("memory", ["graph", "constant"])
def test_the_loss_is_that_of_training_with_sgd_and_its_gradient_that_of_finite_differences(memory: Any) -> None:
    term = UnrolledLoss(4, lr=0.3, batch=1, memory=memory)
    x = images().requires_grad_()
    value = unrolled_loss(term, x)
    (gradient,) = torch.autograd.grad(value, x)
    student = network().requires_grad_(True)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.3, momentum=0.9)
    for rows, _ in draw_steps(look(network()), images(), steps=4, blocks=CLASSES, batch=1, anew=False):
        optimizer.zero_grad()
        F.cross_entropy(student(images()[rows]), labels()[rows]).backward()
        optimizer.step()
    truth = torch.arange(CLASSES).repeat_interleave(4)
    torch.testing.assert_close(value, F.cross_entropy(student(images(12, seed=5)), truth))
    direction, step = images(seed=9), 1e-5
    with torch.no_grad():
        slope = (unrolled_loss(term, x + step * direction) - unrolled_loss(term, x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-9)


def test_learned_step_sizes_are_positive_have_gradients_and_are_recorded(toy_pool: MakePool) -> None:
    term = UnrolledLoss(3, lr=0.02, momentum=0.0, lr_lr=0.5)
    assert term.learned()["inner_lrs"] == pytest.approx([0.02] * 3)
    term.double()
    unrolled_loss(term, images()).backward()
    assert term.raw_lrs is not None
    assert (term.raw_lrs.grad != 0).all()
    found = methods.dd(ConvNet(width=8), iterations=5, steps=3, lr_lr=0.5)(toy_pool(), 1)
    moved = found.provenance["learned"]["inner_lrs"]
    assert len(moved) == 3
    assert min(moved) > 0
    assert moved != pytest.approx([0.02] * 3)


def peak(memory: Any, steps: int) -> int:
    return peak_of_unrolling(memory, steps)[0]


def test_memory_grows_with_the_steps_of_a_graph_and_not_otherwise() -> None:
    graph = [peak("graph", steps) for steps in (4, 16)]
    assert graph[1] > 3 * graph[0]
    for memory in ("constant", "first-order"):
        few, many = (peak(memory, steps) for steps in (4, 16))
        assert many < 1.1 * few
        assert many < graph[0]


def test_learned_labels_have_the_gradient_of_a_plain_loop() -> None:
    net, x, y = network(), images(), labels()
    real, truth = images(9, seed=2), torch.arange(CLASSES).repeat_interleave(3)
    term = UnrolledLoss(3, lr=0.3, momentum=0.0, batch=None, lr_labels=1.0, memory="graph")
    syn = Side(look(net), x, range(CLASSES))
    term.prepare(syn)
    assert term.label_logits is not None
    start = term.label_logits.detach()
    torch.testing.assert_close(start.softmax(1).gather(1, y[:, None]), torch.full((len(y), 1), 0.9))
    term.double()
    with torch.no_grad():
        statistic = term.summarise(Side(look(net), real, range(CLASSES)))
    (found,) = torch.autograd.grad(term.distance(statistic, syn), term.label_logits)

    logits = start.double().requires_grad_()
    w = [p.detach().clone().requires_grad_() for p in net.parameters()]
    names = [name for name, _ in net.named_parameters()]
    for _ in range(3):
        said = torch.func.functional_call(net, dict(zip(names, w, strict=True)), (x,))
        loss = torch.zeros((), dtype=torch.float64)
        for i in range(len(x)):  # cross-entropy of soft labels, image by image and class by class
            for c in range(CLASSES):
                loss = loss - logits[i].softmax(0)[c] * said[i].log_softmax(0)[c] / len(x)
        w = [a - 0.3 * g for a, g in zip(w, torch.autograd.grad(loss, w, create_graph=True), strict=True)]
    outer = F.cross_entropy(torch.func.functional_call(net, dict(zip(names, w, strict=True)), (real,)), truth)
    (wanted,) = torch.autograd.grad(outer, logits)
    torch.testing.assert_close(found, wanted)


def test_label_distillation_moves_labels_alone_and_networks_learn_from_them(toy_pool: MakePool) -> None:
    pool = toy_pool()
    start = methods.ld(ConvNet(width=8), rounds=1, loops=(1, 1), lr_labels=1e-9)(pool, 2, seed=1)
    found = methods.ld(ConvNet(width=8), rounds=2, loops=(3, 1), lr_net=0.1, lr_labels=100.0)(pool, 2, seed=1)
    assert torch.equal(start.images().x, found.images().x)
    soft = found.soft_labels
    assert soft is not None
    assert start.soft_labels is not None
    torch.testing.assert_close(soft.sum(1), torch.ones(len(soft)))
    assert float((soft - start.soft_labels).abs().max()) > 0.01

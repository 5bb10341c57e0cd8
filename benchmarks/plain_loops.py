"""What `speed` compares with: every step written as plainly as its equation, with loops and nothing else.

A row joins by a function (problem) -> loss here, and an entry in `ROWS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddreplay.augment.siamese import Augment, Identity, Siamese, Transform
from ddreplay.backbones import Network
from ddreplay.objectives import ClassRegulariser, GradientMatching, GramMatching, MeanEmbedding, Sum, Term
from ddreplay.randomness import Random

__all__ = ["COMPILED", "ROWS", "Problem", "Row", "plain_epoch"]


@dataclass(frozen=True)
class Problem:
    """One matching step: a network, one augmentation draw, and both sides.

    real, syn: images [classes, n, c, h, w]; ``syn`` requires gradients.
    """

    net: nn.Module
    transform: Transform
    real: Tensor
    syn: Tensor


@dataclass(frozen=True)
class Row:
    """A method's objective in the library (``term``), and the same from its equation (``plain``).

    accuracy: of the network on real data. banked: the library's real side is computed once, and no part of the step.
    compile: the library's embeddings of real images are.
    """

    name: str
    term: Callable[[], Term]
    plain: Callable[[Problem], Tensor]
    augment: Augment = Identity()
    accuracy: float = 0.0
    banked: bool = False
    compile: bool = False


def class_gradient(problem: Problem, images: Tensor, label: int, *, create_graph: bool) -> list[Tensor]:
    """g(X_c): the gradient of the mean cross-entropy over one class's images."""
    labels = torch.full((len(images),), label, device=images.device)
    loss = F.cross_entropy(problem.net(problem.transform(images)), labels)
    return list(torch.autograd.grad(loss, list(problem.net.parameters()), create_graph=create_graph))


def layer_distance(real: Sequence[Tensor], syn: Sequence[Tensor]) -> Tensor:
    """D: over layers and output units, one minus the cosine of what the two sides have."""
    total = real[0].new_zeros(())
    for a, b in zip(real, syn, strict=True):
        if a.dim() > 1:
            a, b = a.flatten(1), b.flatten(1)
            total = total + (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()
    return total


def dc_step(problem: Problem) -> Tensor:
    """sum_c D(g(X_c), g(S_c))"""
    total = problem.syn.new_zeros(())
    for c in range(len(problem.real)):
        real = class_gradient(problem, problem.real[c], c, create_graph=False)
        total = total + layer_distance(real, class_gradient(problem, problem.syn[c], c, create_graph=True))
    return total


def dcc_step(problem: Problem) -> Tensor:
    """D(1/C sum_c g(X_c), 1/C sum_c g(S_c))"""
    sides = []
    for images, create_graph in ((problem.real, False), (problem.syn, True)):
        each = [class_gradient(problem, images[c], c, create_graph=create_graph) for c in range(len(images))]
        sides.append([torch.stack(layer).mean(0) for layer in zip(*each, strict=True)])
    return layer_distance(*sides)


def embedding(problem: Problem, images: Tensor) -> Tensor:
    """f(a(x)): everything in front of the classifier."""
    net = problem.net
    if not isinstance(net, Network):
        raise TypeError(f"plain loops need a network of ddreplay.backbones, got {type(net).__name__}")
    return net.embed(problem.transform(images))


def dm_step(problem: Problem) -> Tensor:
    """sum_c || mean f(X_c) - mean f(S_c) ||^2"""
    total = problem.syn.new_zeros(())
    for c in range(len(problem.real)):
        with torch.no_grad():
            real = embedding(problem, problem.real[c]).mean(0)
        total = total + (real - embedding(problem, problem.syn[c]).mean(0)).square().sum()
    return total


def idm_step(problem: Problem) -> Tensor:
    """sum_c || mean f(X_c) - mean f(S_c) ||^2 + 0.5 (100 A) mean CE(S_c, c), with two forwards, as released"""
    total = dm_step(problem)
    for c in range(len(problem.syn)):
        labels = torch.full((problem.syn.shape[1],), c, device=problem.syn.device)
        total = total + 0.5 * 100 * ACCURACY * F.cross_entropy(problem.net(problem.transform(problem.syn[c])), labels)
    return total


def ddm_step(problem: Problem) -> Tensor:
    """DM + 1e4 sum_c 1/L sum_layers || mean F F^T / (c h w) of X_c - the same of S_c ||^2, F = maps behind the norms"""
    net, total = problem.net, dm_step(problem)
    norms = [module for module in net.modules() if isinstance(module, nn.GroupNorm)]
    maps: list[Tensor] = []
    hooks = [norm.register_forward_hook(lambda _, __, output: maps.append(output)) for norm in norms]

    def grams(images: Tensor) -> list[Tensor]:
        maps.clear()
        net(problem.transform(images))
        return [torch.stack([m.flatten(1) @ m.flatten(1).T / m.numel() for m in layer]).mean(0) for layer in maps]

    for c in range(len(problem.real)):
        with torch.no_grad():
            real = grams(problem.real[c])
        for a, b in zip(real, grams(problem.syn[c]), strict=True):
            total = total + 1e4 * (a - b).square().sum() / len(norms)
    for hook in hooks:
        hook.remove()
    return total


def plain_epoch(
    net: nn.Module, x: Tensor, y: Tensor, random: Random, *, lr: float, batch_size: int, augment: Augment
) -> None:
    """Train a network on labelled images for one epoch, with a torch optimiser."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    order = torch.randperm(len(x), generator=random.device, device=x.device)
    for start in range(0, len(x), batch_size):
        rows = order[start : start + batch_size]
        images = augment.draw((x.shape[1], x.shape[2], x.shape[3]), random, n=len(rows))(x[rows])
        optimizer.zero_grad()
        F.cross_entropy(net(images), y[rows]).backward()
        optimizer.step()


ACCURACY = 0.4

ROWS: tuple[Row, ...] = (
    Row("dc", lambda: GradientMatching("class"), dc_step),
    Row("dsa", lambda: GradientMatching("class"), dc_step, Siamese()),
    Row("dcc", lambda: GradientMatching("set"), dcc_step),
    Row("dsac", lambda: GradientMatching("set"), dcc_step, Siamese()),
    Row("dm", MeanEmbedding, dm_step, Siamese()),
    Row("dm, banked", MeanEmbedding, dm_step, Siamese(), banked=True),
    Row("idm", lambda: Sum([MeanEmbedding(), ClassRegulariser()], [1.0, 0.5]), idm_step, Siamese(), ACCURACY),
    Row("ddm", lambda: Sum([MeanEmbedding(), GramMatching()], [1.0, 1e4]), ddm_step, Siamese()),
)

COMPILED: tuple[Row, ...] = (
    Row("dc, compiled", lambda: GradientMatching("class", compile=True), dc_step),
    Row("dcc, compiled", lambda: GradientMatching("set", compile=True), dcc_step),
    Row("dm, compiled", MeanEmbedding, dm_step, Siamese(), compile=True),
)
"""Rows that spend tens of seconds on compiling first."""

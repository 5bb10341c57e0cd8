"""What `speed` compares with: every step written as plainly as its equation, with loops and nothing else.

A row joins by a function (problem) -> loss here, and an entry in `ROWS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddreplay.augment import Augment, Transform, identity, siamese
from ddreplay.objectives import GradientMatching, Term
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
    """A method's objective in the library (``term``), and the same from its equation (``plain``)."""

    name: str
    term: Callable[[], Term]
    plain: Callable[[Problem], Tensor]
    augment: Augment = identity


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


ROWS: tuple[Row, ...] = (
    Row("dc", lambda: GradientMatching("class"), dc_step),
    Row("dsa", lambda: GradientMatching("class"), dc_step, siamese()),
    Row("dcc", lambda: GradientMatching("set"), dcc_step),
    Row("dsac", lambda: GradientMatching("set"), dcc_step, siamese()),
)

COMPILED: tuple[Row, ...] = (
    Row("dc, compiled", lambda: GradientMatching("class", compile=True), dc_step),
    Row("dcc, compiled", lambda: GradientMatching("set", compile=True), dcc_step),
)
"""Rows that spend tens of seconds on compiling first."""

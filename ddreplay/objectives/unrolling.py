"""Training a network on the synthetic images, differentiably: the whole graph, step by step, or along the first-order path.

    v_{i+1} = m v_i + g_i(w_i, x)         g_i = the gradient of step i's cross-entropy with respect to the weights
    w_{i+1} = w_i - a_i v_{i+1}

Everything random (which images, which augmentation) is drawn before, so that a step can be computed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ddreplay.augment.siamese import Transform
from ddreplay.objectives.side import Look

__all__ = ["Inner", "InnerStep", "Memory", "draw_steps", "unroll"]

Memory = Literal["graph", "constant", "first-order"]
Weights = tuple[Tensor, ...]


class InnerStep(NamedTuple):
    """Which images one step trains on (``None``: all), and what they undergo."""

    rows: Tensor | None
    transform: Transform


@dataclass(frozen=True)
class Inner:
    """An inner training run.

    net: takes its weights from outside. names: of the weights. steps: drawn before. momentum: of plain SGD.
    """

    net: nn.Module
    names: tuple[str, ...]
    steps: Sequence[InnerStep]
    momentum: float = 0.0

    def loss(self, k: int, weights: Weights, images: Tensor, labels: Tensor) -> Float[Tensor, ""]:
        """Mean cross-entropy of step ``k``; labels int64 [n] or soft [n, classes]."""
        rows, transform = self.steps[k]
        x, y = (images, labels) if rows is None else (images[rows], labels[rows])
        logits = torch.func.functional_call(self.net, dict(zip(self.names, weights, strict=True)), (transform(x),))
        return F.cross_entropy(logits, y)

    def gradient(
        self, k: int, weights: Weights, images: Tensor, labels: Tensor, *, create_graph: bool = False
    ) -> Weights:
        """g_k at these weights."""
        with torch.enable_grad():
            if not create_graph:
                weights = tuple(w.detach().requires_grad_() for w in weights)
                images, labels = images.detach(), labels.detach()
            return torch.autograd.grad(
                self.loss(k, weights, images, labels), weights, create_graph=create_graph, materialize_grads=True
            )

    def forward(self, state: _State, first: int, last: int, images: Tensor, labels: Tensor, lrs: Tensor) -> _State:
        """From the state before step ``first`` to that before step ``last``, without a graph."""
        weights, velocity = state
        with torch.no_grad():
            for k in range(first, last):
                gradient = self.gradient(k, weights, images, labels)
                velocity = _velocity(velocity, gradient, self.momentum)
                weights = tuple(w - lrs[k] * v for w, v in zip(weights, velocity, strict=True))
        return _State(weights, velocity)


class _State(NamedTuple):
    """Weights and their velocity (``None`` before the first step) between two inner steps."""

    weights: Weights
    velocity: Weights | None


def draw_steps(
    look: Look, images: Float[Tensor, "n c h w"], *, steps: int, blocks: int, batch: int | None, anew: bool
) -> list[InnerStep]:
    """What ``steps`` inner steps see.

    blocks: equal parts of the images that every batch takes alike (its classes, or 1).
    batch: images of every block in one step, in random order without repetition until too few are left; ``None``: all.
    anew: an augmentation is drawn in every step, with magnitudes for each image; else the look's own transform serves in all.
    """
    random, device, per_block = look.random, images.device, len(images) // blocks
    drawn, waiting = [], torch.empty(blocks, 0, dtype=torch.int64, device=device)
    starts = torch.arange(blocks, device=device)[:, None] * per_block
    shape = (images.shape[1], images.shape[2], images.shape[3])
    for _ in range(steps):
        rows = None
        if batch is not None and batch < per_block:
            if waiting.shape[1] < batch:
                waiting = torch.rand(blocks, per_block, generator=random.device, device=device).argsort(1)
            rows, waiting = (starts + waiting[:, :batch]).flatten(), waiting[:, batch:]
        n = len(images) if rows is None else len(rows)
        drawn.append(InnerStep(rows, look.augment.draw(shape, random, n=n) if anew else look.transform))
    return drawn


def unroll(
    inner: Inner, start: Sequence[Tensor], images: Tensor, labels: Tensor, lrs: Float[Tensor, " steps"], memory: Memory
) -> Weights:
    """The weights after the inner run, differentiable with respect to images, soft labels and step sizes.

    Args:
        start: initial weights, constants.
        lrs: the step size of every step.
        memory: ``"graph"``: autograd keeps the whole run; memory grows with the number of steps. ``"constant"``: the same gradient,
            but only one step's graph at a time; weights are computed again from a few kept states, as many as the logarithm
            of the number of steps (about log2(steps) / 2 more forward passes a step). ``"first-order"``: the dependence of later
            weights on earlier images is dropped, and one state is kept; exact for one step only. The last two compute steps again,
            so the network must not draw anything by itself (dropout).
    """
    start = tuple(w.detach() for w in start)
    if not torch.is_grad_enabled():
        return inner.forward(_State(start, None), 0, len(inner.steps), images, labels, lrs).weights
    if memory == "graph":
        weights, velocity = tuple(w.requires_grad_() for w in start), None
        for k in range(len(inner.steps)):
            gradient = inner.gradient(k, weights, images, labels, create_graph=True)
            velocity = _velocity(velocity, gradient, inner.momentum)
            weights = tuple(w - lrs[k] * v for w, v in zip(weights, velocity, strict=True))
        return weights
    run = _Reversed if memory == "constant" else _FirstOrder
    end: Weights = run.apply(inner, images, labels, lrs, *start)
    return end


def _velocity(velocity: Weights | None, gradient: Weights, momentum: float) -> Weights:
    if velocity is None or momentum == 0:
        return gradient
    return tuple(momentum * v + g for v, g in zip(velocity, gradient, strict=True))


class _Reversed(torch.autograd.Function):
    """Reverse mode through the steps, a step's graph at a time.

    With bars for the derivatives of the outer loss, from the last step to the first:
        v_bar -= a w_bar;   a_bar = - <w_bar, v>;   x_bar += (dg/dx)^T v_bar;   w_bar += (dg/dw)^T v_bar;   v_bar *= m
    """

    @staticmethod
    def forward(ctx: Any, inner: Inner, images: Tensor, labels: Tensor, lrs: Tensor, *start: Tensor) -> Weights:
        ctx.inner = inner
        ctx.save_for_backward(images, labels, lrs, *start)
        return inner.forward(_State(start, None), 0, len(inner.steps), images, labels, lrs).weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *w_bar: Tensor) -> tuple[Any, ...]:
        inner: Inner = ctx.inner
        images, labels, lrs, *start = ctx.saved_tensors
        soft = labels.is_floating_point()
        x_bar, lr_bar = torch.zeros_like(images), torch.zeros_like(lrs)
        y_bar = torch.zeros_like(labels) if soft else None
        v_bar = tuple(torch.zeros_like(w) for w in w_bar)
        states = _backwards(inner, _State(tuple(start), None), 0, len(inner.steps), images, labels, lrs)
        for k, state in states:
            leaves = [t.detach().requires_grad_() for t in (images, *([labels] if soft else []), *state.weights)]
            with torch.enable_grad():
                weights = tuple(leaves[1 + soft :])
                g = inner.gradient(k, weights, leaves[0], leaves[1] if soft else labels, create_graph=True)
            velocity = _velocity(state.velocity, tuple(t.detach() for t in g), inner.momentum)
            lr_bar[k] = -torch.stack([(w * v).sum() for w, v in zip(w_bar, velocity, strict=True)]).sum()
            v_bar = tuple(v - lrs[k] * w for v, w in zip(v_bar, w_bar, strict=True))
            x_part, *rest = torch.autograd.grad(g, leaves, v_bar, materialize_grads=True)
            x_bar += x_part
            if y_bar is not None:
                y_bar += rest.pop(0)
            w_bar = tuple(w + r for w, r in zip(w_bar, rest, strict=True))
            v_bar = tuple(inner.momentum * v for v in v_bar)
        return None, x_bar, y_bar, lr_bar, *([None] * len(start))


def _backwards(inner: Inner, state: _State, first: int, last: int, *how: Tensor) -> Iterator[tuple[int, _State]]:
    """(k, the state before step k) for k from last - 1 down to first; keeps one state for every halving."""
    if last - first == 1:
        yield first, state
        return
    middle = (first + last) // 2
    yield from _backwards(inner, inner.forward(state, first, middle, *how), middle, last, *how)
    yield from _backwards(inner, state, first, middle, *how)


class _FirstOrder(torch.autograd.Function):
    """Every step's own contribution at weights taken as constants, in a second pass over the steps."""

    @staticmethod
    def forward(ctx: Any, inner: Inner, images: Tensor, labels: Tensor, lrs: Tensor, *start: Tensor) -> Weights:
        ctx.inner = inner
        ctx.save_for_backward(images, labels, lrs, *start)
        return inner.forward(_State(start, None), 0, len(inner.steps), images, labels, lrs).weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *w_bar: Tensor) -> tuple[Any, ...]:
        inner: Inner = ctx.inner
        images, labels, lrs, *start = ctx.saved_tensors
        soft = labels.is_floating_point()
        x_bar, lr_bar = torch.zeros_like(images), torch.zeros_like(lrs)
        y_bar = torch.zeros_like(labels) if soft else None
        state, reach = _State(tuple(start), None), _reach(lrs, inner.momentum)
        for k in range(len(inner.steps)):
            leaves = [t.detach().requires_grad_() for t in (images, *([labels] if soft else []))]
            with torch.enable_grad():
                weights = tuple(w.detach().requires_grad_() for w in state.weights)
                g = inner.gradient(k, weights, leaves[0], leaves[1] if soft else labels, create_graph=True)
            seed = [-reach[k] * w for w in w_bar]
            x_part, *rest = torch.autograd.grad(g, leaves, seed, materialize_grads=True)
            x_bar += x_part
            if y_bar is not None:
                y_bar += rest[0]
            velocity = _velocity(state.velocity, tuple(t.detach() for t in g), inner.momentum)
            lr_bar[k] = -torch.stack([(w * v).sum() for w, v in zip(w_bar, velocity, strict=True)]).sum()
            moved = tuple(w - lrs[k] * v for w, v in zip(state.weights, velocity, strict=True))
            state = _State(moved, velocity)
        return None, x_bar, y_bar, lr_bar, *([None] * len(start))


def _reach(lrs: Float[Tensor, " steps"], momentum: float) -> Float[Tensor, " steps"]:
    """How far the gradient of step k moves the last weights: sum over later steps j of a_j m^(j - k)."""
    reach = lrs.clone()
    for k in range(len(lrs) - 2, -1, -1):
        reach[k] = lrs[k] + momentum * reach[k + 1]
    return reach

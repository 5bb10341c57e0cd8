"""Gradient matching: the loss gradients of a network on real and on synthetic images must point the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddreplay.objectives.term import Side, Statistic, Term

__all__ = ["GradientMatching", "Metric", "Scope", "WarmUp", "gradient_distance", "warmup"]

Scope = Literal["class", "set"]
Metric = Literal["layerwise", "cosine", "mse"]


def gradient_distance(real: Sequence[Tensor], syn: Sequence[Tensor], metric: Metric = "layerwise") -> Float[Tensor, ""]:
    """The distance between two gradients, each a list of one tensor per parameter.

    ``layerwise`` (DC): sum over layers and output units of 1 - <a, b> / (|a| |b| + 1e-6), where a unit's gradient is a row of the
    weight reshaped to [out, everything else]; tensors of one axis (biases, norm affines) contribute nothing. ``cosine``: the same
    for the whole gradient as one vector. ``mse``: the sum of squared differences.
    Reference: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, Eq. 10.
    """
    if metric == "mse":
        return torch.stack([(a - b).square().sum() for a, b in zip(real, syn, strict=True)]).sum()
    if metric == "cosine":
        return _cosine_distance(
            torch.cat([a.flatten() for a in real])[None], torch.cat([b.flatten() for b in syn])[None]
        )
    pairs = [(a.flatten(1), b.flatten(1)) for a, b in zip(real, syn, strict=True) if a.dim() > 1]
    return torch.stack([_cosine_distance(a, b) for a, b in pairs]).sum()


def _cosine_distance(a: Float[Tensor, "rows d"], b: Float[Tensor, "rows d"]) -> Float[Tensor, ""]:
    return (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()


class WarmUp:
    """Which scope is matched when: DCC's bi-level warm-up.

    Class-wise while the network number is below ``rounds`` and its step below ``steps``, class-collective otherwise. ``None`` in
    one of them lets the other decide alone; both ``None`` means no warm-up.
    Reference: Lee et al., "Dataset Condensation with Contrastive Signals", ICML 2022, Algorithm 1.
    """

    def __init__(self, rounds: int | None = 250, steps: int | None = 10) -> None:
        self.rounds, self.steps = rounds, steps

    def __call__(self, round: int, step: int) -> Scope:
        if self.rounds is None and self.steps is None:
            return "set"
        outer = self.rounds is None or round < self.rounds
        inner = self.steps is None or step < self.steps
        return "class" if outer and inner else "set"

    def __repr__(self) -> str:
        return f"warmup(rounds={self.rounds}, steps={self.steps})"


def warmup(*, rounds: int | None = 250, steps: int | None = 10) -> WarmUp:
    """DCC's schedule of scopes, see `WarmUp`."""
    return WarmUp(rounds, steps)


class GradientMatching(Term):
    """L = sum_c D(grad_theta CE(real_c), grad_theta CE(syn_c)), or D of the gradients summed over classes.

    Args:
        scope: ``"class"`` (DC, DSA), ``"set"`` (the class-collective gradient of DCC, a mean over classes), or a `warmup` schedule.
        metric: see `gradient_distance`.
    """

    weight_gradients = True

    def __init__(self, scope: Scope | WarmUp = "class", metric: Metric = "layerwise") -> None:
        super().__init__()
        if isinstance(scope, str) and scope not in ("class", "set"):
            raise ValueError(f"scope must be 'class', 'set' or a warmup schedule, got {scope!r}")
        if metric not in ("layerwise", "cosine", "mse"):
            raise ValueError(f"metric must be 'layerwise', 'cosine' or 'mse', got {metric!r}")
        self.scope, self.metric = scope, metric
        self.bankable = isinstance(scope, str)

    def _groups(self, side: Side) -> list[slice]:
        scope = self.scope if isinstance(self.scope, str) else self.scope(side.look.round, side.look.step)
        n, per = len(side.images), side.per_class
        return [slice(0, n)] if scope == "set" else [slice(k, k + per) for k in range(0, n, per)]

    def summarise(self, real: Side) -> Statistic:
        with torch.enable_grad():
            groups = [_mean_gradient(real, group) for group in self._groups(real)]
        return tuple(torch.stack(layer) for layer in zip(*groups, strict=True))

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        total = syn.images.new_zeros(())
        for k, group in enumerate(self._groups(syn)):
            loss = F.cross_entropy(syn.look.probe(syn.x[group]).logits, syn.labels[group])
            gradient = torch.autograd.grad(loss, _weights(syn), create_graph=True)
            total = total + gradient_distance([layer[k] for layer in statistic], gradient, self.metric)
        return total

    def describe(self) -> dict[str, Any]:
        return {"name": "GradientMatching", "scope": repr(self.scope), "metric": self.metric}


def _weights(side: Side) -> list[torch.nn.Parameter]:
    return [p for p in side.look.net.parameters() if p.requires_grad]


def _mean_gradient(side: Side, group: slice) -> list[Tensor]:
    """The gradient of the batch-mean cross-entropy, accumulated over chunks, without a graph to keep."""
    x, y, weights = side.x[group].detach(), side.labels[group], _weights(side)
    total: list[Tensor] | None = None
    for part, labels in zip(x.split(side.chunk or len(x)), y.split(side.chunk or len(y)), strict=True):
        loss = F.cross_entropy(side.look.probe(part).logits, labels, reduction="sum") / len(x)
        gradient = torch.autograd.grad(loss, weights)
        total = list(gradient) if total is None else [a + b for a, b in zip(total, gradient, strict=True)]
    return total if total is not None else []

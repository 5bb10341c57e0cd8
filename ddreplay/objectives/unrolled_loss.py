"""The outer loss: a network trained on the synthetic images must do well on real ones."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.eager_gradient import settled_sum
from ddreplay.objectives.side import WHOLE, Side
from ddreplay.objectives.soft_labels import label_logits
from ddreplay.objectives.term import Shared, Statistic, Term
from ddreplay.objectives.trajectory_matching import check_memory
from ddreplay.objectives.unrolling import Inner, Memory, draw_steps, unroll

__all__ = ["UnrolledLoss"]


class UnrolledLoss(Term):
    """The loss of real images after a network, from where it is shown, was trained on the synthetic ones for N steps.

        L = CE(real images; w_N)          v_{i+1} = m v_i + grad CE(a(S); w_i),  w_{i+1} = w_i - lr_i v_{i+1}

    The gradient goes through all N steps and their momentum. One augmentation serves the real batch and all inner steps.

    Args:
        steps: N, inner steps.
        lr, momentum: those of the inner SGD.
        batch: synthetic images of every class in an inner step; ``None``: all.
        lr_labels: learn soft labels with this step size (LD), which start as the true class with probability 0.9; ``None``: hard labels.
        lr_lr: learn a step size for every inner step, kept positive, with this step size (DD); ``None``: all stay ``lr``.
        memory: ``"graph"``, ``"constant"`` (the same gradient, a step's graph at a time) or ``"first-order"``, see `unroll`.
    Raises:
        ValueError: for arguments out of range.
    Reference: Deng and Russakovsky, "Remember the Past: Distilling Datasets into Addressable Memories for Neural Networks", NeurIPS
        2022; Wang et al., "Dataset Distillation", arXiv 2018; Bohdal et al., "Flexible Dataset Distillation: Learn Labels Instead of
        Images", arXiv 2020.
    """

    bankable = False
    discriminative = True

    def __init__(
        self,
        steps: int = 150,
        *,
        lr: float = 0.01,
        momentum: float = 0.9,
        batch: int | None = 10,
        lr_lr: float | None = None,
        lr_labels: float | None = None,
        memory: Memory = "constant",
    ) -> None:
        super().__init__()
        if steps < 1 or (batch is not None and batch < 1):
            raise ValueError(f"steps and batch must be at least 1, got {steps} and {batch}")
        if lr <= 0 or not 0 <= momentum < 1 or (lr_lr is not None and lr_lr <= 0):
            raise ValueError(f"lr and lr_lr must be positive and momentum in [0, 1), got {lr}, {lr_lr} and {momentum}")
        if lr_labels is not None and lr_labels <= 0:
            raise ValueError(f"lr_labels must be positive or None, got {lr_labels}")
        check_memory(memory)
        self.steps, self.lr, self.momentum, self.batch = steps, lr, momentum, batch
        self.lr_lr, self.lr_labels, self.memory = lr_lr, lr_labels, memory
        self.sized = lr_labels is not None
        self.label_logits: nn.Parameter | None = None
        raw = math.log(math.expm1(lr))
        self.raw_lrs = None if lr_lr is None else nn.Parameter(torch.full((steps,), raw))

    def prepare(self, syn: Side) -> None:
        if self.sized:
            self.label_logits = label_logits(syn)

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = []
        if self.raw_lrs is not None:
            groups.append({"params": [self.raw_lrs], "lr": self.lr_lr})
        if self.label_logits is not None:
            groups.append({"params": [self.label_logits], "lr": self.lr_labels})
        return groups

    def soft_labels(self) -> Float[Tensor, "n classes"] | None:
        return None if self.label_logits is None else self.label_logits.softmax(1)

    def learned(self) -> dict[str, Any]:
        return {} if self.raw_lrs is None else {"inner_lrs": F.softplus(self.raw_lrs.detach()).tolist()}

    def summarise(self, real: Side) -> Statistic:
        return (Shared((real.seen, real.labels, real.chunk)),)

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        look, (x, y, chunk) = syn.look, statistic[0]
        names, start = zip(*((name, p.detach()) for name, p in look.net.named_parameters()), strict=True)
        drawn = draw_steps(look, syn.images, steps=self.steps, blocks=syn.classes, batch=self.batch, anew=False)
        lrs = syn.images.new_full((self.steps,), self.lr) if self.raw_lrs is None else F.softplus(self.raw_lrs)
        inner = Inner(look.net, names, drawn, self.momentum)
        soft = self.soft_labels()
        end = unroll(inner, start, syn.images, syn.labels if soft is None else soft, lrs, self.memory)
        n = len(y)

        def loss(*weights_and_places: Any) -> Tensor:
            *weights, start, stop = weights_and_places
            seen = torch.func.functional_call(look.net, dict(zip(names, weights, strict=True)), (x[start:stop],))
            return F.cross_entropy(seen, y[start:stop], reduction="sum") / n

        if chunk is None or n <= WHOLE * chunk:
            return F.cross_entropy(torch.func.functional_call(look.net, dict(zip(names, end, strict=True)), (x[:],)), y)
        return settled_sum(loss, end, [(start, min(start + chunk, n)) for start in range(0, n, chunk)])

    def describe(self) -> dict[str, Any]:
        names = ("steps", "lr", "momentum", "batch", "lr_lr", "lr_labels", "memory")
        return {"name": "UnrolledLoss", **{name: getattr(self, name) for name in names}}

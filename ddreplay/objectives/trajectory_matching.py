"""Matching training trajectories: a student trained on the synthetic images must arrive where an expert arrived."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.objectives.side import Side
from ddreplay.objectives.soft_labels import label_logits
from ddreplay.objectives.term import Statistic, Term
from ddreplay.objectives.unrolling import Inner, Memory, draw_steps, unroll

__all__ = ["TrajectoryMatching", "check_memory"]


class TrajectoryMatching(Term):
    """L = || w_N - w*_{t+M} ||^2 / || w*_t - w*_{t+M} ||^2, where w_0 = w*_t and w_{i+1} = w_i - alpha grad CE(a_i(S)).

    The look brings the expert's weights w*_t as its network and w*_{t+M} as its target (`ExpertSegments`). Every inner step
    draws its own augmentation, with magnitudes for each image.

    Args:
        steps: N, inner steps of the student.
        lr: alpha at the start; it is learned with step size ``lr_lr`` and momentum 0.5, and stands in the set's provenance.
        batch: synthetic images in an inner step; ``None``: all.
        memory: ``"graph"`` (MTT), ``"constant"`` (the same gradient, a step's graph at a time) or ``"first-order"`` (TESLA as
            released), see `unroll`.
        lr_labels: step size of learned soft labels, which start as the true class with probability 0.9; ``None``: hard labels.
    Raises:
        ValueError: for arguments out of range, and where a look brings no target.
    Departures: TESLA's released code drops the dependence of later weights on the images, which is exact for one step only, and
        loses a factor 2 of the image gradient; ``"constant"`` is the exact gradient and ``"first-order"`` has the factor.
    Reference: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022, Eq. 2; Cui et al., "Scaling
        Up Dataset Distillation to ImageNet-1K with Constant Memory", ICML 2023.
    """

    bankable = False
    discriminative = True

    def __init__(
        self,
        steps: int = 30,
        *,
        lr: float = 0.01,
        lr_lr: float = 1e-5,
        batch: int | None = None,
        memory: Memory = "graph",
        lr_labels: float | None = None,
    ) -> None:
        super().__init__()
        if steps < 1 or (batch is not None and batch < 1):
            raise ValueError(f"steps and batch must be at least 1, got {steps} and {batch}")
        if lr <= 0 or lr_lr < 0 or (lr_labels is not None and lr_labels <= 0):
            raise ValueError(f"lr and lr_labels must be positive and lr_lr at least 0, got {lr}, {lr_labels}, {lr_lr}")
        check_memory(memory)
        self.steps, self.initial_lr, self.lr_lr = steps, lr, lr_lr
        self.batch, self.memory, self.lr_labels = batch, memory, lr_labels
        self.sized = lr_labels is not None
        self.lr = nn.Parameter(torch.tensor(lr))
        self.label_logits: nn.Parameter | None = None

    def prepare(self, syn: Side) -> None:
        if self.sized:
            self.label_logits = label_logits(syn)

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = [{"params": [self.lr], "lr": self.lr_lr, "momentum": 0.5}]
        if self.label_logits is not None:
            groups.append({"params": [self.label_logits], "lr": self.lr_labels, "momentum": 0.5})
        return groups

    def soft_labels(self) -> Float[Tensor, "n classes"] | None:
        return None if self.label_logits is None else self.label_logits.softmax(1)

    def learned(self) -> dict[str, Any]:
        return {"lr": float(self.lr.detach())}

    def summarise(self, real: Side) -> Statistic:
        return ()

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        look = syn.look
        if look.target is None:
            raise ValueError("TrajectoryMatching needs an expert's later weights: use it with ExpertSegments(net)")
        names, start = zip(*((name, p.detach()) for name, p in look.net.named_parameters()), strict=True)
        soft = self.soft_labels()
        drawn = draw_steps(look, syn.images, steps=self.steps, blocks=1, batch=self.batch, anew=True)
        labels = syn.labels if soft is None else soft
        end = unroll(Inner(look.net, names, drawn), start, syn.images, labels, self.lr.expand(self.steps), self.memory)
        return squared_distance(end, look.target) / squared_distance(start, look.target)

    def describe(self) -> dict[str, Any]:
        return {"name": "TrajectoryMatching", "lr": self.initial_lr} | {
            name: getattr(self, name) for name in ("steps", "lr_lr", "batch", "memory", "lr_labels")
        }


def squared_distance(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Float[Tensor, ""]:
    """Summed over all weights."""
    return torch.stack([(x - y).square().sum() for x, y in zip(a, b, strict=True)]).sum()


def check_memory(memory: str) -> None:
    """Raise for an unknown way of unrolling."""
    if memory not in ("graph", "constant", "first-order"):
        raise ValueError(f"memory must be 'graph', 'constant' or 'first-order', got {memory!r}")

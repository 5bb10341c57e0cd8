"""How well a ridge regression on the synthetic images says what real images are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.objectives.term import PerImage, Shared, Side, Statistic, Term, of_embedding

__all__ = ["KernelRegression", "label_margin", "ridge_regression"]

_TINY = 1e-12  # of the ridge, where all features are zero


def ridge_regression(
    real: Float[Tensor, "m d"], syn: Float[Tensor, "n d"], labels: Float[Tensor, "n classes"], ridge: float
) -> Float[Tensor, "m classes"]:
    """K(real, syn) (K(syn, syn) + ridge tr K(syn, syn) / n)^-1 labels, with the inner product as kernel; solved in float64."""
    real, syn = real.double(), syn.double()
    kernel = syn @ syn.T
    size = ridge * kernel.diagonal().mean() + _TINY
    solved = torch.linalg.solve(
        kernel + size * torch.eye(len(syn), dtype=kernel.dtype, device=kernel.device), labels.double()
    )
    return real @ (syn.T @ solved)


def label_margin(labels: Float[Tensor, "n classes"]) -> Float[Tensor, ""]:
    """- min(first - second, 1 / C), a mean over images: learned labels keep one class ahead, by as much as one class's share."""
    first, second = labels.topk(2, dim=1).values.unbind(1)
    return -(first - second).clamp_max(1 / labels.shape[1]).mean()


class KernelRegression(Term):
    """The error of kernel ridge regression from the synthetic images, with learned labels, on real ones (FRePo).

        L = mean_i 1/2 || k(x_i, S) (K_SS + ridge tr(K_SS) / n)^-1 Y - t_i ||^2 - margin mean_j min(first_j - second_j, 1/C)
        k(x, s) = <f(x), f(s)>          f = the network up to its classifier

    t_i is the one-hot label less 1/C, Y are the labels of the synthetic images, first and second the two largest of each.

    Args:
        ridge: relative to the mean of the kernel's diagonal.
        learn_labels: Y is learned; else it stays where it starts, at (one-hot - 1/C) / sqrt(C / 10).
        lr_labels: step size of the labels; ``None``: that of the images.
        margin: weight of the second part.
    Raises:
        ValueError: for arguments out of range.
    Reference: Zhou, Nezhadarya and Ba, "Dataset Distillation using Neural Feature Regression", NeurIPS 2022.
    """

    bankable = False
    discriminative = True
    sized = True

    def __init__(
        self, ridge: float = 1e-6, *, learn_labels: bool = True, lr_labels: float | None = None, margin: float = 1.0
    ) -> None:
        super().__init__()
        if ridge <= 0 or margin < 0 or (lr_labels is not None and lr_labels <= 0):
            raise ValueError(
                f"ridge and lr_labels must be positive and margin at least 0, got {ridge}, {lr_labels} and {margin}"
            )
        self.ridge, self.learn_labels, self.lr_labels, self.margin = ridge, learn_labels, lr_labels, margin
        self.labels: nn.Parameter | None = None

    def reads(self, look: Any) -> Sequence[PerImage]:
        return [of_embedding]

    def prepare(self, syn: Side) -> None:
        classes = syn.classes
        start = (F.one_hot(syn.labels, classes).float() - 1 / classes) / (classes / 10) ** 0.5
        self.labels = nn.Parameter(start, requires_grad=self.learn_labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        if self.labels is None or not self.learn_labels:
            return []
        return [{"params": [self.labels], **({} if self.lr_labels is None else {"lr": self.lr_labels})}]

    def soft_labels(self) -> Float[Tensor, "n classes"] | None:
        return self.labels

    def summarise(self, real: Side) -> Statistic:
        features = real.embedding
        targets = F.one_hot(real.labels, real.classes).to(features) - 1 / real.classes
        return (Shared((features, targets)),)

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        real, targets = statistic[0]
        if self.labels is None:
            raise ValueError("KernelRegression has no labels yet: call prepare(syn) once before distance")
        said = ridge_regression(real, syn.embedding, self.labels, self.ridge)
        error: Tensor = 0.5 * (said - targets).square().sum(1).mean()
        if self.margin and self.learn_labels:
            error = error + self.margin * label_margin(self.labels)
        return error.to(syn.images.dtype)

    def describe(self) -> dict[str, Any]:
        names = ("ridge", "learn_labels", "lr_labels", "margin")
        return {"name": "KernelRegression", **{name: getattr(self, name) for name in names}}

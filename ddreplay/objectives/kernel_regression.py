"""How well a ridge regression on the synthetic images says what real images are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.objectives.side import PerImage, Side, of_embedding
from ddreplay.objectives.tangent_kernels import Kernel
from ddreplay.objectives.term import Shared, Statistic, Term

__all__ = ["KernelRegression", "label_margin", "ridge_regression"]

_TINY = 1e-12  # of the ridge, where all features are zero


def inner_product(x: Float[Tensor, "m d"], y: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
    """<x, y> of every pair."""
    return x @ y.T


def ridge_regression(
    real: Float[Tensor, "m ..."],
    syn: Float[Tensor, "n ..."],
    labels: Float[Tensor, "n classes"],
    ridge: float,
    kernel_of: Kernel | None = None,
) -> Float[Tensor, "m classes"]:
    """K(real, syn) (K(syn, syn) + ridge tr K(syn, syn) / n)^-1 labels, solved in float64.

    Args:
        kernel_of: The kernel; ``None``: the inner product.
    """
    real, syn = real.double(), syn.double()
    pairs = inner_product if kernel_of is None else kernel_of
    kernel = pairs(syn, syn)
    size = ridge * kernel.diagonal().mean() + _TINY
    eye = torch.eye(len(syn), dtype=kernel.dtype, device=kernel.device)
    said: Tensor = pairs(real, syn) @ torch.linalg.solve(kernel + size * eye, labels.double())
    return said


def label_margin(labels: Float[Tensor, "n classes"]) -> Float[Tensor, ""]:
    """- min(first - second, 1 / C), a mean over images: learned labels keep one class ahead, by as much as one class's share."""
    first, second = labels.topk(2, dim=1).values.unbind(1)
    return -(first - second).clamp_max(1 / labels.shape[1]).mean()


class KernelRegression(Term):
    """The error of kernel ridge regression from the synthetic images, with learned labels, on real ones (FRePo).

        L = mean_i 1/2 || k(x_i, S) (K_SS + ridge tr(K_SS) / n)^-1 Y - t_i ||^2 - margin mean_j min(first_j - second_j, 1/C)
        k(x, s) = <f(x), f(s)>          f = the network up to its classifier, or another kernel of the images themselves (KIP)

    t_i is the one-hot label less 1/C, Y are the labels of the synthetic images, first and second the two largest of each.

    Args:
        ridge: relative to the mean of the kernel's diagonal.
        learn_labels: Y is learned; it begins, or stays, at (one-hot - 1/C) / sqrt(C / 10) (FRePo), with a ``kernel`` at one-hot - 1/C
            (KIP).
        lr_labels: step size of the labels; ``None``: that of the images.
        margin: weight of the second part.
        kernel: of images, as the augmentation leaves them (`TangentKernel`, `ConvTangentKernel`); then no network looks. ``None``: that of
            a network's features.
    Raises:
        ValueError: for arguments out of range.
    Reference: Zhou, Nezhadarya and Ba, "Dataset Distillation using Neural Feature Regression", NeurIPS 2022; Nguyen,
        Chen and Lee, "Dataset Meta-Learning from Kernel Ridge-Regression", ICLR 2021.
    """

    bankable = False
    discriminative = True
    sized = True

    def __init__(
        self,
        ridge: float = 1e-6,
        *,
        learn_labels: bool = True,
        lr_labels: float | None = None,
        margin: float = 1.0,
        kernel: Kernel | None = None,
    ) -> None:
        super().__init__()
        if ridge <= 0 or margin < 0 or (lr_labels is not None and lr_labels <= 0):
            raise ValueError(
                f"ridge and lr_labels must be positive and margin at least 0, got {ridge}, {lr_labels} and {margin}"
            )
        self.ridge, self.learn_labels, self.lr_labels, self.margin = ridge, learn_labels, lr_labels, margin
        self.kernel = kernel
        self.labels: nn.Parameter | None = None

    def reads(self, look: Any) -> Sequence[PerImage]:
        return [of_embedding] if self.kernel is None else []

    def prepare(self, syn: Side) -> None:
        classes = syn.classes
        start = F.one_hot(syn.labels, classes).float() - 1 / classes
        start = start / (classes / 10) ** 0.5 if self.kernel is None else start
        self.labels = nn.Parameter(start, requires_grad=self.learn_labels)

    def parameter_groups(self) -> list[dict[str, Any]]:
        if self.labels is None or not self.learn_labels:
            return []
        return [{"params": [self.labels], **({} if self.lr_labels is None else {"lr": self.lr_labels})}]

    def soft_labels(self) -> Float[Tensor, "n classes"] | None:
        return self.labels if self.learn_labels else None

    def _features(self, side: Side) -> Float[Tensor, "n ..."]:
        return side.embedding if self.kernel is None else side.x

    def summarise(self, real: Side) -> Statistic:
        features = self._features(real)
        targets = F.one_hot(real.labels, real.classes).to(features) - 1 / real.classes
        return (Shared((features, targets)),)

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        real, targets = statistic[0]
        if self.labels is None:
            raise ValueError("KernelRegression has no labels yet: call prepare(syn) once before distance")
        said = ridge_regression(real, self._features(syn), self.labels, self.ridge, self.kernel)
        error: Tensor = 0.5 * (said - targets).square().sum(1).mean()
        if self.margin and self.learn_labels:
            error = error + self.margin * label_margin(self.labels)
        return error.to(syn.images.dtype)

    def describe(self) -> dict[str, Any]:
        names = ("ridge", "learn_labels", "lr_labels", "margin", "kernel")
        return {"name": "KernelRegression", **{name: getattr(self, name) for name in names}}

"""Distribution matching by all moments: maximum mean discrepancy under Gaussian kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.objectives.term import Side, Statistic, Term

__all__ = ["MaximumMeanDiscrepancy", "gaussian_mean"]


def gaussian_mean(
    a: Float[Tensor, "classes n d"],
    b: Float[Tensor, "classes m d"],
    bandwidth: Float[Tensor, " classes"],
    scales: Sequence[float],
) -> Float[Tensor, " classes"]:
    """mean_ij mean_s exp(-||a_i - b_j||^2 / (s * bandwidth)) of every class; ``bandwidth`` is a squared distance."""
    gaps = _squared_distances(a, b) / bandwidth[:, None, None]
    return torch.stack([(-gaps / scale).exp().mean((1, 2)) for scale in scales]).mean(0)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    # |a|^2 + |b|^2 - 2ab: one matrix product and a finite gradient everywhere, where a root would have none at zero
    squares = a.square().sum(2)[:, :, None] + b.square().sum(2)[:, None] - 2 * (a @ b.transpose(1, 2))
    return squares.clamp_min(0)


class MaximumMeanDiscrepancy(Term):
    """L = sum_c [ mean k(r, r') + mean k(s, s') - 2 mean k(r, s) ], r and s the embeddings of real and synthetic images.

    Zero only where all moments agree, if k is characteristic, as the Gaussian kernel is:

        k(a, b) = mean_scales exp( -||a - b||^2 / (scale * B_c) )          B_c = mean squared distance of two real images of c

    The term of real images alone is constant and computed once; the real statistic is the real embeddings themselves.

    Args:
        scales: multiples of B_c, one kernel each.
    Departures: the width of the kernels follows the real images of each class and is not learned or tuned.
    Reference: Zhang et al., "M3D: Dataset Condensation by Minimizing Maximum Mean Discrepancy", AAAI 2024.
    """

    additive = True

    def __init__(self, scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0)) -> None:
        super().__init__()
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales must be one or more positive numbers, got {scales}")
        self.scales = tuple(scales)

    def summarise(self, real: Side) -> Statistic:
        features = real.by_class(real.embedding)
        n = features.shape[1]
        spread = _squared_distances(features, features).sum((1, 2)) / max(n * (n - 1), 1)
        bandwidth = torch.where(spread > 0, spread, torch.ones_like(spread))
        return features, bandwidth, gaussian_mean(features, features, bandwidth, self.scales)

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        real, bandwidth, within_real = statistic
        features = syn.by_class(syn.activations.embedding)
        within = gaussian_mean(features, features, bandwidth, self.scales)
        between = gaussian_mean(real, features, bandwidth, self.scales)
        total: Tensor = (within_real + within - 2 * between).sum()
        return total

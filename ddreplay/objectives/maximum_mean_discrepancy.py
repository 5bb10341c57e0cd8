"""Distribution matching by all moments: maximum mean discrepancy under Gaussian kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.eager_gradient import settled
from ddreplay.objectives.side import Look, PerImage, Side, of_embedding
from ddreplay.objectives.term import Statistic, Term

__all__ = ["MaximumMeanDiscrepancy", "gaussian_mean"]

PAIRS = 2**21  # of images that are compared at once; beyond, classes go in groups


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
    """The maximum mean discrepancy of the embeddings r and s of real and synthetic images, summed over classes.

        L = sum_c [ mean k(r, r') + mean k(s, s') - 2 mean k(r, s) ]

    Zero only where all moments agree, if k is characteristic, as the Gaussian kernel is:

        k(a, b) = mean_scales exp( -||a - b||^2 / (scale * B_c) )          B_c = mean squared distance of two real images of c

    The term of real images alone is constant and computed once; the real statistic is the real embeddings themselves.

    Args:
        scales: multiples of B_c, one kernel each.
    Raises:
        ValueError: for no scale, or one that is not positive.
    Departures: the width of the kernels follows the real images of each class and is not learned or tuned. The gradient is taken by
        groups of classes where there are many pairs of images, so it cannot be differentiated again there.
    Reference: Zhang et al., "M3D: Dataset Condensation by Minimizing Maximum Mean Discrepancy", AAAI 2024.
    """

    additive = True

    def __init__(self, scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0)) -> None:
        super().__init__()
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales must be one or more positive numbers, got {scales}")
        self.scales = tuple(scales)

    def reads(self, look: Look) -> Sequence[PerImage]:
        return (of_embedding,)

    def summarise(self, real: Side) -> Statistic:
        features = real.by_class(real.embedding)
        n = real.per_class
        parts = [self._within(part) for part in features.split(_group(n * n, real.classes))]
        bandwidth, within = (torch.cat(part) for part in zip(*parts, strict=True))
        return features, bandwidth, within

    def _within(self, features: Float[Tensor, "classes n d"]) -> tuple[Tensor, Tensor]:
        """The width of the kernels, and the mean kernel of two real images, of every class."""
        n = features.shape[1]
        spread = _squared_distances(features, features).sum((1, 2)) / max(n * (n - 1), 1)
        bandwidth = torch.where(spread > 0, spread, torch.ones_like(spread))
        return bandwidth, gaussian_mean(features, features, bandwidth, self.scales)

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        features, n = syn.by_class(syn.embedding), syn.per_class
        group = _group(n * (n + statistic[0].shape[1]), syn.classes)
        if group == syn.classes:
            return self._discrepancy(features, *statistic)
        parts = zip(*(part.split(group) for part in (features, *statistic)), strict=True)
        return torch.stack([settled(self._discrepancy, *part) for part in parts]).sum()

    def _discrepancy(self, features: Tensor, real: Tensor, bandwidth: Tensor, within_real: Tensor) -> Tensor:
        within = gaussian_mean(features, features, bandwidth, self.scales)
        between = gaussian_mean(real, features, bandwidth, self.scales)
        total: Tensor = (within_real + within - 2 * between).sum()
        return total


def _group(pairs: int, classes: int) -> int:
    """How many classes, of ``pairs`` pairs of images each, are compared at once."""
    return min(classes, max(1, PAIRS // pairs))

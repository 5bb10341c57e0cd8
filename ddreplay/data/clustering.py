"""k-means, and the images nearest to its centroids."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ddreplay.randomness import Random

__all__ = ["kmeans", "representatives"]


def kmeans(
    features: Float[Tensor, "n d"], clusters: int, random: Random, *, iterations: int = 10
) -> Float[Tensor, "clusters d"]:
    """Centroids after Lloyd's iterations from ``clusters`` random rows; a centroid that loses all its rows stays where it is."""
    if not 1 <= clusters <= len(features):
        raise ValueError(f"clusters must be between 1 and the number of rows, {len(features)}, got {clusters}")
    start = torch.randperm(len(features), generator=random.device, device=features.device)[:clusters]
    centroids = features[start].clone()
    for _ in range(iterations):
        nearest = _squared_distances(features, centroids).argmin(1)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, features)
        members = _members(nearest, clusters)[:, None]
        centroids = torch.where(members > 0, sums / members.clamp_min(1), centroids)
    return centroids


def representatives(
    features: Float[Tensor, "n d"], count: int, random: Random, *, iterations: int = 10, distinct: bool = False
) -> Int64[Tensor, " count"]:
    """The row nearest to each of ``count`` centroids, the centroid of most rows first.

    Two centroids may share their nearest row; ``distinct`` gives the smaller one the nearest row that is still free. Where there are
    fewer rows than ``count``, all of them, repeated.
    """
    if count >= len(features):
        return torch.arange(count, device=features.device) % len(features)
    centroids = kmeans(features, count, random, iterations=iterations)
    gaps = _squared_distances(features, centroids)
    members = _members(gaps.argmin(1), count)
    gaps = gaps[:, members.argsort(descending=True, stable=True)]
    if not distinct:
        return gaps.argmin(0)
    chosen = []
    for k in range(count):
        best = gaps[:, k].argmin()
        gaps[best] = float("inf")
        chosen.append(best)
    return torch.stack(chosen)


def _members(nearest: Int64[Tensor, " n"], clusters: int) -> Int64[Tensor, " clusters"]:
    """How many rows every cluster has; ``bincount`` would wait for the device to know how many clusters there are."""
    return nearest.new_zeros(clusters).scatter_add_(0, nearest, torch.ones_like(nearest))


def _squared_distances(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    found: Tensor = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return found

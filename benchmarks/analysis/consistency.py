"""IDM's consistency ratio: do condensed images lie among the real images of their own class?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["consistency_ratio"]


def consistency_ratio(
    syn: Float[Tensor, "m d"],
    syn_labels: Int64[Tensor, " m"],
    real: Float[Tensor, "n d"],
    real_labels: Int64[Tensor, " n"],
    *,
    neighbours: Sequence[int] = (1, 5, 10, 20, 50),
    chunk: int = 256,
) -> Float[Tensor, " k"]:
    """For every k, the share of a condensed image's k nearest real images that are of its class, averaged over images.

    Nearest in Euclidean distance between features. Chance is one over the number of classes where classes are balanced.

    Args:
        chunk: condensed images looked at together.
    Raises:
        ValueError: when a k is below 1 or above the number of real images.
    Reference: Zhao, Li, Qin and Yu, "Improved Distribution Matching for Dataset Condensation", CVPR 2023, Fig. 4.
    """
    if not neighbours or min(neighbours) < 1 or max(neighbours) > len(real):
        raise ValueError(f"neighbours must lie in 1..{len(real)} (the number of real images), got {list(neighbours)}")
    agree = []
    for features, labels in zip(torch.split(syn, chunk), torch.split(syn_labels, chunk), strict=True):
        nearest = torch.cdist(features, real).topk(max(neighbours), largest=False).indices
        agree.append(real_labels[nearest] == labels[:, None])
    shares = torch.cat(agree).to(syn.dtype).cumsum(1)
    return torch.stack([(shares[:, k - 1] / k).mean() for k in neighbours])

"""Intra-class diversity: synthetic images of a class keep away from their nearest kin."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddreplay.eager_gradient import settled
from ddreplay.objectives.side import Look, PerImage, Side, of_embedding
from ddreplay.objectives.term import Statistic, Term

__all__ = ["IntraClassDiversity", "neighbour_divergence"]

FEATURES = 2**20  # numbers of embeddings, and of gaps, whose graph is held at once; beyond, classes go in groups


def neighbour_divergence(features: Float[Tensor, "classes n d"], neighbours: int) -> Float[Tensor, ""]:
    """sum_i KL( softmax(f_i) || softmax(m_i) ), m_i = the mean of the ``neighbours`` features nearest to f_i in its class.

    Nearest by distance, itself excluded; the choice is not differentiated, f_i and m_i are.
    """
    kin: Tensor = _kin(features.detach(), neighbours) @ features
    return F.kl_div(kin.log_softmax(2), features.log_softmax(2), reduction="sum", log_target=True)


def _kin(features: Float[Tensor, "classes n d"], neighbours: int) -> Float[Tensor, "classes n n"]:
    """A matrix for each class that takes the mean of every image's nearest others."""
    # distances by differences, not by |a|^2 + |b|^2 - 2 ab, which confuses close neighbours far from the origin
    gaps = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    gaps.diagonal(dim1=1, dim2=2).fill_(float("inf"))
    nearest = gaps.topk(neighbours, dim=2, largest=False).indices
    return torch.zeros_like(gaps).scatter_(2, nearest, 1 / neighbours)


class IntraClassDiversity(Term):
    """The divergence of every synthetic embedding from its nearest others, to be raised.

        L = - sum_i KL( softmax(f_i) || softmax(m_i) )          m_i = the mean of the k nearest synthetic images of the same class

    Below zero and unbounded: a large weight lets it outgrow what it accompanies. A class of one image contributes nothing.

    Args:
        neighbours: k; ``None``: a fifth of the images of a class, at least one (the authors' later code).
    Raises:
        ValueError: for fewer than one neighbour.
    Departures: the gradient is taken by groups of classes where there are many images, so it cannot be differentiated again there.
    Reference: Malakshan et al., "Decomposed Distribution Matching in Dataset Condensation", WACV 2025, intra-class diversity.
    """

    additive = True

    def __init__(self, neighbours: int | None = None) -> None:
        super().__init__()
        if neighbours is not None and neighbours < 1:
            raise ValueError(f"neighbours must be at least 1 or None, got {neighbours}")
        self.neighbours = neighbours

    def reads(self, look: Look) -> Sequence[PerImage]:
        return (of_embedding,)

    def summarise(self, real: Side) -> Statistic:
        return ()

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        if syn.per_class < 2:
            return syn.images.new_zeros(())
        wanted = max(1, round(0.2 * syn.per_class)) if self.neighbours is None else self.neighbours
        features, k = syn.by_class(syn.embedding), min(wanted, syn.per_class - 1)
        group = max(1, FEATURES // (syn.per_class * max(syn.per_class, features.shape[2])))
        if group >= syn.classes:
            return -neighbour_divergence(features, k)
        return -torch.stack([settled(neighbour_divergence, part, k) for part in features.split(group)]).sum()

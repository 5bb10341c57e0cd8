"""Intra-class diversity: synthetic images of a class keep away from their nearest kin."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddreplay.objectives.term import Side, Statistic, Term

__all__ = ["IntraClassDiversity", "neighbour_divergence"]


def neighbour_divergence(features: Float[Tensor, "classes n d"], neighbours: int) -> Float[Tensor, ""]:
    """sum_i KL( softmax(f_i) || softmax(m_i) ), m_i = mean of the ``neighbours`` features nearest to f_i in its class.

    Nearest by squared distance, itself excluded; the choice is not differentiated, f_i and m_i are.
    """
    found = features.detach()
    gaps = (found[:, :, None] - found[:, None]).square().sum(3)
    gaps.diagonal(dim1=1, dim2=2).fill_(float("inf"))
    nearest = gaps.topk(neighbours, dim=2, largest=False).indices
    classes, n, d = features.shape
    kin = features.gather(1, nearest.reshape(classes, n * neighbours, 1).expand(-1, -1, d))
    means = kin.reshape(classes, n, neighbours, d).mean(2)
    return F.kl_div(means.log_softmax(2), features.log_softmax(2), reduction="sum", log_target=True)


class IntraClassDiversity(Term):
    """L = - sum_i KL( softmax(f_i) || softmax(m_i) ), m_i = mean of the k nearest synthetic images of the same class.

    Below zero and unbounded: a large weight lets it outgrow what it accompanies. A class of one image contributes nothing.

    Args:
        neighbours: k; ``None``: a fifth of the images of a class, at least one (the authors' later code).
    Reference: Malakshan et al., "Decomposed Distribution Matching in Dataset Condensation", WACV 2025, intra-class diversity.
    """

    additive = True

    def __init__(self, neighbours: int | None = None) -> None:
        super().__init__()
        if neighbours is not None and neighbours < 1:
            raise ValueError(f"neighbours must be at least 1 or None, got {neighbours}")
        self.neighbours = neighbours

    def summarise(self, real: Side) -> Statistic:
        return ()

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        if syn.per_class < 2:
            return syn.images.new_zeros(())
        wanted = max(1, round(0.2 * syn.per_class)) if self.neighbours is None else self.neighbours
        features = syn.by_class(syn.activations.embedding)
        return -neighbour_divergence(features, min(wanted, syn.per_class - 1))

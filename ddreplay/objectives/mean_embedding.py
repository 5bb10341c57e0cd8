"""Distribution matching by first moments: the mean embedding of every class."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from ddreplay.objectives.side import Look, PerImage, of_embedding
from ddreplay.objectives.term import MeanTerm

__all__ = ["MeanEmbedding", "mean_discrepancy"]


def mean_discrepancy(real: Float[Tensor, "classes d"], syn: Float[Tensor, "classes d"]) -> Float[Tensor, ""]:
    """sum_c || real_c - syn_c ||^2: summed over features and classes, not divided by anything."""
    return (real - syn).square().sum()


class MeanEmbedding(MeanTerm):
    """The squared distance of the mean embeddings of each class, summed over classes.

        L = sum_c || mean_i f(x_i) - mean_j f(s_j) ||^2          f = the network up to its classifier

    Reference: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023, Eq. 4.
    """

    def per_image(self, look: Look) -> Sequence[PerImage]:
        return (of_embedding,)

    def compare(self, real: Sequence[Tensor], syn: Sequence[Tensor]) -> Float[Tensor, ""]:
        return mean_discrepancy(real[0], syn[0])

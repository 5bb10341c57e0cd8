"""Features of every layer that must agree in their class means, and real images that the synthetic centres must tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from ddreplay.objectives.side import Look, PerImage, Side, of_embedding
from ddreplay.objectives.tapped_maps import OfMap, check_taps
from ddreplay.objectives.term import Shared, Statistic, Term

__all__ = ["FeatureAlignment", "centre_cross_entropy"]


def centre_cross_entropy(
    real: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], centres: Float[Tensor, "classes d"]
) -> Float[Tensor, ""]:
    """sum_i CE(<real_i, centre_c> over classes c, label_i): how badly synthetic centres classify real images."""
    return F.cross_entropy(real @ centres.T, labels, reduction="sum")


def _flat(maps: Tensor) -> Tensor:
    return maps.flatten(1)


class FeatureAlignment(Term):
    """Layer-wise alignment of class means, and discrimination by class centres (CAFE).

        L = sum_l w_l sum_c || mean_i f_l(x_i) - mean_j f_l(s_j) ||^2 + d sum_i CE(<f(x_i), mean_j f(s_j)>, y_i)

    f_l is what layer l gives, f what the classifier reads, which is aligned too.

    Args:
        taps: the layers, as taps of a `Probe`.
        weights: one for every layer in order, and for the embedding at the end; a shorter list repeats its first one in front.
        discrimination: d.
    Raises:
        ValueError: for no layers, no weights, or a negative one.
    Reference: Wang et al., "CAFE: Learning to Condense Dataset by Aligning Features", CVPR 2022, Eq. 2-6.
    """

    discriminative = True

    def __init__(
        self,
        taps: Sequence[str] = ("blocks.*.act",),
        *,
        weights: Sequence[float] = (0.1, 1.0, 2.0),
        discrimination: float = 0.01,
    ) -> None:
        super().__init__()
        if not weights or min(weights) < 0 or discrimination < 0:
            raise ValueError(
                f"weights must be one number or more, none negative, and discrimination too, got {weights} and {discrimination}"
            )
        self.taps, self.weights, self.discrimination = check_taps(taps), tuple(weights), discrimination

    def reads(self, look: Look) -> Sequence[PerImage]:
        return [*(OfMap(name, _flat) for name in look.probe.names(*self.taps)), of_embedding]

    def summarise(self, real: Side) -> Statistic:
        means = real.class_means(*self.reads(real.look))
        whole = (real.embedding, real.labels) if self.discrimination else ()
        return (*means, Shared(whole))

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        *real, whole = statistic
        own = syn.class_means(*self.reads(syn.look))
        total = syn.images.new_zeros(())
        for weight, a, b in zip(self.layer_weights(len(own)), real, own, strict=True):
            total = total + weight * (a - b).square().sum()
        if whole:
            features, labels = whole
            total = total + self.discrimination * centre_cross_entropy(features, labels, own[-1])
        return total

    def layer_weights(self, layers: int) -> tuple[float, ...]:
        """One weight a layer, the embedding's last."""
        missing = max(0, layers - len(self.weights))
        return ((self.weights[0],) * missing + self.weights)[-layers:]

    def describe(self) -> dict[str, Any]:
        return {
            "name": "FeatureAlignment",
            "taps": self.taps,
            "weights": self.weights,
            "discrimination": self.discrimination,
        }

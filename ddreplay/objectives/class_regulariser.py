"""Class-aware regularisation: the network, as far as it knows the classes, must recognise the synthetic images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddreplay.objectives.side import Look, PerImage, Side, of_logits
from ddreplay.objectives.term import Statistic, Term

__all__ = ["ClassRegulariser"]

Unit = Literal["percent", "fraction"]


class ClassRegulariser(Term):
    """The cross-entropy of the synthetic images, weighted by what the network knows about real ones.

        L = sum_c A * mean_j CE(net(s_j), c)          A = the network's running accuracy on real data

    A network that was never trained on real data has A = 0 and adds nothing.

    Args:
        unit: the unit of A: ``"percent"`` (0 to 100) or ``"fraction"`` (0 to 1). Released code: percent, so that the paper's weight of
            0.5 is worth up to 50; the paper does not say.
    Raises:
        ValueError: for another unit.
    Reference: Zhao et al., "Improved Distribution Matching for Dataset Condensation", CVPR 2023, Eq. 4.
    """

    additive = True
    discriminative = True
    reads_accuracy = True

    def __init__(self, unit: Unit = "percent") -> None:
        super().__init__()
        if unit not in ("percent", "fraction"):
            raise ValueError(f"unit must be 'percent' or 'fraction', got {unit!r}")
        self.unit = unit

    def reads(self, look: Look) -> Sequence[PerImage]:
        return (of_logits,)

    def summarise(self, real: Side) -> Statistic:
        return ()

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        scale = 100 if self.unit == "percent" else 1
        total = F.cross_entropy(syn.logits, syn.labels, reduction="sum") / syn.per_class
        return total * (syn.look.accuracy * scale)

"""Style: moments and correlations of feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.objectives.tapped_maps import _TINY, _check_taps, _OfMap
from ddreplay.objectives.term import Look, MeanTerm, PerImage

__all__ = ["GramMatching", "gram"]


def gram(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c c"]:
    """F F^T / (c h w) of every image, F = its maps as rows."""
    values = maps.flatten(2)
    return values @ values.transpose(1, 2) / values[0].numel()


class GramMatching(MeanTerm):
    """L = sum_c 1/L sum_layers || G_real - G_syn ||_F^2, G = the class mean of F F^T / (C H W), F = an image's maps as rows.

    Args:
        taps, relative: as in `StyleMoments`; ``relative`` divides by the squared norm of the real side's matrix.
    Reference: Malakshan et al., "Decomposed Distribution Matching in Dataset Condensation", WACV 2025, correlation matching.
    """

    def __init__(self, taps: Sequence[str] = ("norms",), *, relative: bool = False) -> None:
        super().__init__()
        self.taps, self.relative = _check_taps(taps), relative

    def per_image(self, look: Look) -> Sequence[PerImage]:
        return [_OfMap(name, gram) for name in look.probe.names(*self.taps)]

    def compare(self, real: Sequence[Tensor], syn: Sequence[Tensor]) -> Float[Tensor, ""]:
        layers = []
        for a, b in zip(real, syn, strict=True):
            error = (a - b).square().sum((1, 2))
            size = a.square().sum((1, 2)).clamp_min(_TINY) if self.relative else 1
            layers.append((error / size).sum())
        return torch.stack(layers).mean()

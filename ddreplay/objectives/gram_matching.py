"""Style by correlations: the Gram matrix of the channels of feature maps."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from ddreplay.objectives.side import Look, PerImage
from ddreplay.objectives.tapped_maps import OfMap, check_taps, layer_errors
from ddreplay.objectives.term import MeanTerm

__all__ = ["GramMatching", "gram"]


def gram(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c c"]:
    """F F^T / (c h w) of every image, where the rows of F are its maps."""
    values = maps.flatten(2)
    return values @ values.transpose(1, 2) / values[0].numel()


def _sum(squares: Float[Tensor, "classes c c"]) -> Float[Tensor, " classes"]:
    return squares.sum((1, 2))


class GramMatching(MeanTerm):
    """The squared distance of the mean Gram matrices of feature maps, averaged over layers and summed over classes.

        L = sum_c 1/L sum_layers || G_real - G_syn ||_F^2          G = the class mean of F F^T / (C H W), F = an image's maps as rows

    Args:
        taps: as in `StyleMoments`.
        relative: divide a layer's error by the squared norm of the real side's matrix.
    Reference: Malakshan et al., "Decomposed Distribution Matching in Dataset Condensation", WACV 2025, correlation matching.
    """

    def __init__(self, taps: Sequence[str] = ("norms",), *, relative: bool = False) -> None:
        super().__init__()
        self.taps, self.relative = check_taps(taps), relative

    def per_image(self, look: Look) -> Sequence[PerImage]:
        return [OfMap(name, gram) for name in look.probe.names(*self.taps)]

    def compare(self, real: Sequence[Tensor], syn: Sequence[Tensor]) -> Float[Tensor, ""]:
        return layer_errors(real, syn, _sum, self.relative)

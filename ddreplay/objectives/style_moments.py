"""Style by moments: the mean and the standard deviation of every channel of feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.objectives.side import Look, PerImage
from ddreplay.objectives.tapped_maps import OfMap, check_taps, layer_errors
from ddreplay.objectives.term import MeanTerm

__all__ = ["StyleMoments", "moments"]

_EPSILON = 1e-5


def moments(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 c"]:
    """The spatial mean, and the standard deviation (the root of the unbiased variance + 1e-5), of every channel."""
    values = maps.flatten(2)
    variance = values.var(2, correction=min(1, values.shape[2] - 1))
    return torch.stack([values.mean(2), (variance + _EPSILON).sqrt()], 1)


def _itself(maps: Tensor) -> Tensor:
    return maps


def _mean(squares: Float[Tensor, "classes 2 c"]) -> Float[Tensor, " classes"]:
    return squares.mean((1, 2))  # of both moments: half of each one's mean square


class StyleMoments(MeanTerm):
    """The mean square errors of the two moments of feature maps, averaged over layers and summed over classes.

        L = sum_c 1/L sum_layers 1/2 [ MSE(mean_real, mean_syn) + MSE(std_real, std_syn) ]          MSE over the channels

    Args:
        taps: the L layers whose maps are compared, by name or group: ``"norms"``, ``"convolutions"`` (see `Probe`).
        of_image: take the moments of every image's maps and average them over the class; or, if ``False``, take the moments of the
            class's mean map.
        relative: divide a layer's error by the mean square of the real side's moments.
    Departures: the released code taps norms and takes moments of the mean map (``taps=("norms",), of_image=False``). Behind an
        instance norm an image's own moments are constants and carry nothing, and the mean of a mean map is zero: only its standard
        deviation, which says how alike the images are, gives a signal there. In front of the norm both moments do.
    Reference: Malakshan et al., "Decomposed Distribution Matching in Dataset Condensation", WACV 2025, moments matching.
    """

    def __init__(
        self, taps: Sequence[str] = ("convolutions",), *, of_image: bool = True, relative: bool = False
    ) -> None:
        super().__init__()
        self.taps, self.of_image, self.relative = check_taps(taps), of_image, relative

    def per_image(self, look: Look) -> Sequence[PerImage]:
        return [OfMap(name, moments if self.of_image else _itself) for name in look.probe.names(*self.taps)]

    def keep(self, means: Sequence[Tensor]) -> Sequence[Tensor]:
        return means if self.of_image else [moments(maps) for maps in means]

    def compare(self, real: Sequence[Tensor], syn: Sequence[Tensor]) -> Float[Tensor, ""]:
        return layer_errors(real, syn, _mean, self.relative)

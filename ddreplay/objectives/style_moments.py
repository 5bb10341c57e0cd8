"""Style: moments and correlations of feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.objectives.tapped_maps import _TINY, _check_taps, _OfMap
from ddreplay.objectives.term import Look, MeanTerm, PerImage

__all__ = ["StyleMoments", "moments"]

_EPSILON = 1e-5


def moments(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 2 c"]:
    """Spatial mean, and standard deviation (root of the unbiased variance + 1e-5), of every channel."""
    values = maps.flatten(2)
    variance = values.var(2, correction=min(1, values.shape[2] - 1))
    return torch.stack([values.mean(2), (variance + _EPSILON).sqrt()], 1)


def _itself(maps: Tensor) -> Tensor:
    return maps


class StyleMoments(MeanTerm):
    """L = sum_c 1/L sum_layers 1/2 [ MSE(mean_real, mean_syn) + MSE(std_real, std_syn) ], over the channels of feature maps.

    Args:
        taps: the L layers whose maps are compared, by name or group: ``"norms"``, ``"convolutions"`` (see `Probe`).
        of_image: the moments of every image's maps, averaged over the class; or, ``False``, the moments of the class's mean map.
        relative: a layer's error is divided by the mean square of the real side's moments.
    Departures: the released code taps norms and takes moments of the mean map (``taps=("norms",), of_image=False``). Behind an
        instance norm an image's own moments are constants and carry nothing, and the mean of a mean map is zero: only its standard
        deviation, which says how alike the images are, gives a signal there. In front of the norm both moments do.
    Reference: Malakshan et al., "Decomposed Distribution Matching in Dataset Condensation", WACV 2025, moments matching.
    """

    def __init__(
        self, taps: Sequence[str] = ("convolutions",), *, of_image: bool = True, relative: bool = False
    ) -> None:
        super().__init__()
        self.taps, self.of_image, self.relative = _check_taps(taps), of_image, relative

    def per_image(self, look: Look) -> Sequence[PerImage]:
        return [_OfMap(name, moments if self.of_image else _itself) for name in look.probe.names(*self.taps)]

    def keep(self, means: Sequence[Tensor]) -> Sequence[Tensor]:
        return means if self.of_image else [moments(maps) for maps in means]

    def compare(self, real: Sequence[Tensor], syn: Sequence[Tensor]) -> Float[Tensor, ""]:
        layers = []
        for a, b in zip(real, syn, strict=True):
            error = (a - b).square().mean((1, 2))  # of both moments: half of each one's mean square
            size = a.square().mean((1, 2)).clamp_min(_TINY) if self.relative else 1
            layers.append((error / size).sum())
        return torch.stack(layers).mean()

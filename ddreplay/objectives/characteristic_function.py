"""Distribution matching by characteristic functions: amplitude and phase at random frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddreplay.backbones import Activations
from ddreplay.objectives.side import Look, PerImage
from ddreplay.objectives.term import MeanTerm

__all__ = ["CharacteristicFunction", "characteristic_distance"]

Complex = tuple[Tensor, ...]
"""Real and imaginary part, each [classes, frequencies]."""

_EPSILON = 1e-12  # keeps the gradient of a root finite at zero
_TINY = 1e-30  # keeps the gradient of a modulus finite at zero


def characteristic_distance(real: Complex, syn: Complex, amplitude: float = 0.5) -> Float[Tensor, ""]:
    """sum_c mean_t sqrt( a (|P| - |Q|)^2 + (1 - a) 2 |P||Q| (1 - cos(angle P - angle Q)) ), a = ``amplitude``.

    P and Q are the two sides' characteristic functions at the frequencies t, given as real and imaginary parts. No angle is
    needed: |P||Q| cos(angle P - angle Q) = Re(P conj(Q)).
    """
    size_real, size_syn = _modulus(*real), _modulus(*syn)
    phase = size_real * size_syn - (real[0] * syn[0] + real[1] * syn[1])
    inside = amplitude * (size_real - size_syn).square() + (1 - amplitude) * 2 * phase.clamp_min(0)
    distance: Tensor = (inside + _EPSILON).sqrt() - _EPSILON**0.5
    return distance.mean(1).sum()


def _modulus(real: Tensor, imaginary: Tensor) -> Tensor:
    return (real.square() + imaginary.square() + _TINY).sqrt()


@dataclass(frozen=True)
class _Waves:
    """cos and sin of <t, f(x)> at the frequencies t of one look, which are drawn when the size of the embedding is known."""

    look: Look
    count: int
    spread: float

    def __call__(self, seen: Activations) -> Float[Tensor, "n 2 f"]:
        like = seen.embedding
        size = (like.shape[1], self.count)
        drawn = partial(torch.randn, size, generator=self.look.random.device, device=like.device, dtype=like.dtype)
        frequencies: Tensor = self.look.once(("characteristic", *size), drawn)
        angles = F.normalize(like, dim=1) @ (frequencies * self.spread)
        return torch.stack([angles.cos(), angles.sin()], 1)


class CharacteristicFunction(MeanTerm):
    """The distance of the characteristic functions of the embeddings at random frequencies, summed over classes.

        P_c(t) = mean_i exp(i <t, f(x_i)>)          L = sum_c mean_t sqrt( a (amplitude part) + (1 - a) (phase part) )

    of `characteristic_distance`. A distribution is known by its characteristic function: all moments are compared, and the real
    side is a mean over images, as cheap to keep as a mean embedding.

    Args:
        frequencies: the number of frequencies t, each N(0, spread^2) in every direction of the embedding, which is scaled to unit
            length; they are drawn anew for every look.
        spread: large values tell close images apart, small ones compare means.
        amplitude: a; the amplitude tells how diverse the images are, the phase how realistic they are.
    Raises:
        ValueError: for arguments out of range.
    Departures: frequencies are drawn, not learned against the images; the embedding alone, not several layers.
    Reference: Wang et al., "Dataset Distillation with Neural Characteristic Function: A Minmax Perspective", CVPR 2025, Eq. 5-7.
    """

    def __init__(self, frequencies: int = 1024, *, spread: float = 1.0, amplitude: float = 0.5) -> None:
        super().__init__()
        if frequencies < 1 or spread <= 0:
            raise ValueError(f"frequencies and spread must be positive, got {frequencies} and {spread}")
        if not 0 <= amplitude <= 1:
            raise ValueError(f"amplitude must lie in [0, 1], got {amplitude}")
        self.frequencies, self.spread, self.amplitude = frequencies, spread, amplitude

    def per_image(self, look: Look) -> Sequence[PerImage]:
        return (_Waves(look, self.frequencies, self.spread),)

    def compare(self, real: Sequence[Tensor], syn: Sequence[Tensor]) -> Float[Tensor, ""]:
        return characteristic_distance(real[0].unbind(1), syn[0].unbind(1), self.amplitude)

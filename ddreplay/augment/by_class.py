"""Another draw of the augmentation for every class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.augment.siamese import Augment, Siamese, Transform
from ddreplay.data.space import Shape
from ddreplay.randomness import Random

__all__ = ["ByClass", "ClassTransforms"]


@dataclass(frozen=True)
class ByClass:
    """An augmentation that is drawn anew for every class, the same for its images on both sides.

    The released codes of DC, DSA, DCC, DM and IDM draw so. ``dm(net, augment=ByClass())`` in an expression, ``replace(dm(net),
    augment=ByClass())`` in Python.

    A batch whose images have magnitudes of their own (networks in training) is one draw, as without it.

    Args:
        augment: What is drawn.
    Example:
        >>> transform = ByClass(Siamese("rotate")).draw((3, 8, 8), Random(0))
        >>> transform.of_classes(torch.zeros(4, 3, 8, 8), [0, 0, 1, 1]).shape
        torch.Size([4, 3, 8, 8])
    """

    augment: Augment = field(default=Siamese())

    def draw(self, shape: Shape, random: Random, *, n: int | None = None) -> Transform:
        if n is not None:
            return self.augment.draw(shape, random, n=n)
        return ClassTransforms(self.augment, shape, random.seed(), random.device.device)


@dataclass(frozen=True)
class ClassTransforms:
    """The draws of all classes. That of class k follows from the seed and k, whatever other classes there are."""

    augment: Augment
    shape: Shape
    seed: int
    device: torch.device
    _drawn: dict[int, Transform] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Images whose classes are not told: all under the draw of class 0."""
        return self.of_class(0)(x)

    def of_class(self, position: int) -> Transform:
        """The draw of a class."""
        if position not in self._drawn:
            self._drawn[position] = self.augment.draw(self.shape, Random(self.seed + position, self.device))
        return self._drawn[position]

    def of_classes(self, x: Float[Tensor, "n c h w"], positions: Sequence[int]) -> Float[Tensor, "n c h w"]:
        """Every image under the draw of its class."""
        runs = [(position, len(list(run))) for position, run in groupby(positions)]
        pieces = x.split([length for _, length in runs])
        return torch.cat([self.of_class(k)(piece) for (k, _), piece in zip(runs, pieces, strict=True)])

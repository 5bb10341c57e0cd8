"""Augmentation across classes: images of different classes become one, and their labels mix alike.

As in ``augment``, parameters are drawn first. A siamese draw pairs classes, so that real and synthetic class-major batches of
any number of images per class are mixed alike; a draw for n images pairs images of one training batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.pool import Batch
from ddreplay.data.space import Shape
from ddreplay.randomness import Random

__all__ = [
    "CutMix",
    "Mix",
    "MixTransform",
    "MixUp",
]


@dataclass(frozen=True)
class MixTransform:
    """A drawn mixing: deterministic and differentiable.

    Attributes:
        share: of the image itself, in [0, 1]; its partner has the rest. 1: nothing is mixed.
        box: top, bottom, left, right (pixels, half open) of the window that comes from the partner; None: the whole images
            are averaged.
        shift: in [0, 1). A siamese draw pairs class position a of C with a + 1 + floor(shift (C - 1)), modulo C: every
            other class alike. Image j of one is mixed with image j of the other; a single class is mixed with itself,
            image j with j + 1.
        order: the partner of every image, int64 [n]; None for a siamese draw.
    """

    share: float = 1.0
    box: tuple[int, int, int, int] | None = None
    shift: float = 0.0
    order: Tensor | None = None

    def mix(self, batch: Batch | tuple[Tensor, Tensor], classes: int, *, blocks: int | None = None) -> Batch:
        """Mixed images and soft labels [n, classes].

        Args:
            batch: images, and labels int64 [n] from 0 to classes - 1 or soft [n, classes]; class-major for a siamese draw.
            classes: columns of the soft labels.
            blocks: classes in a class-major batch, where it does not hold all of them.
        Raises:
            ValueError: if the batch does not divide into its classes, has another length than the transform was drawn for,
                or its soft labels another number of columns.
        """
        x, y = batch
        blocks = classes if blocks is None else blocks
        labels = self.labels(y, classes, x.dtype, blocks=blocks)
        return Batch(self.images(x, blocks), labels)

    def images(self, x: Float[Tensor, "n c h w"], blocks: int) -> Float[Tensor, "n c h w"]:
        """Mixed images alone; ``blocks``: classes in the class-major batch of a siamese draw."""
        return self.blend(x, self.partner(x, blocks))

    def labels(self, y: Tensor, classes: int, dtype: torch.dtype, *, blocks: int) -> Float[Tensor, "n classes"]:
        """Mixed labels alone; see `mix`."""
        if y.dim() == 2 and y.shape[1] != classes:
            raise ValueError(f"soft labels must have a column for each of the {classes} classes, got {y.shape[1]}")
        soft = (F.one_hot(y, classes) if y.dim() == 1 else y).to(dtype)
        return torch.lerp(self.partner(soft, blocks), soft, self.share)

    def blend(self, x: Float[Tensor, "n c h w"], partner: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Every image mixed with the one in its place among the partners."""
        if self.box is None:
            return torch.lerp(partner, x, self.share)
        top, bottom, left, right = self.box
        mixed = x.clone()
        mixed[:, :, top:bottom, left:right] = partner[:, :, top:bottom, left:right]
        return mixed

    def partner(self, values: Tensor, blocks: int) -> Tensor:
        """What every image is mixed with: its partner's value among these, one for each image of the batch."""
        if self.order is not None:
            if len(self.order) != len(values):
                raise ValueError(f"this mixing was drawn for n={len(self.order)} images, got {len(values)}")
            return values[self.order]
        if len(values) % blocks:
            raise ValueError(f"a siamese mixing needs equal blocks of {blocks} classes, got {len(values)} images")
        steps = 1 if blocks == 1 else (1 + int(self.shift * (blocks - 1))) * (len(values) // blocks)
        return values.roll(-steps, 0)


@runtime_checkable
class Mix(Protocol):
    """Draws mixings for images of one shape (channels, height, width).

    ``n=None``: a siamese draw, which pairs classes; ``n``: a draw for a batch of n images.
    """

    def draw(self, shape: Shape, random: Random, *, n: int | None = None) -> MixTransform: ...


@dataclass(frozen=True)
class MixUp:
    """Mixup: an image and a partner averaged, and their labels alike.

        x' = share x + (1 - share) partner       share ~ Beta(alpha, alpha), one for the batch

    Args:
        alpha: above 0; small values hardly mix.
        p: probability that a draw mixes at all.
    Raises:
        ValueError: if alpha is not positive or p is no probability.
    Reference: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    Example:
        >>> batch = Batch(torch.zeros(6, 3, 8, 8), torch.tensor([0, 0, 1, 1, 2, 2]))
        >>> MixUp().draw((3, 8, 8), Random(0)).mix(batch, 3).y.sum(1)
        tensor([1., 1., 1., 1., 1., 1.])
    """

    alpha: float = 1.0
    p: float = 1.0

    def __post_init__(self) -> None:
        _check(self.alpha, self.p)

    def draw(self, shape: Shape, random: Random, *, n: int | None = None) -> MixTransform:
        share, pairing = _draw(self.alpha, self.p, random, n)
        return MixTransform(**pairing) if share is None else MixTransform(share, None, **pairing)


@dataclass(frozen=True)
class CutMix:
    """CutMix: a window of the image comes from a partner, and labels mix by area.

    The window has sqrt(1 - share) of either side, share ~ Beta(alpha, alpha), and its centre is uniform; what lies outside
    the image is left out, and the labels go by the area that is left.

    Args:
        alpha: above 0.
        p: probability that a draw mixes at all. IDC and its evaluation: 0.5.
    Raises:
        ValueError: if alpha is not positive or p is no probability.
    Reference: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019.
    """

    alpha: float = 1.0
    p: float = 0.5

    def __post_init__(self) -> None:
        _check(self.alpha, self.p)

    def draw(self, shape: Shape, random: Random, *, n: int | None = None) -> MixTransform:
        share, pairing = _draw(self.alpha, self.p, random, n)
        if share is None:
            return MixTransform(**pairing)
        rows = _interval(shape[1], share, random)
        columns = _interval(shape[2], share, random)
        covered = (rows[1] - rows[0]) * (columns[1] - columns[0])
        return MixTransform(1 - covered / (shape[1] * shape[2]), rows + columns, **pairing)


def _check(alpha: float, p: float) -> None:
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be positive and finite, got {alpha}")
    if not 0 <= p <= 1:
        raise ValueError(f"p must be between 0 and 1, got {p}")


def _draw(alpha: float, p: float, random: Random, n: int | None) -> tuple[float | None, dict[str, Any]]:
    """The share of the image itself, or None where nothing is mixed, and who is paired with whom."""
    shift, order = random.uniform(), None
    if n is not None:
        order = torch.randperm(n, generator=random.device, device=random.device.device)
    share = _share(alpha, random)
    pairing = {"shift": shift, "order": order}
    return (None, pairing) if random.uniform() >= p else (share, pairing)


def _share(alpha: float, random: Random) -> float:
    if alpha == 1:
        return random.uniform()
    with random.scope():
        return float(torch.distributions.Beta(alpha, alpha).sample())


def _interval(size: int, share: float, random: Random) -> tuple[int, int]:
    """Along one side: a window of sqrt(1 - share) of it, centred on any pixel, as far as it lies on the image."""
    half = int(size * math.sqrt(1 - share)) // 2
    centre = random.integer(size)
    return max(0, centre - half), min(size, centre + half)

"""Budgets: in images a class, or in bytes, where the number of images and their quality have to be chosen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ddreplay.augment.siamese import DIGITS
from ddreplay.backbones import ConvNet, Net
from ddreplay.data.pool import ClassPool
from ddreplay.data.space import to_pixels
from ddreplay.evaluate import Protocol as Training
from ddreplay.evaluate import evaluate
from ddreplay.randomness import Random
from ddreplay.storage.budget import check_budget, share_of
from ddreplay.storage.codecs import BudgetTooSmall, Codec, nbytes
from ddreplay.storage.codecs.sheets import Pictures
from ddreplay.storage.condensed_set import CondensedSet

__all__ = [
    "AtQuality",
    "ByCodec",
    "ChooseCount",
    "Fixed",
    "Validated",
]

log = logging.getLogger(__name__)


Make = Callable[[ClassPool, int], CondensedSet]


"""A pool and a number of images a class -> a set within the budget."""


@runtime_checkable
class ChooseCount(Protocol):
    """How many images a class a budget in bytes should be spent on; their quality follows."""

    def __call__(self, pool: ClassPool, codec: Codec, bytes_per_class: int | float, make: Make, seed: int) -> int: ...


@dataclass(frozen=True)
class Fixed:
    """Always this many images; only their quality follows the budget."""

    images_per_class: int

    def __post_init__(self) -> None:
        check_budget(self.images_per_class)

    def __call__(self, pool: ClassPool, codec: Codec, bytes_per_class: int | float, make: Make, seed: int) -> int:
        return self.images_per_class


@dataclass(frozen=True)
class AtQuality:
    """As many images a class, to 3 %, as the pool's first real ones fit at a low quality: no trial, seconds instead of minutes.

    Args:
        share: that quality's place among those of the codec, from 0 (fewest bytes) to 1. ``None``: 1.5 over the shorter side in
            pixels, because small images have little that can be left out.
    Reference: Ours, from trials on held-out images (docs/results.md): 0.05 on CIFAR-10 for condensed images, 0.03 to 0.08 alike for real
        ones; 0.1 to 0.4 on 8 x 8 digits.
    """

    share: float | None = None

    def __post_init__(self) -> None:
        if self.share is not None and (not 0 <= self.share <= 1):
            raise ValueError(f"share must lie in [0, 1] or be None, got {self.share}")

    def __call__(self, pool: ClassPool, codec: Codec, bytes_per_class: int | float, make: Make, seed: int) -> int:
        family = codec.qualities()
        share = 1.5 / max(2, min(pool.shape[1:])) if self.share is None else self.share
        wanted = family[round(share * (len(family) - 1))]
        return _most(pool, wanted, bytes_per_class, fitting=0, tolerance=1 / 32) or 1


@dataclass(frozen=True)
class Validated:
    """The number of images a class whose set teaches a network most, by held-out images of the pool.

    Numbers grow by a factor of about 1.4; the search goes uphill, three numbers at a stride, then one, from a first guess: an image
    takes as many bytes as its side has pixels. Where nothing can be held out or there is one class, the guess is taken.

    Args:
        net: trained on every candidate; ``None``: a ConvNet of width 32.
        visits: images a class that it is trained on, repetitions included. Too few favour few images.
        fraction: of every class that is held out.
    """

    net: Net | None = None
    _: KW_ONLY
    visits: int = 1200
    fraction: float = 0.2

    def __post_init__(self) -> None:
        if self.visits < 1 or not 0 < self.fraction < 1:
            raise ValueError(f"visits and fraction (below 1) must be positive, got {self.visits} and {self.fraction}")

    def __call__(self, pool: ClassPool, codec: Codec, bytes_per_class: int | float, make: Make, seed: int) -> int:
        counts = candidates(pool, codec, bytes_per_class)
        guess = bytes_per_class / min(pool.shape[1:])
        at = min(range(len(counts)), key=lambda k: abs(counts[k] - guess))
        kept, held = _split(pool, self.fraction, Random(seed))
        if held is None or len(counts) == 1:
            return counts[at]
        scores: dict[int, float] = {}

        def score(k: int) -> float:
            if k not in scores:
                scores[k] = self._score(make(kept, counts[k]), held, seed)
            return scores[k]

        for stride in (3, 1):  # uphill from the guess, in strides first: one number's score is noisy
            while (best := max((k for k in (at, at + stride, at - stride) if 0 <= k < len(counts)), key=score)) != at:
                at = best
        log.info(
            "images a class -> validation accuracy: %s", {counts[k]: round(v, 2) for k, v in sorted(scores.items())}
        )
        return counts[at]

    def _score(self, condensed: CondensedSet, held: ClassPool, seed: int) -> float:
        images = len(condensed)
        epochs = max(1, self.visits * held.classes // images)
        training = Training("validation", epochs=epochs - 1, augment=DIGITS, batch_size=min(64, max(8, images // 8)))
        return evaluate(condensed, held, self.net or ConvNet(width=32), protocol=training, seeds=1, seed=seed).mean


@dataclass(frozen=True)
class ByCodec:
    """`AtQuality` where images are stored as pictures, whose low qualities keep most of what teaches; else `Validated`."""

    pictures: ChooseCount = AtQuality()
    others: ChooseCount = Validated()

    def __call__(self, pool: ClassPool, codec: Codec, bytes_per_class: int | float, make: Make, seed: int) -> int:
        rule = self.pictures if isinstance(codec, Pictures) else self.others
        return rule(pool, codec, bytes_per_class, make, seed)


def candidates(pool: ClassPool, codec: Codec, bytes_per_class: int | float) -> list[int]:
    """Numbers of images a class worth trying: from all at the highest quality to all at the lowest, by factors of 1.4.

    Raises:
        BudgetTooSmall: when one image of every class at the lowest quality is too large.
    """
    lowest, highest = codec.qualities()[0], codec.qualities()[-1]
    counts = [1]
    while counts[-1] < max(pool.counts):
        counts.append(min(max(pool.counts), max(counts[-1] + 1, round(counts[-1] * 1.4))))
    fitting, full = [], 1
    for n in counts:
        if not _fits(pool, lowest, n, bytes_per_class):
            break
        fitting.append(n)
    if not fitting:
        raise BudgetTooSmall(
            f"not one image of every class fits into {bytes_per_class:g} bytes a class at the lowest quality of {codec!r}; "
            "raise the budget or use a codec of fewer bytes"
        )
    if lowest == highest:
        return [_most(pool, lowest, bytes_per_class, fitting=fitting[-1])]
    for n in fitting:
        if not _fits(pool, highest, n, bytes_per_class):
            break
        full = n
    return [n for n in fitting if n >= full]


def _most(pool: ClassPool, codec: Codec, bytes_per_class: int | float, *, fitting: int, tolerance: float = 0.0) -> int:
    """How many images a class fit, of a number that does and all; by doubling, then bisection."""
    beyond, stride = max(pool.counts) + 1, max(1, fitting)
    while fitting + stride < beyond and _fits(pool, codec, fitting + stride, bytes_per_class):
        fitting, stride = fitting + stride, fitting + stride
    beyond = min(beyond, fitting + stride)
    while beyond - fitting > max(1, tolerance * fitting):
        middle = (fitting + beyond) // 2
        fitting, beyond = (middle, beyond) if _fits(pool, codec, middle, bytes_per_class) else (fitting, middle)
    return fitting


def _fits(pool: ClassPool, codec: Codec, n: int, bytes_per_class: int | float) -> bool:
    counts = tuple(min(n, have) for have in pool.counts)
    blocks = [_first_pixels(pool, k, count) for k, count in enumerate(counts)]
    return nbytes(codec.encode(blocks)) <= share_of(pool, bytes_per_class, counts)


def _first_pixels(pool: ClassPool, position: int, n: int) -> Tensor:
    start = sum(pool.counts[:position])
    rows = torch.arange(start, start + n, device=pool.device)
    return to_pixels(pool.rows(rows), pool.mean, pool.std).cpu()


def _split(pool: ClassPool, fraction: float, random: Random) -> tuple[ClassPool, ClassPool | None]:
    """Images kept and images held out of every class; a class of one image keeps it."""
    kept, held, start = [], [], 0
    for n in pool.counts:
        order = torch.randperm(n, generator=random.cpu) + start
        cut = min(max(1, round(fraction * n)), n - 1)
        held.append(order[:cut])
        kept.append(order[cut:])
        start += n
    if pool.classes == 1 or any(len(rows) == 0 for rows in held):
        return pool, None
    return pool.subset(torch.cat(kept)), pool.subset(torch.cat(held))

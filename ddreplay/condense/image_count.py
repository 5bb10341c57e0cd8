"""How many images a budget in bytes is spent on; their quality follows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ddreplay.augment import DIGITS
from ddreplay.backbones import ConvNet, Net
from ddreplay.condense.condenser import Deadline, OnProgress, Progress
from ddreplay.data.pool import ClassPool
from ddreplay.data.space import Shape, to_pixels
from ddreplay.evaluation import Protocol as Training
from ddreplay.evaluation import evaluate
from ddreplay.randomness import Random
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import BudgetTooSmall, Codec, nbytes
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["AtQuality", "ByCodec", "ChooseCount", "CountQuestion", "Fixed", "Validated", "hold_out"]

log = logging.getLogger(__name__)

Make = Callable[[ClassPool, int], CondensedSet]
"""A pool and a number of images per class -> a set within the budget."""


def _nothing(images: int) -> int:
    return 0


@dataclass(frozen=True)
class CountQuestion:
    """What is asked: how many images of every class of ``pool``, stored by ``codec``'s family, shall share the budget?

    Attributes:
        budget: in bytes, for each class.
        make: condenses a pool into so many images per class, within the budget, in a fraction of the time: for trials.
        beside: bytes of the whole set that so many images per class take beside themselves (coefficients, for example).
        deadline: until when the answer is due.
        on_progress: is told of every candidate tried.
    """

    pool: ClassPool
    codec: Codec
    budget: Budget
    make: Make
    seed: int = 0
    beside: Callable[[int], int] = _nothing
    deadline: Deadline = field(default_factory=Deadline)
    on_progress: OnProgress | None = None

    @property
    def bytes_per_class(self) -> float:
        """Bytes that each class has."""
        return float(self.budget.share(self.pool.classes))

    def fits(self, codec: Codec, n: int) -> bool:
        """Whether the first ``n`` real images of every class fit at this quality."""
        counts = tuple(min(n, have) for have in self.pool.counts)
        blocks = [_first_pixels(self.pool, k, count) for k, count in enumerate(counts)]
        return nbytes(codec.encode(blocks)) + self.beside(n) <= self.budget.room(self.pool, counts)

    def most(self, codec: Codec, *, fitting: int, tolerance: float = 0.0, told: bool = False) -> int:
        """How many images per class fit at this quality, of a number that does and all; by doubling, then bisection.

        Args:
            tolerance: how far below that the answer may lie, a share of it.
            told: tell ``on_progress`` of every number tried.
        """
        beyond, stride, tried = max(self.pool.counts) + 1, max(1, fitting), 0

        def more(n: int) -> bool:
            nonlocal tried
            found, tried = self._more(codec, n), tried + 1
            if told and self.on_progress is not None:
                low, high = (n, beyond) if found else (fitting, n)
                left = math.ceil(math.log2(max(1.0, (high - low) / max(1.0, tolerance * low))))
                self.on_progress(Progress("images", tried, tried + left))
            return found

        while fitting + stride < beyond and more(fitting + stride):
            fitting, stride = fitting + stride, fitting + stride
        if fitting + stride >= beyond and more(beyond - 1):
            return beyond - 1
        beyond = min(beyond, fitting + stride)
        while beyond - fitting > max(1, tolerance * fitting):
            middle = (fitting + beyond) // 2
            fitting, beyond = (middle, beyond) if more(middle) else (fitting, middle)
        return fitting

    def _more(self, codec: Codec, n: int) -> bool:
        """Whether so many fit, and there is time to find out."""
        if self.deadline.over():
            self.cut("the search for the number of images that fit")
            return False
        return self.fits(codec, n)

    def cut(self, what: str) -> None:
        """Note that something was left out."""
        if what not in self.deadline.cut:
            self.deadline.cut.append(what)
            log.warning("time is up: %s was cut short", what)


@runtime_checkable
class ChooseCount(Protocol):
    """How many images per class a budget in bytes should be spent on; their quality follows."""

    def __call__(self, asked: CountQuestion) -> int: ...


@dataclass(frozen=True)
class Fixed:
    """Always this many images; only their quality follows the budget.

    Args:
        images_per_class: how many stored images of every class.
    """

    images_per_class: int

    def __post_init__(self) -> None:
        Budget.images(self.images_per_class)

    def __call__(self, asked: CountQuestion) -> int:
        return self.images_per_class


@dataclass(frozen=True)
class AtQuality:
    """As many images per class, to 3 %, as the pool's first real ones fit at a low quality: no trial, seconds instead of minutes.

    Args:
        share: that quality's place among those of the codec, from 0 (fewest bytes) to 1. ``None``: 1.5 over the shorter side in
            pixels, because small images have little that can be left out; of what is above the codec's ``reserve``, where it has one.
    Reference: Ours, from trials on held-out images (docs/results.md): 0.05 on CIFAR-10 for condensed images, 0.03 to 0.08 alike for real
        ones; 0.1 to 0.4 on 8 x 8 digits.
    """

    share: float | None = None

    def __post_init__(self) -> None:
        if self.share is not None and not 0 <= self.share <= 1:
            raise ValueError(f"share must lie in [0, 1] or be None, got {self.share}")

    def __call__(self, asked: CountQuestion) -> int:
        return asked.most(self.member(asked.codec, asked.pool.shape), fitting=0, tolerance=1 / 32, told=True) or 1

    def member(self, codec: Codec, shape: Shape) -> Codec:
        """The member of a codec's family at that low quality, for images of this shape."""
        family = codec.qualities()
        share = self.share
        if share is None:
            reserve: float = getattr(codec, "reserve", 0.0)
            share = reserve + (1 - reserve) * 1.5 / max(2, min(shape[1:]))
        return family[round(share * (len(family) - 1))]


@dataclass(frozen=True)
class Validated:
    """The number of images per class whose set teaches a network most, by held-out images of the pool.

    Numbers grow by a factor of about 1.4; the search goes uphill, three numbers at a stride, then one, from a first guess: an image
    takes as many bytes as its side has pixels. Where nothing can be held out or there is one class, the guess is taken; where time is
    up, the best so far.

    Args:
        net: trained on every candidate; ``None``: a ConvNet of width 32.
        visits: images per class that it is trained on, repetitions included. Too few favour few images.
        fraction: the share of every class that is held out.
    """

    net: Net | None = None
    _: KW_ONLY
    visits: int = 1200
    fraction: float = 0.2

    def __post_init__(self) -> None:
        if self.visits < 1 or not 0 < self.fraction < 1:
            raise ValueError(f"visits and fraction (below 1) must be positive, got {self.visits} and {self.fraction}")

    def __call__(self, asked: CountQuestion) -> int:
        counts = candidates(asked)
        guess = asked.bytes_per_class / min(asked.pool.shape[1:])
        at = min(range(len(counts)), key=lambda k: abs(counts[k] - guess))
        kept, held = hold_out(asked.pool, self.fraction, Random(asked.seed))
        if held is None or len(counts) == 1:
            return counts[at]
        scores: dict[int, float] = {}
        stride = 3

        def around(k: int, stride: int) -> list[int]:
            return [n for n in (k, k + stride, k - stride) if 0 <= n < len(counts)]

        def score(k: int) -> float:
            if k not in scores:
                found = None if asked.deadline.over() else self._score(asked, kept, held, counts[k])
                if found is None:
                    asked.cut("trials of numbers of images")
                    return -1.0
                scores[k] = found
                if asked.on_progress is not None:
                    ahead = {*around(at, stride), *around(at, 1)}  # if no number is better than this one
                    asked.on_progress(Progress("images", len(scores), len(ahead | scores.keys())))
            return scores[k]

        for stride in (3, 1):  # uphill from the guess, in strides first: one number's score is noisy
            while (best := max(around(at, stride), key=score)) != at:
                at = best
        log.info(
            "images per class -> validation accuracy: %s", {counts[k]: round(v, 2) for k, v in sorted(scores.items())}
        )
        return counts[at]

    def _score(self, asked: CountQuestion, kept: ClassPool, held: ClassPool, count: int) -> float | None:
        """None where time ran out before it was known."""
        condensed = asked.make(kept, count)
        images = len(condensed)
        epochs = max(1, self.visits * held.classes // images)
        training = Training("validation", epochs=epochs - 1, augment=DIGITS, batch_size=min(64, max(8, images // 8)))

        def check(_: int, __: int) -> None:
            if asked.deadline.over():
                raise _OutOfTime

        try:
            check(0, 0)
            how = {"protocol": training, "seeds": 1, "seed": asked.seed, "on_epoch": check}
            return evaluate(condensed, held, self.net or ConvNet(width=32), **how).mean  # type: ignore[arg-type]
        except _OutOfTime:
            return None


class _OutOfTime(Exception):
    """A trial could not be finished."""


@dataclass(frozen=True)
class ByCodec:
    """`AtQuality` where images are stored as pictures, whose low qualities keep most of what teaches; else `Validated`.

    Args:
        pictures: the rule for pictures.
        others: the rule for every other codec.
    """

    pictures: ChooseCount = AtQuality()
    others: ChooseCount = Validated()

    def __call__(self, asked: CountQuestion) -> int:
        rule = self.pictures if asked.codec.bounded and asked.codec.lossy else self.others
        return rule(asked)


def candidates(asked: CountQuestion) -> list[int]:
    """Numbers of images per class worth trying: from all at the highest quality to all at the lowest, by factors of 1.4.

    Raises:
        BudgetTooSmall: when one image of every class at the lowest quality is too large.
    """
    lowest, highest = asked.codec.qualities()[0], asked.codec.qualities()[-1]
    counts = [1]
    while counts[-1] < max(asked.pool.counts):
        counts.append(min(max(asked.pool.counts), max(counts[-1] + 1, round(counts[-1] * 1.4))))
    fitting, full = [], 1
    for n in counts:
        if not asked.fits(lowest, n):
            break
        fitting.append(n)
    if not fitting:
        raise BudgetTooSmall(
            f"not one image of every class fits into {asked.bytes_per_class:g} bytes per class at the lowest quality of {asked.codec!r}; "
            "raise the budget or use a codec of fewer bytes"
        )
    if lowest == highest:
        return [asked.most(lowest, fitting=fitting[-1])]
    for n in fitting:
        if not asked.fits(highest, n):
            break
        full = n
    return [n for n in fitting if n >= full]


def _first_pixels(pool: ClassPool, position: int, n: int) -> Tensor:
    start = sum(pool.counts[:position])
    rows = torch.arange(start, start + n, device=pool.device)
    return to_pixels(pool.rows(rows), pool.mean, pool.std).cpu()


def hold_out(
    pool: ClassPool, fraction: float, random: Random, most: int | None = None
) -> tuple[ClassPool, ClassPool | None]:
    """Images kept and images held out of every class, a share of it and at most ``most``; a class of one image keeps it.

    None is held out where that is no test: a class has one image, or is alone.
    """
    distinct, kept, held, start = pool.distinct_rows().cpu(), [], [], 0
    for n in pool.counts:
        own = distinct[(distinct >= start) & (distinct < start + n)]
        order = own[torch.randperm(len(own), generator=random.cpu)]
        cut = min(max(1, round(fraction * len(own))), len(own) - 1, n if most is None else most)
        held.append(order[:cut])
        kept.append(_without(pool, torch.arange(start, start + n), order[:cut]))
        start += n
    if pool.classes == 1 or any(len(rows) == 0 for rows in held):
        return pool, None
    return pool.subset(torch.cat(kept)), pool.subset(torch.cat(held))


def _without(pool: ClassPool, rows: Tensor, held: Tensor) -> Tensor:
    """Those of the rows whose images are not held out."""
    of = torch.arange(len(pool)) if pool.origin is None else pool.origin.cpu()
    return rows[~torch.isin(of[rows], of[held])]

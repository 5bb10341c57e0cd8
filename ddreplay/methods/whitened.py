"""Any method on whitened images."""

from __future__ import annotations

import time
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from ddreplay.condense.condenser import Condenser, TakesMore, stored_by
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.provenance import describe, provenance
from ddreplay.data.pool import ClassPool
from ddreplay.methods.selections import Selection
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import BudgetTooSmall, Codec, dct, uint8
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.decoders import Whitened as WhitenedDecoder
from ddreplay.storage.part import Part
from ddreplay.storage.whitening import Whitening

__all__ = [
    "Whitened",
]


@dataclass(frozen=True)
class Whitened:
    """A method on whitened images (ZCA), as MTT, TESLA and BPTT are mostly published: ``Whitened(mtt(net))``.

    The whitening is fitted on the pool and stored in the set, so the set's images are ordinary ones for pictures and replay, and
    `evaluate` whitens the set and the test images again before it trains.

    Args:
        condenser: The method.
        eps: The number added to every variance, of pixels in [0, 1]. Paper of MTT: 0.1.
        rank: The number of directions of largest variance that are scaled one by one, the rest by their mean variance; ``None``:
            all. All directions of 32 x 32 colour images take 38 MB in the set, which is charged; a rank of 64 takes 0.8 MB.
    Departures: variances beyond ``rank`` are replaced by their mean.
    Reference: Nguyen et al., "Dataset Distillation with Infinitely Wide Convolutional Networks", NeurIPS 2021; Cazenavette et al.,
        CVPR 2022.
    Example:
        >>> from ddreplay import ConvNet, methods
        >>> Whitened(methods.dm(ConvNet(width=8), steps=2))(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """

    condenser: Condenser
    _: KW_ONLY
    eps: float = 0.1
    rank: int | None = None

    @property
    def takes(self) -> frozenset[str]:
        """What the method takes, but for other classes, which would have to be whitened alike."""
        return (self.condenser.takes if isinstance(self.condenser, TakesMore) else frozenset()) - {"beside"}

    @property
    def name(self) -> str:
        """That of the method, for provenance."""
        return "whitened"

    def __call__(self, pool: ClassPool, budget: Budget | int, *, seed: int = 0, **how: Any) -> CondensedSet:
        """Whiten, condense, and store the whitening with the set; ``how``: what the method takes besides.

        With a budget in bytes the whitening is charged too, and where no codec is named, `dct` stores what is left: whitened values
        do not lie in 0..1, as pictures need.

        Raises:
            TypeError, ValueError: when the budget is none, too small, or the method's codec makes pictures.
        """
        budget, started = Budget.of(budget), time.perf_counter()
        codec = self._codec(budget)
        count = 0 if budget.in_bytes else int(budget.share(pool.classes))
        small = [k for k, n in enumerate(pool.counts) if n <= count]
        large = [k for k in range(pool.classes) if k not in small]
        parts: list[Part] = []
        about: dict[str, Any] = {}
        if large:
            whitening = Whitening.fit(pool, eps=self.eps, rank=self.rank)
            inner, left = stored_by(self.condenser, codec), _left(budget, pool, whitening)
            found = inner(whitening.pool(pool.select(large)), left, seed=seed, **how)
            parts += [_in_pixels(part, pool.select(large), whitening) for part in found.parts]
            about = dict(found.provenance)
        if small:
            kept = pool.select(small)
            parts.append(Part.of_images(kept, [kept.of_class(k) for k in range(kept.classes)], uint8()))
        about = {**provenance(self, pool, count, seed, started), **about}
        more: dict[str, Any] = {"whitened": {"eps": self.eps, "rank": self.rank}, "settings": describe(self)}
        if budget.in_bytes:
            more["max_bytes"] = budget.total(pool.classes)
        return CondensedSet(tuple(parts), {**about, **more})

    def stored_by(self, codec: Codec) -> Whitened:
        """The same method with another codec."""
        return replace(self, condenser=stored_by(self.condenser, codec))

    def _codec(self, budget: Budget) -> Codec | None:
        """The codec that is to be put into the method; None where it has its own."""
        own = self.condenser.codec if isinstance(self.condenser, (Distiller, Selection)) else None
        if own is not None and own.bounded:
            raise ValueError(
                f"codec {own.name} stores pictures of values in 0..1, which whitened images leave; use dct, bits, uint8 or float16"
            )
        return dct() if own is None and budget.in_bytes else None


def _left(budget: Budget, pool: ClassPool, whitening: Whitening) -> Budget:
    """What the budget leaves when the whitening is paid."""
    if not budget.in_bytes:
        return budget.of_each(pool.classes)
    own = sum(tensor.nbytes for tensor in whitening.tensors().values())
    left = budget.total(pool.classes) - own
    if left < pool.classes:
        raise BudgetTooSmall(
            f"the whitening alone takes {own} bytes of {budget.total(pool.classes)}; raise the budget, or keep fewer directions (rank=)"
        )
    return Budget.bytes(left / pool.classes)


def _in_pixels(part: Part, pool: ClassPool, whitening: Whitening) -> Part:
    """The part of a whitened pool as one of the pool itself."""
    like = Part.of_images(pool, [pool.of_class(k)[:0] for k in range(pool.classes)], uint8())
    return replace(
        part,
        decoder=WhitenedDecoder(part.decoder),
        beside={**part.beside, **whitening.tensors()},
        mean=like.mean,
        std=like.std,
    )

"""Any method on whitened images."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from ddreplay.condense.condenser import Condenser
from ddreplay.condense.provenance import describe
from ddreplay.data.pool import ClassPool
from ddreplay.storage.budget import check_budget
from ddreplay.storage.codecs import uint8
from ddreplay.storage.condensed_set import CondensedSet
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
        eps, rank: see `Whitening.fit`. All directions of 32 x 32 colour images take 38 MB in the set, which is charged; a rank
            of 64 takes 0.8 MB.
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

    def __call__(self, pool: ClassPool, images_per_class: int, *, seed: int = 0, **how: Any) -> CondensedSet:
        check_budget(images_per_class)
        small = [k for k, n in enumerate(pool.counts) if n <= images_per_class]
        large = [k for k in range(pool.classes) if k not in small]
        parts: list[Part] = []
        provenance: dict[str, Any] = {"method": "whitened", "images_per_class": images_per_class, "seed": seed}
        if large:
            whitening = Whitening.fit(pool, eps=self.eps, rank=self.rank)
            found = self.condenser(whitening.pool(pool.select(large)), images_per_class, seed=seed, **how)
            parts += [_in_pixels(part, pool, whitening) for part in found.parts]
            provenance = dict(found.provenance)
        if small:
            kept = pool.select(small)
            parts.append(Part.of_images(kept, [kept.of_class(k) for k in range(kept.classes)], uint8()))
        how_whitened = {"eps": self.eps, "rank": self.rank}
        return CondensedSet(tuple(parts), {**provenance, "whitened": how_whitened, "settings": describe(self)})


def _in_pixels(part: Part, pool: ClassPool, whitening: Whitening) -> Part:
    """The part of a whitened pool as one of the pool itself."""
    like = Part.of_stored(pool, {}, part.codec, part.counts)
    stored = {**part.stored, **whitening.tensors()}
    return replace(part, stored=stored, layout={**part.layout, "whitened": True}, mean=like.mean, std=like.std)

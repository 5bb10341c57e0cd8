"""The order in which a set shrinks best: the first k images of every class are themselves a good set of k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.backbones import Net, Probe, as_factory
from ddreplay.condense.condenser import Condenser, TakesMore, stored_by
from ddreplay.condense.provenance import describe
from ddreplay.data.pool import ClassPool
from ddreplay.methods.practical import default_net
from ddreplay.methods.selection_rules import herd
from ddreplay.randomness import Random
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import Codec, fill, fit_quality
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.part import Part

__all__ = ["PrefixOrdered", "prefix_ordered", "reordered"]


def prefix_ordered(
    condensed: CondensedSet, net: Net | None = None, *, networks: int = 4, seed: int = 0
) -> CondensedSet:
    """The same images, in the order in which greedy herding takes them from their class.

    Under new networks, image after image is the one whose embedding brings the mean of those taken nearest to the mean of the whole
    class's set:

        argmin_i || mu - (sum of taken + f_i) / (k + 1) ||

    A memory that shrinks keeps its first images (`CondensedSet.take`), which then are a good choice at every size. Images are encoded
    anew, within the bytes they had, so that a set under a lossy codec is ordered once, if at all; a part whose images need each other
    stays as it is.

    Args:
        net: looks at the images; ``None``: a ConvNet of width 32, or an MLP where images are too small for it.
        networks: how many, each new.
        seed: of the networks.
    Raises:
        ValueError: when networks is below 1.
    Reference: the greedy choice is that of Welling, "Herding Dynamical Weights to Learn", ICML 2009.
    Example:
        >>> from ddreplay.methods import selections
        >>> prefix_ordered(selections.random()(toy_pool(), 4)).stored_images
        12
    """
    if networks < 1:
        raise ValueError(f"networks must be at least 1, got {networks}")
    return replace(condensed, parts=tuple(_ordered(part, net, networks, Random(seed)) for part in condensed.parts))


@dataclass(frozen=True)
class PrefixOrdered:
    """A condenser whose sets are ordered (`prefix_ordered`): for a memory that shrinks, ``PrefixOrdered(dm())``.

    A memory under ``max_bytes`` or ``max_size`` keeps the first images of what it holds as new classes come.

    Args:
        condenser: makes the sets.
        net, networks: as in `prefix_ordered`.
    Raises:
        ValueError: when networks is below 1.
    Example:
        >>> from ddreplay.memory import CondensedMemory
        >>> from ddreplay.methods import selections
        >>> memory = CondensedMemory(PrefixOrdered(selections.random()), max_bytes=4000)
        >>> memory.update(toy_pool())
        >>> memory.nbytes <= 4000
        True
    """

    condenser: Condenser
    _: KW_ONLY
    net: Net | None = None
    networks: int = 4

    def __post_init__(self) -> None:
        if self.networks < 1:
            raise ValueError(f"networks must be at least 1, got {self.networks}")

    @property
    def takes(self) -> frozenset[str]:
        """What the condenser takes."""
        return self.condenser.takes if isinstance(self.condenser, TakesMore) else frozenset()

    @property
    def name(self) -> str:
        """That of the method, for provenance."""
        return "prefix_ordered"

    def __call__(self, pool: ClassPool, budget: Budget | int, *, seed: int = 0, **how: Any) -> CondensedSet:
        """Condense, then order; ``how``: what the condenser takes besides.

        Raises:
            TypeError, ValueError: as the condenser does.
        """
        found = prefix_ordered(
            self.condenser(pool, budget, seed=seed, **how), self.net, networks=self.networks, seed=seed
        )
        order = {"net": describe(self.net), "networks": self.networks}
        return replace(found, provenance={**found.provenance, "prefix_ordered": order})

    def stored_by(self, codec: Codec) -> PrefixOrdered:
        """The same with another codec.

        Raises:
            TypeError: when the condenser's codec cannot be set.
        """
        return replace(self, condenser=stored_by(self.condenser, codec))


def _ordered(part: Part, net: Net | None, networks: int, random: Random) -> Part:
    if part.beside or max(part.counts, default=0) < 2:
        return part
    return reordered(part, [herd(own, len(own)).tolist() for own in _features(part, net, networks, random)])


def reordered(part: Part, orders: Sequence[Sequence[int]]) -> Part:
    """The stored images of every class in this order, encoded anew within the bytes that they had; soft labels go with them."""
    blocks = [
        x[list(order)] for x, order in zip(part.codec.decode(part.stored, part.counts, part.shape), orders, strict=True)
    ]
    soft = part.soft_labels
    if soft is not None:
        of_class = zip(soft.split([len(x) for x in part.images]), orders, part.counts, strict=True)
        soft = torch.cat([block[_decoded_order(part, count, order)] for block, order, count in of_class])
    codec, stored = part.codec, fill(part.codec, blocks, part.images_nbytes)
    if sum(tensor.nbytes for tensor in stored.values()) > part.images_nbytes:  # pictures side by side help each other
        codec = fit_quality(codec, blocks, max_bytes=part.images_nbytes, near=codec)
        stored = fill(codec, blocks, part.images_nbytes)
    return replace(part, stored=stored, codec=codec, soft_labels=soft)


def _stems(part: Part, count: int) -> list[list[int]]:
    """Of every stored image of a class: which images trained on stem from it."""
    before: set[int] = set()
    found = []
    for k in range(count):
        rows = set(part.decoder.rows(count, k + 1))
        found.append(sorted(rows - before))
        before = rows
    return found


def _decoded_order(part: Part, count: int, order: Sequence[int]) -> list[int]:
    """Images trained on, as they come when the stored ones come in this order."""
    old = _stems(part, count)
    rows = [-1] * sum(len(stem) for stem in old)
    for place, k in enumerate(order):
        for new, was in zip(old[place], old[k], strict=True):
            rows[new] = was
    return rows


@torch.no_grad()
def _features(part: Part, net: Net | None, networks: int, random: Random) -> list[Float[Tensor, "n d"]]:
    """Embeddings of the stored images of every class, of all networks side by side; of the images they become, the mean."""
    made = as_factory(net if net is not None else default_net(part.shape))
    looks = []
    for _ in range(networks):
        with random.scope():
            looks.append(Probe(made(part.shape, max(2, len(part.counts))).eval()))
    found = []
    for x, count in zip(part.images, part.counts, strict=True):
        if count == 0:
            found.append(torch.zeros(0, 1))
            continue
        own = torch.cat([look(x).embedding for look in looks], 1)
        found.append(torch.stack([own[stem].mean(0) for stem in _stems(part, count)]))
    return found

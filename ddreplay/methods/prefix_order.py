"""The order in which a set shrinks best: the first k images of every class are themselves a good set of k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.backbones import MLP, ConvNet, Net, Probe, as_factory
from ddreplay.data.space import Shape
from ddreplay.methods.selection_rules import herd
from ddreplay.randomness import Random
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.part import Part

__all__ = ["prefix_ordered"]

SMALLEST = 4  # pixels of the shorter side that a ConvNet of two blocks takes


def prefix_ordered(
    condensed: CondensedSet, net: Net | None = None, *, networks: int = 4, seed: int = 0
) -> CondensedSet:
    """The same images, in the order in which greedy herding takes them from their class.

    Under new networks, image after image is the one whose embedding brings the mean of those taken nearest to the mean of the whole
    class's set:

        argmin_i || mu - (sum of taken + f_i) / (k + 1) ||

    A memory that shrinks keeps its first images (`CondensedSet.take`), which then are a good choice at every size. Images are encoded
    anew, so that a set under a lossy codec is ordered once, if at all; a part whose images need each other stays as it is.

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


def _ordered(part: Part, net: Net | None, networks: int, random: Random) -> Part:
    if part.beside or max(part.counts, default=0) < 2:
        return part
    features = _features(part, net, networks, random)
    orders = [herd(own, len(own)).tolist() for own in features]
    blocks = [
        x[order] for x, order in zip(part.codec.decode(part.stored, part.counts, part.shape), orders, strict=True)
    ]
    soft = part.soft_labels
    if soft is not None:
        of_class = zip(soft.split([len(x) for x in part.images]), orders, part.counts, strict=True)
        soft = torch.cat([block[_decoded_order(part, count, order)] for block, order, count in of_class])
    return replace(part, stored=part.codec.encode(blocks), soft_labels=soft)


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
    made = as_factory(net if net is not None else _default(part.shape))
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


def _default(shape: Shape) -> Net:
    return MLP(width=128) if min(shape[1:]) < SMALLEST else ConvNet(width=32)

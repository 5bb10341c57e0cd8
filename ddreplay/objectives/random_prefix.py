"""A term that holds for the first images of every class too, however few."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from ddreplay.objectives.side import Look, Side
from ddreplay.objectives.term import Statistic, Term
from ddreplay.randomness import Random

__all__ = ["RandomPrefix"]


class RandomPrefix(Term):
    """A term on all images of a class and on its first k, with another k at every step (Ours).

        L = (1 - w) T(R, s_1 .. s_n) + w T(R, s_1 .. s_k)          k uniform in 1 .. n - 1, the same for all classes

    The real side is that of the term, computed once for both. A memory that shrinks keeps the first images of every class
    (`CondensedSet.take`), which then were learned as a set of their own. A step takes about half as long again. Where a stored image
    holds several (`Partitioned`), the first images are no set of stored ones; `prefix_ordered` orders those afterwards.

    Args:
        term: what must agree, such as ``MeanEmbedding()``.
        weight: w, of the first images.
    Raises:
        TypeError: when the term has parameters for every image.
        ValueError: when weight is not between 0 and 1.
    Example:
        >>> from dataclasses import replace
        >>> from ddreplay import ConvNet, dm
        >>> from ddreplay.objectives import MeanEmbedding
        >>> ordered = replace(dm(ConvNet(width=8), steps=2), objective=RandomPrefix(MeanEmbedding()))
        >>> ordered(toy_pool(), 4).stored_images
        12
    """

    def __init__(self, term: Term, *, weight: float = 0.5) -> None:
        super().__init__()
        if term.sized:
            raise TypeError(
                f"term must compare images of any number, and {type(term).__name__} has parameters for every one of them; take another "
                "term, or order the set afterwards (prefix_ordered)"
            )
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must be between 0 and 1, got {weight}")
        self.term, self.weight = term, float(weight)
        self.taps, self.bankable, self.weight_gradients = term.taps, term.bankable, term.weight_gradients
        self.additive, self.discriminative, self.own_rate = term.additive, term.discriminative, term.own_rate

    def parameter_groups(self) -> list[dict[str, Any]]:
        return self.term.parameter_groups()

    def learned(self) -> dict[str, Any]:
        return self.term.learned()

    def summarise(self, real: Side) -> Statistic:
        return self.term.summarise(real)

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        if syn.per_class < 2 or self.weight == 0:
            return self.term.distance(statistic, syn)
        first = syn.by_class(syn.images)[:, : _length(syn.look, syn.per_class)].flatten(0, 1)
        few = self.term.distance(statistic, Side(syn.look, first, syn.positions, chunk=syn.chunk))
        if self.weight == 1:
            return few
        return (1 - self.weight) * self.term.distance(statistic, syn) + self.weight * few

    def describe(self) -> dict[str, Any]:
        return {"name": type(self).__name__, "weight": self.weight, "term": self.term.describe()}


def _length(look: Look, n: int) -> int:
    """k of this step: it follows from the number of the step alone, so that a run goes on to the same bits."""
    return 1 + Random(1_000_003 * look.round + look.step).integer(n - 1)

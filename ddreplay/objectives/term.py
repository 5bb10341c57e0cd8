"""What must agree: the terms of the objective, and what each keeps of the real side."""

from __future__ import annotations

import abc
import re
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.objectives.side import Look, PerImage, Side

__all__ = ["MeanTerm", "Shared", "Statistic", "Sum", "Term", "pick_classes"]

Statistic = tuple[Any, ...]
"""What a term keeps of the real side: tensors whose first axis is the class, in nested tuples."""


class Shared(tuple[Any, ...]):
    """A part of a statistic that belongs to all classes together: every class's step sees all of it."""


class Term(nn.Module, abc.ABC):
    """One thing that must agree between the real and the synthetic side.

    ``summarise`` keeps of the real side what the distance needs; the synthetic images do not change it, so it can be computed
    once and kept (a bank). ``distance`` compares it with the synthetic side and is what the images descend.
    Learnable extras are ordinary parameters. ``a + 0.5 * b`` is a term.
    """

    taps: tuple[str, ...] = ()
    """Names of the submodules whose outputs it reads (``Activations.maps``)."""
    bankable: bool = True
    """Whether the real statistic may be computed once and reused while the images change."""
    weight_gradients: bool = False
    """Whether it differentiates with respect to the network's weights."""
    additive: bool = False
    """Whether the distance of several classes is the sum of the distances of each class alone."""
    discriminative: bool = False
    """Whether it looks at what tells classes apart, so that it means nothing for one class alone."""

    reads_accuracy: bool = False
    """Whether it reads `Look.accuracy`: then a bank measures what its trained networks know."""
    sized: bool = False
    """Whether it has parameters whose size depends on the networks and images: then ``prepare`` is called before a run."""
    own_rate: bool = False
    """Whether its parameters learn at their ``lr`` whatever weight it has in a sum, which otherwise scales their gradient too."""

    def reads(self, look: Look) -> Sequence[PerImage]:
        """What ``distance`` asks the synthetic side for by `Side.values`: then all terms of a sum share one pass over many images."""
        return ()

    def prepare(self, syn: Side) -> None:
        """Make those parameters: ``syn`` is the images as they start, seen by a fresh network; the global generators are seeded."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Its learnable extras as groups of the optimiser; a group may name its own ``lr`` and ``momentum``."""
        own = list(self.parameters())
        return [{"params": own}] if own else []

    def soft_labels(self) -> Float[Tensor, "n classes"] | None:
        """Labels of the images trained on, class-major, where it learns them."""
        return None

    def learned(self) -> dict[str, Any]:
        """What it learned besides images and labels, as JSON, for the set's provenance."""
        return {}

    @abc.abstractmethod
    def summarise(self, real: Side) -> Statistic:
        """The statistic of the real side; called without gradients enabled."""

    @abc.abstractmethod
    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        """How far the synthetic side is from the statistic: a scalar with a graph to the images."""

    def describe(self) -> dict[str, Any]:
        """The name and every hyper-parameter."""
        values = {k: v for k, v in vars(self).items() if not k.startswith("_") and k != "training"}
        return {"name": type(self).__name__, **values}

    def __add__(self, other: Term) -> Sum:
        return Sum([self, other])

    def __rmul__(self, weight: float) -> Sum:
        return Sum([self], [float(weight)])


class MeanTerm(Term):
    """A term whose real statistic is the class mean of functions of single images.

    All such terms of an objective share one chunked pass over the real images.
    """

    additive = True

    @abc.abstractmethod
    def per_image(self, look: Look) -> Sequence[PerImage]:
        """Functions of activations [n, ...] -> [n, ...] that are averaged over each class; draws are made `Look.once`."""

    def keep(self, means: Sequence[Tensor]) -> Sequence[Tensor]:
        """What is kept of the class means, each [classes, ...]; by default all."""
        return means

    @abc.abstractmethod
    def compare(self, real: Sequence[Tensor], syn: Sequence[Tensor]) -> Float[Tensor, ""]:
        """The distance between what is kept of both sides."""

    def summarise(self, real: Side) -> Statistic:
        return tuple(self.keep(real.class_means(*self.per_image(real.look))))

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        return self.compare(statistic, self.keep(syn.class_means(*self.per_image(syn.look))))


class Sum(Term):
    """A weighted sum of terms; terms of weight zero are left out, so that they change no bit."""

    def __init__(self, terms: Sequence[Term], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        weights = [1.0] * len(terms) if weights is None else list(weights)
        flat: list[tuple[Term, float]] = []
        for term, weight in zip(terms, weights, strict=True):
            inner = zip(term.terms, term.weights, strict=True) if isinstance(term, Sum) else [(term, 1.0)]
            flat += [(t, w * weight) for t, w in inner]
        kept = [(t, w) for t, w in flat if w != 0]
        self.terms: list[Term] = nn.ModuleList([t for t, _ in kept])  # type: ignore[assignment]
        self.weights: tuple[float, ...] = tuple(w for _, w in kept)
        self.taps = tuple(dict.fromkeys(tap for t, _ in kept for tap in t.taps))
        self.bankable = all(t.bankable for t, _ in kept)
        self.weight_gradients = any(t.weight_gradients for t, _ in kept)
        self.additive = all(t.additive for t, _ in kept)
        self.sized = any(t.sized for t, _ in kept)
        self.reads_accuracy = any(t.reads_accuracy for t, _ in kept)
        self.discriminative = any(t.discriminative for t, _ in kept)
        self._names = _distinct([_in_words(type(t).__name__) for t, _ in kept])

    def prepare(self, syn: Side) -> None:
        for term in self.terms:
            term.prepare(syn)

    def reads(self, look: Look) -> Sequence[PerImage]:
        return [f for term in self.terms for f in term.reads(look)]

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = []
        for term, weight in zip(self.terms, self.weights, strict=True):
            scale = 1 / abs(weight) if term.own_rate else 1.0  # what the weight does to the gradient is undone
            groups += [
                {**group, "lr": scale * group["lr"]} if scale != 1 else group for group in term.parameter_groups()
            ]
        return groups

    def soft_labels(self) -> Tensor | None:
        return next((labels for term in self.terms if (labels := term.soft_labels()) is not None), None)

    def learned(self) -> dict[str, Any]:
        return {name: value for term in self.terms for name, value in term.learned().items()}

    def summarise(self, real: Side) -> Statistic:
        shared = [(t, t.per_image(real.look)) for t in self.terms if isinstance(t, MeanTerm)]
        means = real.class_means(*[f for _, functions in shared for f in functions]) if shared else []
        found: dict[Term, Statistic] = {}
        for term, functions in shared:
            found[term], means = tuple(term.keep(means[: len(functions)])), means[len(functions) :]
        return tuple(found[t] if t in found else t.summarise(real) for t in self.terms)

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        if syn.splits:
            means = [f for t in self.terms if isinstance(t, MeanTerm) for f in t.per_image(syn.look)]
            syn.share(means=means, values=self.reads(syn.look))
        total = syn.images.new_zeros(())
        for name, term, weight, part in zip(self._names, self.terms, self.weights, statistic, strict=True):
            value = term.distance(part, syn)
            value = value if weight == 1 else weight * value
            syn.shares[name] = value.detach()
            total = total + value
        return total

    def describe(self) -> dict[str, Any]:
        terms = [{"weight": w, **t.describe()} for t, w in zip(self.terms, self.weights, strict=True)]
        return {"name": "Sum", "terms": terms}


def _in_words(name: str) -> str:
    """``MutualInformation`` -> ``mutual information``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name).lower()


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names of which the second of a kind has a number."""
    return tuple(n if n not in names[:k] else f"{n} {names[:k].count(n) + 1}" for k, n in enumerate(names))


def pick_classes(statistic: Any, index: Sequence[int]) -> Any:
    """The statistic of these blocks of classes alone."""
    if isinstance(statistic, Shared):
        return statistic
    if isinstance(statistic, Tensor):
        positions, first = list(index), min(index)
        if positions == list(range(first, first + len(positions))):  # a list would be copied to the device
            return statistic[first : first + len(positions)]
        return statistic[positions]
    return tuple(pick_classes(part, index) for part in statistic)

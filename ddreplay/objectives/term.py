"""What must agree: the terms of the objective, and the two sides that they compare."""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ddreplay.augment.siamese import Augment, Transform
from ddreplay.backbones import Activations, Probe, draws_itself, mixes_images
from ddreplay.data.chunks import DrawnImages, Images
from ddreplay.objectives.pieces import Pass, by_pieces
from ddreplay.randomness import Random

__all__ = [
    "Look",
    "MeanTerm",
    "PerImage",
    "Shared",
    "Side",
    "Statistic",
    "Sum",
    "Term",
    "of_embedding",
    "of_logits",
    "pick_classes",
]

Statistic = tuple[Any, ...]
"""What a term keeps of the real side: tensors whose first axis is the class, in nested tuples."""


class Shared(tuple[Any, ...]):
    """A part of a statistic that belongs to all classes together: every class's step sees all of it."""


PerImage = Callable[[Activations], Tensor]
"""A function of what a network made of images, [n, ...] -> [n, ...], of each image by itself; equal ones are computed once."""

PIECE = 4
"""Chunks in one forward and backward pass: 1,600 images of 32x32 in pieces take 0.5 to 0.6 of the time of all at once."""

WHOLE = 8
"""Chunks whose graph is held. With more, images pass chunk by chunk, twice (`by_pieces`): on a CPU as fast as one large graph."""


def of_embedding(seen: Activations) -> Tensor:
    """What the classifier reads."""
    return seen.embedding


def of_logits(seen: Activations) -> Tensor:
    """What the classifier says."""
    return seen.logits


@dataclass(eq=False)
class Look:
    """One look of one network at both sides, under one augmentation draw.

    round: the number of networks that were shown before this one. step: the number of image steps that this one has seen.
    accuracy: the network's running accuracy on real data, in [0, 1], a number or a scalar on the device; 0 if nobody trained it
    on real data.
    random: draws whatever else a term needs (inner steps, subsets). target: what a source gives besides the network, such as an expert's
    later weights.
    """

    net: nn.Module
    probe: Probe
    transform: Transform
    augment: Augment
    random: Random
    round: int = 0
    step: int = 0
    accuracy: float | Tensor = 0.0
    target: Any = None
    _kept: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gives when first asked under this key, and the same at every later comparison under this look."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def mark(self) -> Callable[[], None]:
        """Gives what takes back all draws from now on, so that a comparison can be made again."""
        state, kept = self.random.state_dict(), dict(self._kept)

        def back() -> None:
            self.random.load_state_dict(state)
            self._kept = dict(kept)

        return back


class Side:
    """One side of a comparison: class-major images, seen through a look; what the network makes of them is computed once and shared.

    Args:
        images: before augmentation, [len(positions) * n, c, h, w]: a tensor, or real images that are fetched piece by piece.
        positions: the class of every block of n images.
        chunk: images in one forward where no gradient is needed; with one, up to `PIECE` times as many, and the graph of up to `WHOLE`
            times as many is held. ``None``, or a network that mixes the images of a batch: all at once.
    Attributes:
        shares: what each term of a `Sum` that compared this side came to, its weight included: detached scalars by the term's name.
    """

    def __init__(
        self,
        look: Look,
        images: Float[Tensor, "n c h w"] | DrawnImages,
        positions: Sequence[int],
        *,
        chunk: int | None = None,
    ) -> None:
        self.look = look
        self.source = images
        self.positions = tuple(positions)
        self.chunk = None if mixes_images(look.net) else chunk
        self.shares: dict[str, Tensor] = {}
        self._found: dict[tuple[bool, PerImage], Tensor] = {}
        if len(images) % len(self.positions):
            raise ValueError(f"{len(images)} images do not divide into {len(self.positions)} classes")

    @property
    def classes(self) -> int:
        return len(self.positions)

    @property
    def per_class(self) -> int:
        return len(self.source) // self.classes

    @cached_property
    def images(self) -> Float[Tensor, "n c h w"]:
        """All of them at once, before augmentation."""
        return self.source if isinstance(self.source, Tensor) else self.source[:]

    @cached_property
    def x(self) -> Float[Tensor, "n c h w"]:
        """All images at once, as the network sees them."""
        return self.look.transform(self.images)

    @cached_property
    def seen(self) -> Images:
        """The images as the network sees them, piece by piece: ``seen[start:stop]``."""
        return self.x if isinstance(self.source, Tensor) else _Transformed(self.source, self.look.transform)

    @cached_property
    def labels(self) -> Int64[Tensor, " n"]:
        """Class positions, int64 [n]."""
        first, device = self.positions[0], self.source.device
        if self.positions == tuple(range(first, first + self.classes)):
            positions = torch.arange(first, first + self.classes, device=device)
        else:
            positions = torch.tensor(self.positions).to(device, non_blocking=True)
        return positions.repeat_interleave(self.per_class)

    @property
    def splits(self) -> bool:
        """Whether the graph of all images is too large to hold; a network that draws anything would draw anew in a second pass."""
        large = self.chunk is not None and len(self.source) > WHOLE * self.chunk
        return large and not draws_itself(self.look.net)

    @cached_property
    def activations(self) -> Activations:
        """Of all images, maps included, whatever their number; with gradients in pieces of `PIECE` chunks."""
        probe, size = self.look.probe, PIECE * (self.chunk or len(self.x))
        if not torch.is_grad_enabled() or len(self.x) <= size:
            return probe(self.x)
        *full, last = self.x.split(size)
        seen = [probe(x) for x in full]
        if probe.compile and len(last) < size:  # a size of its own would be compiled for tens of seconds
            seen.append(_last(probe(self.x[-size:]), len(last)))
        else:
            seen.append(probe(last))
        maps = {name: torch.cat([part.maps[name] for part in seen]) for name in seen[0].maps}
        return Activations(torch.cat([s.logits for s in seen]), torch.cat([s.embedding for s in seen]), maps)

    @property
    def embedding(self) -> Float[Tensor, "n d"]:
        """What the classifier reads of every image."""
        return self.values(of_embedding)[0]

    @property
    def logits(self) -> Float[Tensor, "n k"]:
        """What the classifier says of every image."""
        return self.values(of_logits)[0]

    def by_class(self, values: Tensor) -> Tensor:
        """[classes * n, ...] -> [classes, n, ...]."""
        blocks: Tensor = values.unflatten(0, (self.classes, self.per_class))
        return blocks

    def values(self, *functions: PerImage) -> list[Tensor]:
        """Functions of every image's activations: a list of [n, ...], without ever holding the activations of more than `WHOLE` chunks."""
        if self._whole:
            return [f(self.activations) for f in functions]
        self.share(values=functions)
        return [self._found[False, f] for f in functions]

    def class_means(self, *functions: PerImage) -> list[Tensor]:
        """The mean over every class's images of functions of their activations: a list of [classes, ...]."""
        if self._whole:
            return [self.by_class(f(self.activations)).mean(1) for f in functions]
        self.share(means=functions)
        return [self._found[True, f] for f in functions]

    def share(self, *, means: Sequence[PerImage] = (), values: Sequence[PerImage] = ()) -> None:
        """Compute in one pass what `class_means` and `values` will be asked for, where images pass in pieces."""
        wanted = dict.fromkeys([(True, f) for f in means] + [(False, f) for f in values])
        missing = [key for key in wanted if key not in self._found]
        if self._whole or not missing or self.chunk is None:
            return
        probe, learned = self.look.probe, torch.is_grad_enabled()
        averaged, functions = tuple(mean for mean, _ in missing), [f for _, f in missing]

        def see(images: Tensor) -> list[Tensor]:
            seen = probe(self.look.transform(images))
            return [f(seen) for f in functions]

        how = Pass(see, averaged, self.classes, self.chunk, even=probe.compile and learned)
        found = by_pieces(how, self.images) if learned else how.over(self.source)
        self._found.update(zip(missing, found, strict=True))

    @property
    def _whole(self) -> bool:
        """Whether all images pass at once."""
        if torch.is_grad_enabled():
            return not self.splits
        return self.chunk is None or len(self.source) <= self.chunk


@dataclass(frozen=True)
class _Transformed:
    """Images that undergo an augmentation when they are taken; it must treat each by itself."""

    images: Images
    transform: Transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | Tensor, /) -> Float[Tensor, "m c h w"]:
        return self.transform(self.images[index])


def _last(seen: Activations, n: int) -> Activations:
    return Activations(seen.logits[-n:], seen.embedding[-n:], {name: values[-n:] for name, values in seen.maps.items()})


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

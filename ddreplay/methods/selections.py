"""Real images chosen instead of made: the selections that condensed sets are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ddreplay.backbones import ConvNet, Net, Probe, as_factory
from ddreplay.condense.condenser import Deadline, OnProgress, default_codec
from ddreplay.condense.image_count import ByCodec, ChooseCount, CountQuestion
from ddreplay.condense.provenance import provenance
from ddreplay.data.clustering import representatives
from ddreplay.data.pool import ClassPool, concatenate
from ddreplay.data.space import to_pixels
from ddreplay.evaluate import PROTOCOLS, predict, train
from ddreplay.randomness import Random
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import BudgetTooSmall, Codec, fit_quality, float32
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.part import Part

__all__ = [
    "Candidates",
    "Selection",
    "el2n",
    "embed",
    "forgetting",
    "grand",
    "herding",
    "k_center",
    "k_means",
    "random",
]


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a rule chooses from.

    pool: the images. known: all classes that a network is trained to tell apart; the pool's, and others where it has one alone.
    """

    pool: ClassPool
    known: ClassPool

    @classmethod
    def of(cls, pool: ClassPool, beside: ClassPool | None = None) -> Candidates:
        """The images of a pool; ``beside``: other known classes, which count where it has one class alone."""
        if pool.classes > 1 or beside is None:
            return cls(pool, pool)
        own = pool.class_ids.tolist()
        others = [k for k, c in enumerate(beside.class_ids.tolist()) if c not in own]
        return cls(pool, concatenate([pool, beside.select(others)]) if others else pool)

    def labels(self) -> Int64[Tensor, " n"]:
        """The output column of every image's class."""
        columns = torch.searchsorted(self.known.class_ids, self.pool.class_ids).to(self.pool.device)
        return columns[self.pool.all_labels()]


Rule = Callable[[Candidates, int, Random], list[Tensor]]
"""Candidates and a number per class -> for every class, the rows chosen inside the class, best first."""


@dataclass(frozen=True)
class Selection:
    """Chooses real images of every class by a rule; a condenser like any other.

    The chosen images stand best first, so a shorter prefix is what the rule would have chosen for a smaller budget.

    Attributes:
        codec: how the images are stored; ``None``: uint8 for a budget in images, AVIF for one in bytes (`default_codec`).
        choose: with a budget in bytes, how many images it is spent on; they are stored at the highest quality that fits.
    """

    rule: Rule
    codec: Codec | None = None
    name: str = "selection"
    choose: ChooseCount = ByCodec()

    takes: ClassVar[frozenset[str]] = frozenset(("seconds", "on_progress", "beside"))

    def __call__(
        self,
        pool: ClassPool,
        budget: Budget | int,
        *,
        seed: int = 0,
        seconds: float | None = None,
        on_progress: OnProgress | None = None,
        beside: ClassPool | None = None,
    ) -> CondensedSet:
        """Real images of every class within a budget, or all where there are fewer.

        Args:
            seconds: after so long no further number of images is tried.
            on_progress: is told of every number of images tried.
            beside: other classes that are known; looked at where the pool has one class alone, which then is told apart from them.
        Raises:
            TypeError, ValueError: when the budget is none, or below one image.
        """
        budget, deadline = Budget.of(budget), Deadline(seconds)
        codec = self.codec or default_codec(budget, pool.shape[0])
        more: dict[str, Any] = {}
        if budget.in_bytes:
            found = _InBytes(self, codec, budget.of_each(pool.classes), seed, beside)
            asked = CountQuestion(
                pool, codec, found.budget, found.trial, seed, deadline=deadline.part(0.5), on_progress=on_progress
            )
            count = self.choose(asked)
            part, more = found.take(pool, count), {"max_bytes": budget.total(pool.classes)}
        else:
            count = int(budget.share(pool.classes))
            chosen = self.rule(Candidates.of(pool, beside), count, Random(seed, pool.device))
            part = _part(pool, chosen, codec)
        if deadline.cut:
            more["cut"] = list(deadline.cut)
        return CondensedSet((part,), provenance(self, pool, count, seed, deadline.started, **more))

    def stored_by(self, codec: Codec) -> Selection:
        """The same selection with another codec."""
        return replace(self, codec=codec)


def _part(pool: ClassPool, chosen: list[Tensor], codec: Codec) -> Part:
    images = [pool.of_class(k)[rows.to(pool.device)] for k, rows in enumerate(chosen)]
    return Part.of_images(pool, images, codec)


class _InBytes:
    """A selection under a budget in bytes; a pool is ranked once for all numbers of images up to twice the first one asked for."""

    def __init__(self, selection: Selection, codec: Codec, budget: Budget, seed: int, beside: ClassPool | None) -> None:
        self.selection, self.codec, self.budget, self.seed, self.beside = selection, codec, budget, seed, beside
        self.ranked: dict[ClassPool, tuple[int, list[Tensor]]] = {}

    def take(self, pool: ClassPool, n: int) -> Part:
        """At most ``n`` images of every class, at the highest quality that fits; fewer where ``n`` do not."""
        if pool not in self.ranked or self.ranked[pool][0] < n:
            rule, random = self.selection.rule, Random(self.seed, pool.device)
            self.ranked[pool] = 2 * n, rule(Candidates.of(pool, self.beside), 2 * n, random)
        part = _part(pool, [rows[:n] for rows in self.ranked[pool][1]], float32())
        pixels = [to_pixels(x, pool.mean, pool.std) for x in part.images]
        try:
            codec = fit_quality(self.codec, pixels, max_bytes=self.budget.room(pool, part.counts))
        except BudgetTooSmall:  # these images are harder than those that the candidates were measured with
            if n == 1:
                raise
            return self.take(pool, n - max(1, n // 8))
        return replace(part, stored=codec.encode(pixels), codec=codec)

    def trial(self, kept: ClassPool, n: int) -> CondensedSet:
        return CondensedSet((self.take(kept, n),))


@dataclass(frozen=True)
class RandomRule:
    """Uniformly, without replacement."""

    def __call__(self, given: Candidates, images_per_class: int, random: Random) -> list[Tensor]:
        return [torch.randperm(n, generator=random.cpu)[:images_per_class] for n in given.pool.counts]


def random(*, codec: Codec | None = None) -> Selection:
    """A uniform choice per class: what a ring buffer holds after a shuffled stream.

    Args:
        codec: as in `herding`.
    """
    return Selection(RandomRule(), codec, "random")


def _check_training(epochs: int, networks: int = 1) -> None:
    if epochs < 0 or networks < 1:
        raise ValueError(f"epochs must be at least 0 and networks at least 1, got {epochs} and {networks}")


@dataclass(frozen=True)
class HerdingRule:
    """See `herding`."""

    net: Net
    epochs: int

    def __post_init__(self) -> None:
        _check_training(self.epochs)

    def __call__(self, given: Candidates, images_per_class: int, random: Random) -> list[Tensor]:
        features = embed(given, self.net, self.epochs, random)
        return [herd(f, min(images_per_class, len(f))) for f in features.split(list(given.pool.counts))]


def herding(net: Net | None = None, *, epochs: int = 10, codec: Codec | None = None) -> Selection:
    """Greedy herding: each image brings the mean of the chosen embeddings as near to the class mean as it can.

    Args:
        net: the network that is trained on the pool, by default the ConvNet of the papers.
        epochs: of its training; 0: random weights.
        codec: how the images are stored; ``None``: uint8 for a budget in images, AVIF for one in bytes.
    Reference: Welling, "Herding dynamical weights to learn", ICML 2009; iCaRL (Rebuffi et al., CVPR 2017), Algorithm 4, with
    embeddings of unit length.
    """
    return Selection(HerdingRule(net or ConvNet(), epochs), codec, "herding")


def herd(features: Float[Tensor, "n d"], count: int) -> Int64[Tensor, " count"]:
    """Rows in the order in which herding takes them: argmin_i || mu - (sum of chosen + f_i) / (k + 1) ||."""
    mean = features.mean(0)
    total, free = torch.zeros_like(mean), torch.ones(len(features), dtype=torch.bool, device=features.device)
    chosen = []
    for k in range(count):
        gaps = (mean - (total + features) / (k + 1)).square().sum(1)
        best = int(gaps.masked_fill(~free, float("inf")).argmin())
        chosen.append(best)
        free[best] = False
        total = total + features[best]
    return torch.tensor(chosen, dtype=torch.int64)


@dataclass(frozen=True)
class KCenterRule:
    """See `k_center`."""

    net: Net
    epochs: int

    def __post_init__(self) -> None:
        _check_training(self.epochs)

    def __call__(self, given: Candidates, images_per_class: int, random: Random) -> list[Tensor]:
        features = embed(given, self.net, self.epochs, random)
        return [farthest_first(f, min(images_per_class, len(f))) for f in features.split(list(given.pool.counts))]


def k_center(net: Net | None = None, *, epochs: int = 10, codec: Codec | None = None) -> Selection:
    """Greedy k-center: the image nearest to the class mean, then always the one farthest from all chosen so far.

    Covers a class including its oddities, which serves large budgets; at small ones it is worse than a random choice.

    Args:
        net, epochs, codec: as in `herding`.
    Reference: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018.
    """
    return Selection(KCenterRule(net or ConvNet(), epochs), codec, "k_center")


def farthest_first(features: Float[Tensor, "n d"], count: int) -> Int64[Tensor, " count"]:
    """Rows in the order in which greedy k-center takes them."""
    chosen = [int((features - features.mean(0)).square().sum(1).argmin())]
    gaps = torch.full((len(features),), float("inf"), device=features.device)
    for _ in range(count - 1):
        gaps = torch.minimum(gaps, (features - features[chosen[-1]]).square().sum(1))
        gaps[chosen[-1]] = -1.0  # taken: not even the last of equal images
        chosen.append(int(gaps.argmax()))
    return torch.tensor(chosen, dtype=torch.int64)


@dataclass(frozen=True)
class KMeansRule:
    """See `k_means`."""

    net: Net
    epochs: int

    def __post_init__(self) -> None:
        _check_training(self.epochs)

    def __call__(self, given: Candidates, images_per_class: int, random: Random) -> list[Tensor]:
        features = embed(given, self.net, self.epochs, random).split(list(given.pool.counts))
        return [representatives(f, min(images_per_class, len(f)), random, distinct=True) for f in features]


def k_means(net: Net | None = None, *, epochs: int = 10, codec: Codec | None = None) -> Selection:
    """The images nearest to the centroids of k-means with as many clusters as images, the largest cluster first.

    A shorter prefix holds the largest clusters of this clustering, not a clustering of its own.

    Args:
        net, epochs, codec: as in `herding`.
    """
    return Selection(KMeansRule(net or ConvNet(), epochs), codec, "k_means")


Keep = Literal["hardest", "easiest"]


Score = Literal["forgotten", "misclassified", "el2n", "grand"]


@dataclass(frozen=True)
class ScoreRule:
    """Ranks the images of every class by a score of training; ties at random."""

    net: Net
    score: Score
    keep: Keep
    epochs: int
    networks: int

    def __post_init__(self) -> None:
        _check_training(self.epochs, self.networks)

    def __call__(self, given: Candidates, images_per_class: int, random: Random) -> list[Tensor]:
        if self.keep not in ("hardest", "easiest"):
            raise ValueError(f"keep must be 'hardest' or 'easiest', got {self.keep!r}")
        if max(given.pool.counts) <= images_per_class:  # there is nothing to choose
            return [torch.arange(n) for n in given.pool.counts]
        if given.known.classes < 2:
            raise ValueError(
                f"{self.score} scores how well classes are told apart, and class {given.pool.class_names[0]} is alone; give it another "
                "class (beside=, or one in the pool), or take random or herding"
            )
        scores = torch.stack([self._scores(given, random) for _ in range(self.networks)]).mean(0)
        chosen = []
        for part in scores.cpu().split(list(given.pool.counts)):
            mixed = torch.randperm(len(part), generator=random.cpu)
            order = part[mixed].argsort(descending=self.keep == "hardest", stable=True)
            chosen.append(mixed[order][:images_per_class])
        return chosen

    def _scores(self, given: Candidates, random: Random) -> Float[Tensor, " n"]:
        truth = given.labels()
        if self.score in ("el2n", "grand"):
            return error_norms(
                trained(given, self.net, self.epochs, random), given, times_features=self.score == "grand"
            )
        right: list[Tensor] = []
        trained(given, self.net, self.epochs, random, lambda model: right.append(predict(model, given.pool) == truth))
        return forgetting_counts(torch.stack(right), transitions=self.score == "forgotten")


def forgetting_counts(right: Bool[Tensor, "epochs n"], *, transitions: bool) -> Float[Tensor, " n"]:
    """How often an image went from right to wrong between epochs, and the number of epochs if it was never right; or, without
    ``transitions``, in how many epochs it was wrong."""
    if not transitions:
        return (~right).sum(0).float()
    forgotten = (right[:-1] & ~right[1:]).sum(0).float()
    return torch.where(right.any(0), forgotten, torch.full_like(forgotten, float(len(right))))


@torch.no_grad()
def error_norms(model: nn.Module, given: Candidates, *, times_features: bool) -> Float[Tensor, " n"]:
    """|| softmax(logits) - one-hot ||, times the norm of the embedding for the gradient of the last layer."""
    probe, truth, found, pool = Probe(model), given.labels(), [], given.pool
    rows = torch.arange(len(pool), device=pool.device)
    for part in rows.split(_chunk(pool)):
        seen = probe(pool.rows(part))
        error = seen.logits.softmax(1) - torch.nn.functional.one_hot(truth[part], seen.logits.shape[1])
        found.append(error.norm(dim=1) * (seen.embedding.norm(dim=1) if times_features else 1))
    return torch.cat(found)


def forgetting(
    net: Net | None = None,
    *,
    keep: Keep = "hardest",
    count: Literal["forgotten", "misclassified"] = "forgotten",
    epochs: int = 20,
    networks: int = 1,
    codec: Codec | None = None,
) -> Selection:
    """Images that are forgotten most often (or least) while a network is trained on the pool.

    Args:
        keep: ``"hardest"``: most forgotten first, as published; ``"easiest"``: least.
        count: ``"forgotten"``: from right to wrong between two epochs (original definition; an image never learned counts as forgotten
            in every epoch); ``"misclassified"``: epochs in which it is wrong (IDM's tables, with 5 epochs).
        net, epochs, codec: as in `herding`.
        networks: so many are trained, and their scores averaged.
    Departures: looks after every epoch, where the original looks at the batch trained on.
    Reference: Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning", ICLR 2019.
    """
    return Selection(ScoreRule(net or ConvNet(), count, keep, epochs, networks), codec, "forgetting")


def el2n(
    net: Net | None = None, *, keep: Keep = "easiest", epochs: int = 10, networks: int = 10, codec: Codec | None = None
) -> Selection:
    """Images by the norm of their error, || softmax - one-hot ||, averaged over trained networks.

    Args:
        keep: ``"easiest"``: smallest first, which alone reaches the values of condensation's tables at small budgets; ``"hardest"``:
            largest first, as published for pruning large sets, at ten images per class near chance.
        net, epochs, networks, codec: as in `forgetting`.
    Reference: Paul et al., "Deep Learning on a Data Diet: Finding Important Examples Early in Training", NeurIPS 2021.
    """
    return Selection(ScoreRule(net or ConvNet(), "el2n", keep, epochs, networks), codec, "el2n")


def grand(
    net: Net | None = None, *, keep: Keep = "easiest", epochs: int = 10, networks: int = 10, codec: Codec | None = None
) -> Selection:
    """Images by the norm of the loss gradient of the last layer, || softmax - one-hot || || embedding ||, averaged over networks.

    Args:
        keep, net, epochs, networks, codec: as in `el2n`.
    Departures: the last layer's weights stand for the whole gradient.
    Reference: Paul et al., "Deep Learning on a Data Diet: Finding Important Examples Early in Training", NeurIPS 2021.
    """
    return Selection(ScoreRule(net or ConvNet(), "grand", keep, epochs, networks), codec, "grand")


def trained(
    given: Candidates,
    net: Net,
    epochs: int,
    random: Random,
    on_epoch: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """A new network, trained for ``epochs`` to tell the known classes apart, in eval mode; ``on_epoch`` sees it after each of them."""
    known = given.known
    with random.scope():
        model = as_factory(net)(known.shape, max(2, known.classes)).to(known.device)
    if epochs:
        data = known.all()
        hook = None if on_epoch is None else lambda _: on_epoch(model)
        train(model, data.x, data.y, PROTOCOLS["dc2021"].scaled(epochs - 1), random, on_epoch=hook)
    return model.eval()


def embed(given: Candidates, net: Net, epochs: int, random: Random) -> Float[Tensor, "n d"]:
    """Embeddings of unit length of all candidates, class-major, under a network trained for ``epochs``."""
    pool = given.pool
    rows = torch.arange(len(pool), device=pool.device)
    probe = Probe(trained(given, net, epochs, random))
    with torch.no_grad():
        found = [probe(pool.rows(part)).embedding for part in rows.split(_chunk(pool))]
    return torch.nn.functional.normalize(torch.cat(found))


def _chunk(pool: ClassPool) -> int:
    return 64 if pool.device.type == "cpu" else 2048

"""Real images chosen instead of made: the selections that condensed sets are compared with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ddreplay.backbones import ConvNet, Net, Probe, as_factory
from ddreplay.condense.condenser import Condenser
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.image_count import ByCodec, ChooseCount
from ddreplay.condense.provenance import provenance
from ddreplay.data.clustering import representatives
from ddreplay.data.pool import ClassPool
from ddreplay.data.space import to_pixels
from ddreplay.evaluate import PROTOCOLS, predict, train
from ddreplay.randomness import Random
from ddreplay.storage.budget import check_budget, share_of, total_bytes
from ddreplay.storage.codecs import BudgetTooSmall, Codec, codec_from_spec, fit_quality, float32, uint8
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.part import Part

__all__ = ["Selection", "el2n", "embed", "forgetting", "grand", "herding", "k_center", "k_means", "random"]

SomeCondenser = TypeVar("SomeCondenser", bound=Condenser)


Rule = Callable[[ClassPool, int, Random], list[Tensor]]


"""A pool and a budget -> for every class, the rows chosen inside the class, best first."""


@dataclass(frozen=True)
class Selection:
    """Chooses real images of every class by a rule; a condenser like any other.

    The chosen images stand best first, so a shorter prefix is what the rule would have chosen for a smaller budget.
    """

    rule: Rule
    codec: Codec = uint8()
    name: str = "coreset"
    choose: ChooseCount = ByCodec()

    def __call__(
        self,
        pool: ClassPool,
        images_per_class: int | None = None,
        *,
        bytes_per_class: int | float | None = None,
        max_bytes: int | None = None,
        seed: int = 0,
    ) -> CondensedSet:
        """``images_per_class`` real images of every class, or all where there are fewer; or as many bytes at most.

        With a budget in bytes, ``choose`` says how many images it is spent on, and they are stored at the codec's highest quality
        that fits.
        """
        check_budget(images_per_class, bytes_per_class, max_bytes)
        started = time.perf_counter()
        total = total_bytes(pool.classes, bytes_per_class, max_bytes)
        if images_per_class is not None:
            part = self._part(pool, self.rule(pool, images_per_class, Random(seed, pool.device)), self.codec)
        else:
            images_per_class, part = self._in_bytes(pool, total / pool.classes, seed)
        more = {"max_bytes": total} if total else {}
        return CondensedSet((part,), provenance(self, pool, images_per_class, seed, started, **more))

    def _part(self, pool: ClassPool, chosen: list[Tensor], codec: Codec) -> Part:
        images = [pool.of_class(k)[rows.to(pool.device)] for k, rows in enumerate(chosen)]
        return Part.of_images(pool, images, codec)

    def _in_bytes(self, pool: ClassPool, per_class: int | float, seed: int) -> tuple[int, Part]:
        ranked: dict[ClassPool, tuple[int, list[Tensor]]] = {}

        def take(source: ClassPool, n: int) -> Part:
            if source not in ranked or ranked[source][0] < n:
                ranked[source] = 2 * n, self.rule(source, 2 * n, Random(seed, source.device))
            chosen = [rows[:n] for rows in ranked[source][1]]
            part = self._part(source, chosen, float32())
            pixels = [to_pixels(x, source.mean, source.std) for x in part.images]
            room = share_of(source, per_class, part.counts)
            try:
                codec = fit_quality(self.codec, pixels, max_bytes=room)
            except BudgetTooSmall:  # these images are harder than those that the candidates were measured with
                if n == 1:
                    raise
                return take(source, n - max(1, n // 8))
            return replace(part, stored=codec.encode(pixels), codec=codec)

        def trial(kept: ClassPool, n: int) -> CondensedSet:
            return CondensedSet((take(kept, n),))

        n = self.choose(pool, self.codec, per_class, trial, seed)
        return n, take(pool, n)


@dataclass(frozen=True)
class RandomRule:
    """Uniformly, without replacement."""

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> list[Tensor]:
        return [torch.randperm(n, generator=random.cpu)[:images_per_class] for n in pool.counts]


def random(*, codec: Codec | None = None) -> Selection:
    """A uniform choice per class: what a ring buffer holds after a shuffled stream."""
    return Selection(RandomRule(), codec or uint8(), "random")


@dataclass(frozen=True)
class HerdingRule:
    """See `herding`."""

    net: Net
    epochs: int

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> list[Tensor]:
        features = embed(pool, self.net, self.epochs, random)
        return [herd(f, min(images_per_class, len(f))) for f in features.split(list(pool.counts))]


def herding(net: Net | None = None, *, epochs: int = 10, codec: Codec | None = None) -> Selection:
    """Greedy herding: each image brings the mean of the chosen embeddings as near to the class mean as it can.

    Args:
        net: the embedding network, trained on the pool for ``epochs`` (0: random weights).
    Reference: Welling, "Herding dynamical weights to learn", ICML 2009; iCaRL (Rebuffi et al., CVPR 2017), Algorithm 4, with
    embeddings of unit length.
    """
    return Selection(HerdingRule(net or ConvNet(), epochs), codec or uint8(), "herding")


def stored_by(condenser: SomeCondenser, codec: Codec | str | None) -> SomeCondenser:
    """The same coreset or distiller with another codec, or name of one; ``None``: as it is.

    Raises:
        TypeError: for a condenser that is neither.
    """
    if codec is None:
        return condenser
    codec = codec_from_spec({"name": codec}) if isinstance(codec, str) else codec
    if not isinstance(condenser, (Distiller, Selection)):
        raise TypeError(
            f"codec can be set on a Distiller or a Selection, got {type(condenser).__name__}; give it its codec itself"
        )
    return replace(condenser, codec=codec)


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

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> list[Tensor]:
        features = embed(pool, self.net, self.epochs, random)
        return [farthest_first(f, min(images_per_class, len(f))) for f in features.split(list(pool.counts))]


def k_center(net: Net | None = None, *, epochs: int = 10, codec: Codec | None = None) -> Selection:
    """Greedy k-center: the image nearest to the class mean, then always the one farthest from all chosen so far.

    Covers a class including its oddities, which serves large budgets; at small ones it is worse than a random choice.

    Args:
        net, epochs: as in `herding`.
    Reference: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018.
    """
    return Selection(KCenterRule(net or ConvNet(), epochs), codec or uint8(), "k_center")


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

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> list[Tensor]:
        features = embed(pool, self.net, self.epochs, random).split(list(pool.counts))
        return [representatives(f, min(images_per_class, len(f)), random, distinct=True) for f in features]


def k_means(net: Net | None = None, *, epochs: int = 10, codec: Codec | None = None) -> Selection:
    """The images nearest to the centroids of k-means with as many clusters as images, the largest cluster first.

    A shorter prefix holds the largest clusters of this clustering, not a clustering of its own.

    Args:
        net, epochs: as in `herding`.
    """
    return Selection(KMeansRule(net or ConvNet(), epochs), codec or uint8(), "k_means")


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

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> list[Tensor]:
        if self.keep not in ("hardest", "easiest"):
            raise ValueError(f"keep must be 'hardest' or 'easiest', got {self.keep!r}")
        scores = torch.stack([self._scores(pool, random) for _ in range(self.networks)]).mean(0)
        chosen = []
        for part in scores.cpu().split(list(pool.counts)):
            mixed = torch.randperm(len(part), generator=random.cpu)
            order = part[mixed].argsort(descending=self.keep == "hardest", stable=True)
            chosen.append(mixed[order][:images_per_class])
        return chosen

    def _scores(self, pool: ClassPool, random: Random) -> Float[Tensor, " n"]:
        truth = pool.all_labels()
        if self.score in ("el2n", "grand"):
            return error_norms(trained(pool, self.net, self.epochs, random), pool, times_features=self.score == "grand")
        right: list[Tensor] = []
        trained(pool, self.net, self.epochs, random, lambda model: right.append(predict(model, pool) == truth))
        return forgetting_counts(torch.stack(right), transitions=self.score == "forgotten")


def forgetting_counts(right: Bool[Tensor, "epochs n"], *, transitions: bool) -> Float[Tensor, " n"]:
    """How often an image went from right to wrong between epochs, and the number of epochs if it was never right; or, without
    ``transitions``, in how many epochs it was wrong."""
    if not transitions:
        return (~right).sum(0).float()
    forgotten = (right[:-1] & ~right[1:]).sum(0).float()
    return torch.where(right.any(0), forgotten, torch.full_like(forgotten, float(len(right))))


@torch.no_grad()
def error_norms(model: nn.Module, pool: ClassPool, *, times_features: bool) -> Float[Tensor, " n"]:
    """|| softmax(logits) - one-hot ||, times the norm of the embedding for the gradient of the last layer."""
    probe, truth, found = Probe(model), pool.all_labels(), []
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
    Departures: looks after every epoch, where the original looks at the batch trained on.
    Reference: Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning", ICLR 2019.
    """
    return Selection(ScoreRule(net or ConvNet(), count, keep, epochs, networks), codec or uint8(), "forgetting")


def el2n(
    net: Net | None = None, *, keep: Keep = "easiest", epochs: int = 10, networks: int = 10, codec: Codec | None = None
) -> Selection:
    """Images by the norm of their error, || softmax - one-hot ||, averaged over trained networks.

    Args:
        keep: ``"easiest"``: smallest first, which alone reaches the values of condensation's tables at small budgets; ``"hardest"``:
            largest first, as published for pruning large sets, at ten images per class near chance.
    Reference: Paul et al., "Deep Learning on a Data Diet: Finding Important Examples Early in Training", NeurIPS 2021.
    """
    return Selection(ScoreRule(net or ConvNet(), "el2n", keep, epochs, networks), codec or uint8(), "el2n")


def grand(
    net: Net | None = None, *, keep: Keep = "easiest", epochs: int = 10, networks: int = 10, codec: Codec | None = None
) -> Selection:
    """Images by the norm of the loss gradient of the last layer, || softmax - one-hot || || embedding ||, averaged over networks.

    Args:
        keep: as in `el2n`.
    Departures: the last layer's weights stand for the whole gradient.
    Reference: Paul et al., "Deep Learning on a Data Diet: Finding Important Examples Early in Training", NeurIPS 2021.
    """
    return Selection(ScoreRule(net or ConvNet(), "grand", keep, epochs, networks), codec or uint8(), "grand")


def trained(
    pool: ClassPool,
    net: Net,
    epochs: int,
    random: Random,
    on_epoch: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """A new network, trained on the pool for ``epochs``, in eval mode; ``on_epoch`` sees it after each of them."""
    with random.scope():
        model = as_factory(net)(pool.shape, pool.classes).to(pool.device)
    if epochs:
        data = pool.all()
        hook = None if on_epoch is None else lambda _: on_epoch(model)
        train(model, data.x, data.y, PROTOCOLS["dc2021"].scaled(epochs - 1), random, on_epoch=hook)
    return model.eval()


def embed(pool: ClassPool, net: Net, epochs: int, random: Random) -> Float[Tensor, "n d"]:
    """Embeddings of unit length of all images, class-major, under a network trained on the pool for ``epochs``."""
    rows = torch.arange(len(pool), device=pool.device)
    probe = Probe(trained(pool, net, epochs, random))
    with torch.no_grad():
        found = [probe(pool.rows(part)).embedding for part in rows.split(_chunk(pool))]
    return torch.nn.functional.normalize(torch.cat(found))


def _chunk(pool: ClassPool) -> int:
    return 64 if pool.device.type == "cpu" else 2048

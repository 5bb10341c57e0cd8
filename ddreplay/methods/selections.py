"""Real images chosen instead of made: the selections that condensed sets are compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ddreplay.backbones import ConvNet, Net
from ddreplay.condense.condenser import Deadline, OnProgress, default_codec
from ddreplay.condense.image_count import ByCodec, ChooseCount, CountQuestion, Fixed
from ddreplay.condense.provenance import provenance
from ddreplay.data.pool import ClassPool
from ddreplay.data.space import to_pixels
from ddreplay.methods.selection_rules import (
    Candidates,
    InEmbedding,
    Keep,
    RandomRule,
    Rule,
    ScoreRule,
    ScoresInFile,
    farthest_first,
    herd,
    nearest_to_centroids,
    nearest_to_mean,
)
from ddreplay.randomness import Random
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import BudgetTooSmall, Codec, Graded, fill, fit_quality, float32
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.part import Part

__all__ = ["Selection", "c_score", "el2n", "forgetting", "grand", "herding", "k_center", "k_means", "random"]


@dataclass(frozen=True)
class Selection:
    """Chooses real images of every class by a rule; a condenser like any other.

    The chosen images stand best first, so a shorter prefix is what the rule would have chosen for a smaller budget.

    Attributes:
        codec: Says how the images are stored; ``None``: uint8 for a budget in images, AVIF for one in bytes (`default_codec`).
        choose: With a budget in bytes, how many images it is spent on; they are stored at the highest quality that fits.
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
            seconds: after so long no further number of images is tried, and networks that rank images are not trained on.
            on_progress: is told of every number of images tried, and of every epoch of networks that rank images.
            beside: other classes that are known; looked at where the pool has one class alone, which then is told apart from them.
        Raises:
            TypeError, ValueError: when the budget is none, or below one image.
        """
        budget, deadline = Budget.of(budget), Deadline(seconds)
        codec = self.codec or default_codec(budget, pool.shape[0])
        more: dict[str, Any] = {}
        if budget.in_bytes:
            found = _InBytes(self, codec, budget.of_each(pool.classes), seed, beside, deadline.over, on_progress)
            asked = CountQuestion(
                pool, codec, found.budget, found.trial, seed, deadline=deadline.part(0.5), on_progress=on_progress
            )
            count = self.choose(asked)
            part, more = found.take(pool, count), {"max_bytes": budget.total(pool.classes)}
            part = part if isinstance(self.choose, Fixed) else found.one_more(pool, part)
        else:
            count = int(budget.share(pool.classes))
            given = Candidates.of(pool, beside, deadline.over, on_progress)
            chosen = _ranked(self.rule, given, count, seed)
            part = _part(pool, chosen, codec)
        if deadline.over():
            deadline.cut.append("training of the networks that rank images")
        if deadline.cut:
            more["cut"] = list(deadline.cut)
        return CondensedSet((part,), provenance(self, pool, count, seed, deadline.started, **more))

    def stored_by(self, codec: Codec) -> Selection:
        """The same selection with another codec."""
        return replace(self, codec=codec)


def _part(pool: ClassPool, chosen: list[Tensor], codec: Codec) -> Part:
    images = [pool.of_class(k)[rows.to(pool.device)] for k, rows in enumerate(chosen)]
    return Part.of_images(pool, images, codec)


def _ranked(rule: Rule, given: Candidates, n: int, seed: int) -> list[Tensor]:
    """At most ``n`` images of every class, best first, each of them once where the pool holds copies."""
    pool, asked = given.pool, n
    while True:
        rows = rule(given, asked, Random(seed, pool.device))
        if pool.origin is None:
            return rows
        starts = torch.tensor([0, *pool.counts[:-1]]).cumsum(0).tolist()
        found = [
            _first_of_each(r, pool.origin[start + r.to(pool.device)]) for r, start in zip(rows, starts, strict=True)
        ]
        if asked >= max(pool.counts) or min(map(len, found)) >= n:
            return [r[:n] for r in found]
        asked *= 2


def _first_of_each(rows: Tensor, origin: Tensor) -> Tensor:
    """The rows without those whose origin came before."""
    firsts = {of: k for k, of in reversed(list(enumerate(origin.tolist())))}
    return rows[sorted(firsts.values())]


class _InBytes:
    """A selection under a budget in bytes; a pool is ranked once for all numbers of images up to twice the first one asked for."""

    def __init__(
        self,
        selection: Selection,
        codec: Codec,
        budget: Budget,
        seed: int,
        beside: ClassPool | None,
        stop: Callable[[], bool],
        on_progress: OnProgress | None,
    ) -> None:
        self.selection, self.codec, self.budget, self.seed, self.beside = selection, codec, budget, seed, beside
        self.stop, self.on_progress = stop, on_progress
        self.ranked: dict[ClassPool, tuple[int, list[Tensor]]] = {}

    def take(self, pool: ClassPool, n: int) -> Part:
        """At most ``n`` images of every class, at the highest quality that fits; fewer where ``n`` do not."""
        if pool not in self.ranked or self.ranked[pool][0] < n:
            given = Candidates.of(pool, self.beside, self.stop, self.on_progress)
            self.ranked[pool] = 2 * n, _ranked(self.selection.rule, given, 2 * n, self.seed)
        part = _part(pool, [rows[:n] for rows in self.ranked[pool][1]], float32())
        pixels = [to_pixels(x, pool.mean, pool.std) for x in part.images]
        room = self.budget.room(pool, part.counts)
        try:
            codec = fit_quality(self.codec, pixels, max_bytes=room)
        except BudgetTooSmall:  # these images are harder than those that the candidates were measured with
            if n == 1:
                raise
            return self.take(pool, n - max(1, n // 8))
        return replace(part, stored=fill(codec, pixels, room), codec=codec)

    def one_more(self, pool: ClassPool, part: Part) -> Part:
        """One image more of this class and that, while there is room at this quality and the codec has no steps to fill it with."""
        if isinstance(part.codec, Graded):
            return part
        ranked = self.ranked[pool][1]
        for position, have in enumerate(part.counts):
            counts = tuple(n + (k == position) for k, n in enumerate(part.counts))
            if have == len(ranked[position]):
                continue
            more = _part(pool, [rows[:n] for rows, n in zip(ranked, counts, strict=True)], part.codec)
            if more.images_nbytes > self.budget.room(pool, counts):
                break
            part = more
        return part

    def trial(self, kept: ClassPool, n: int) -> CondensedSet:
        return CondensedSet((self.take(kept, n),))


def random(*, codec: Codec | None = None) -> Selection:
    """A uniform choice per class: what a ring buffer holds after a shuffled stream.

    Args:
        codec: As in `herding`.
    """
    return Selection(RandomRule(), codec, "random")


def herding(
    net: Net | None = None,
    *,
    epochs: int = 10,
    order: Literal["greedy", "nearest"] = "greedy",
    codec: Codec | None = None,
) -> Selection:
    """Herding: the mean of the chosen embeddings is as near to the class mean as one image after the other can bring it.

    Args:
        net: The network that is trained on the pool, by default the ConvNet of the papers.
        epochs: The epochs of its training; 0 leaves its random weights. IDM's tables: 40.
        order: ``"greedy"``: as said. ``"nearest"``: simply the images nearest to the class mean, which IDM's tables call herding.
        codec: Says how the images are stored; ``None``: uint8 for a budget in images, AVIF for one in bytes.
    Raises:
        ValueError: for another order.
    Reference: Welling, "Herding dynamical weights to learn", ICML 2009; iCaRL (Rebuffi et al., CVPR 2017), Algorithm 4, with
    embeddings of unit length.
    """
    orders = {"greedy": herd, "nearest": nearest_to_mean}
    if order not in orders:
        raise ValueError(f"order must be 'greedy' or 'nearest', got {order!r}")
    return Selection(InEmbedding(net or ConvNet(), epochs, orders[order]), codec, "herding")


def k_center(net: Net | None = None, *, epochs: int = 10, codec: Codec | None = None) -> Selection:
    """Greedy k-center: the image nearest to the class mean, then always the one farthest from all chosen so far.

    Covers a class including its oddities, which serves large budgets; at small ones it is worse than a random choice.

    Args:
        net, epochs, codec: As in `herding`.
    Reference: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018.
    """
    return Selection(InEmbedding(net or ConvNet(), epochs, farthest_first), codec, "k_center")


def k_means(net: Net | None = None, *, epochs: int = 10, codec: Codec | None = None) -> Selection:
    """The images nearest to the centroids of k-means with as many clusters as images, the largest cluster first.

    A shorter prefix holds the largest clusters of this clustering, not a clustering of its own.

    Args:
        net, epochs, codec: As in `herding`.
    """
    return Selection(InEmbedding(net or ConvNet(), epochs, nearest_to_centroids), codec, "k_means")


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
        net, epochs, codec: As in `herding`.
        networks: The number of networks that are trained, whose scores are averaged.
    Departures: looks after every epoch, where the original looks at the batch trained on.
    Reference: Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning", ICLR 2019.
    """
    return Selection(ScoreRule(net or ConvNet(), count, keep, epochs, networks), codec, "forgetting")


def c_score(
    file: str | Path | None = None, *, keep: Literal["highest", "lowest"] = "highest", codec: Codec | None = None
) -> Selection:
    """Images by published scores of all training images, such as C-scores: how surely an image is recognised by networks that never saw it.

    Args:
        file: An .npz with ``scores`` and ``labels``, one for every training image in the data set's order, as published for CIFAR and
            MNIST ("orig order"). It must be given.
        keep: ``"highest"``: the most typical images first, as in DCC's tables; ``"lowest"``: the least.
        codec: As in `herding`.
    Raises:
        ValueError: when it is called, if no file was given, or it holds something else, or scores of other images.
    Reference: Jiang et al., "Characterizing Structural Regularities of Labeled Data in Overparameterized Models", ICML 2021.
    """
    return Selection(ScoresInFile(None if file is None else str(file), keep), codec, "c_score")


def el2n(
    net: Net | None = None, *, keep: Keep = "easiest", epochs: int = 10, networks: int = 10, codec: Codec | None = None
) -> Selection:
    """Images by the norm of their error, || softmax - one-hot ||, averaged over trained networks.

    Args:
        keep: ``"easiest"``: smallest first, which alone reaches the values of condensation's tables at small budgets; ``"hardest"``:
            largest first, as published for pruning large sets, at ten images per class near chance.
        net, epochs, networks, codec: As in `forgetting`.
    Reference: Paul et al., "Deep Learning on a Data Diet: Finding Important Examples Early in Training", NeurIPS 2021.
    """
    return Selection(ScoreRule(net or ConvNet(), "el2n", keep, epochs, networks), codec, "el2n")


def grand(
    net: Net | None = None, *, keep: Keep = "easiest", epochs: int = 10, networks: int = 10, codec: Codec | None = None
) -> Selection:
    """Images by the norm of the loss gradient of the last layer, || softmax - one-hot || || embedding ||, averaged over networks.

    Args:
        keep, net, epochs, networks, codec: As in `el2n`.
    Departures: the last layer's weights stand for the whole gradient.
    Reference: Paul et al., "Deep Learning on a Data Diet: Finding Important Examples Early in Training", NeurIPS 2021.
    """
    return Selection(ScoreRule(net or ConvNet(), "grand", keep, epochs, networks), codec, "grand")

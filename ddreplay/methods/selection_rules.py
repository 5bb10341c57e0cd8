"""The rules by which real images are chosen: rows of every class, best first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ddreplay.backbones import Net, Probe, as_factory
from ddreplay.condense.condenser import OnProgress, Progress
from ddreplay.data.chunks import by_chunks
from ddreplay.data.clustering import representatives
from ddreplay.data.pool import ClassPool, concatenate
from ddreplay.evaluation import PROTOCOLS, predict, train
from ddreplay.randomness import Random

__all__ = [
    "Candidates",
    "InEmbedding",
    "RandomRule",
    "Rule",
    "ScoresInFile",
    "ScoreRule",
    "embed",
    "error_norms",
    "farthest_first",
    "forgetting_counts",
    "herd",
    "nearest_to_centroids",
    "nearest_to_mean",
    "trained",
]


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a rule chooses from.

    pool: the images. known: all classes that a network is trained to tell apart; the pool's, and others where it has one alone.
    stop: whether time is up, for that training. on_progress: is told of its epochs.
    """

    pool: ClassPool
    known: ClassPool
    stop: Callable[[], bool] | None = None
    on_progress: OnProgress | None = None

    @classmethod
    def of(
        cls,
        pool: ClassPool,
        beside: ClassPool | None = None,
        stop: Callable[[], bool] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Candidates:
        """The images of a pool; ``beside``: other known classes, which count where it has one class alone."""
        own = pool.class_ids.tolist()
        others = [] if beside is None else [k for k, c in enumerate(beside.class_ids.tolist()) if c not in own]
        if pool.classes > 1 or beside is None or not others:
            return cls(pool, pool, stop, on_progress)
        return cls(pool, concatenate([pool, beside.select(others)]), stop, on_progress)

    def labels(self) -> Int64[Tensor, " n"]:
        """The output column of every image's class."""
        columns = torch.searchsorted(self.known.class_ids, self.pool.class_ids).to(self.pool.device)
        return columns[self.pool.all_labels()]


Rule = Callable[[Candidates, int, Random], list[Tensor]]
"""Candidates and a number per class -> for every class, the rows chosen inside the class, best first."""


@dataclass(frozen=True)
class RandomRule:
    """Uniformly, without replacement."""

    def __call__(self, given: Candidates, images_per_class: int, random: Random) -> list[Tensor]:
        return [torch.randperm(n, generator=random.cpu)[:images_per_class] for n in given.pool.counts]


@dataclass(frozen=True)
class InEmbedding:
    """Chooses in the embedding of a network that is trained on the known classes.

    Attributes:
        net: the network. epochs: of its training; 0 leaves it as it starts.
        order: puts the embeddings of one class, [n, d], in order: rows of the ``count`` best, best first.
    """

    net: Net
    epochs: int
    order: Callable[[Tensor, int, Random], Tensor]

    def __post_init__(self) -> None:
        check_epochs(self.epochs)

    def __call__(self, given: Candidates, images_per_class: int, random: Random) -> list[Tensor]:
        features = embed(given, self.net, self.epochs, random).split(list(given.pool.counts))
        return [self.order(f, min(images_per_class, len(f)), random) for f in features]


def herd(features: Float[Tensor, "n d"], count: int, random: Random | None = None) -> Int64[Tensor, " count"]:
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


def nearest_to_mean(
    features: Float[Tensor, "n d"], count: int, random: Random | None = None
) -> Int64[Tensor, " count"]:
    """The rows nearest to the mean, which need not lie around it evenly as those of `herd` do."""
    return (features - features.mean(0)).square().sum(1).argsort(stable=True)[:count]


def farthest_first(features: Float[Tensor, "n d"], count: int, random: Random | None = None) -> Int64[Tensor, " count"]:
    """Rows in the order in which greedy k-center takes them."""
    chosen = [int((features - features.mean(0)).square().sum(1).argmin())]
    gaps = torch.full((len(features),), float("inf"), device=features.device)
    for _ in range(count - 1):
        gaps = torch.minimum(gaps, (features - features[chosen[-1]]).square().sum(1))
        gaps[chosen[-1]] = -1.0  # taken: not even the last of equal images
        chosen.append(int(gaps.argmax()))
    return torch.tensor(chosen, dtype=torch.int64)


def nearest_to_centroids(features: Float[Tensor, "n d"], count: int, random: Random) -> Int64[Tensor, " count"]:
    """The rows nearest to the centroids of k-means with as many clusters, the largest cluster first."""
    return representatives(features, count, random, distinct=True)


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
        check_epochs(self.epochs)
        if self.keep not in ("hardest", "easiest"):
            raise ValueError(f"keep must be 'hardest' or 'easiest', got {self.keep!r}")
        if self.networks < 1:
            raise ValueError(f"networks must be at least 1, got {self.networks}")

    def __call__(self, given: Candidates, images_per_class: int, random: Random) -> list[Tensor]:
        if given.known.classes < 2:
            if max(given.pool.counts) <= images_per_class:  # there is nothing to choose
                return [torch.arange(n) for n in given.pool.counts]
            raise ValueError(
                f"{self.score} scores how well classes are told apart, and class {given.pool.class_names[0]} is alone; give it another "
                "class (beside=, or one in the pool), or take random or herding"
            )
        scores = torch.stack([self._scores(given, random, k) for k in range(self.networks)]).mean(0)
        chosen = []
        for part in scores.cpu().split(list(given.pool.counts)):
            mixed = torch.randperm(len(part), generator=random.cpu)
            order = part[mixed].argsort(descending=self.keep == "hardest", stable=True)
            chosen.append(mixed[order][:images_per_class])
        return chosen

    def _scores(self, given: Candidates, random: Random, network: int) -> Float[Tensor, " n"]:
        truth, place = given.labels(), (network, self.networks)
        if self.score in ("el2n", "grand"):
            model = trained(given, self.net, self.epochs, random, place=place)
            return error_norms(model, given, times_features=self.score == "grand")
        right: list[Tensor] = []

        def look(model: nn.Module) -> None:
            right.append(predict(model, given.pool) == truth)

        model = trained(given, self.net, self.epochs, random, look, place=place)
        if not right:  # time was up within the first epoch: what the network knows so far
            look(model)
        return forgetting_counts(torch.stack(right), transitions=self.score == "forgotten")


@dataclass(frozen=True)
class ScoresInFile:
    """Ranks the images of every class by scores that somebody published, one for every training image.

    Attributes:
        file: an .npz with ``scores`` [n] and ``labels`` [n], in the order of the data set's training images. keep: as in `c_score`.
    """

    file: str | None
    keep: Literal["highest", "lowest"]

    def __post_init__(self) -> None:
        if self.keep not in ("highest", "lowest"):
            raise ValueError(f"keep must be 'highest' or 'lowest', got {self.keep!r}")

    def __call__(self, given: Candidates, images_per_class: int, random: Random) -> list[Tensor]:
        if self.file is None:
            raise ValueError(
                "c_score needs the file of published scores: c_score(file='cifar10-cscores-orig-order.npz')"
            )
        scores, labels = _read_scores(Path(self.file))
        chosen = []
        for class_id, have in zip(given.pool.class_ids.tolist(), given.pool.counts, strict=True):
            own = scores[labels == class_id]
            if len(own) != have:
                raise ValueError(
                    f"{Path(self.file).name} has {len(own)} scores of class {class_id}, which has {have} images here: it must "
                    "hold one for every training image of this data set, in order"
                )
            chosen.append(own.argsort(descending=self.keep == "highest", stable=True)[:images_per_class])
        return chosen


def _read_scores(file: Path) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"]]:
    with np.load(file, allow_pickle=False) as found:
        missing = [name for name in ("scores", "labels") if name not in found]
        if missing:
            raise ValueError(f"{file.name} must hold scores and labels, but lacks {' and '.join(missing)}")
        scores, labels = (torch.from_numpy(np.asarray(found[name])) for name in ("scores", "labels"))
    if scores.dim() != 1 or scores.shape != labels.shape:
        raise ValueError(
            f"scores and labels of {file.name} must be one number an image, got {tuple(scores.shape)} and {tuple(labels.shape)}"
        )
    return scores.float(), labels.long()


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
    probe, truth, pool = Probe(model), given.labels(), given.pool

    def norms(part: Tensor) -> Tensor:
        seen = probe(pool.rows(part))
        error = seen.logits.softmax(1) - torch.nn.functional.one_hot(truth[part], seen.logits.shape[1])
        found: Tensor = error.norm(dim=1) * (seen.embedding.norm(dim=1) if times_features else 1)
        return found

    return by_chunks(norms, torch.arange(len(pool), device=pool.device), _chunk(pool))


def trained(
    given: Candidates,
    net: Net,
    epochs: int,
    random: Random,
    on_epoch: Callable[[nn.Module], None] | None = None,
    *,
    place: tuple[int, int] = (0, 1),
) -> nn.Module:
    """A new network, trained for ``epochs`` to tell the known classes apart, in eval mode; ``on_epoch`` sees it after each of them.

    Args:
        place: its number among so many networks, for what is told of the progress.
    """
    known = given.known
    with random.scope():
        model = as_factory(net)(known.shape, max(2, known.classes)).to(known.device)
    if epochs:
        data = known.all()

        def after(epoch: int) -> None:
            if on_epoch is not None:
                on_epoch(model)
            if given.on_progress is not None:
                given.on_progress(Progress("ranking", place[0] * epochs + epoch + 1, place[1] * epochs))

        train(model, data.x, data.y, PROTOCOLS["dc2021"].scaled(epochs - 1), random, on_epoch=after, stop=given.stop)
    return model.eval()


def embed(given: Candidates, net: Net, epochs: int, random: Random) -> Float[Tensor, "n d"]:
    """Embeddings of unit length of all candidates, class-major, under a network trained for ``epochs``."""
    pool = given.pool
    rows = torch.arange(len(pool), device=pool.device)
    probe = Probe(trained(given, net, epochs, random))
    with torch.no_grad():
        found = by_chunks(lambda part: probe(pool.rows(part)).embedding, rows, _chunk(pool))
    return torch.nn.functional.normalize(found)


def check_epochs(epochs: int) -> None:
    """Raise unless a network can be trained for so many epochs."""
    if epochs < 0:
        raise ValueError(f"epochs must be at least 0, got {epochs}; 0 leaves a network as it starts")


def _chunk(pool: ClassPool) -> int:
    return 64 if pool.device.type == "cpu" else 2048

"""Real images chosen instead of made: the selections that condensed sets are compared with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ddreplay.backbones import Net, Probe, as_factory, convnet
from ddreplay.codec import Codec, uint8
from ddreplay.condense import check_budget, describe, versions
from ddreplay.condensed import CondensedSet, Part
from ddreplay.data import ClassPool
from ddreplay.evaluate import PROTOCOLS, train
from ddreplay.randomness import Random

__all__ = ["Coreset", "embed", "herding", "random"]

Rule = Callable[[ClassPool, int, Random], list[Tensor]]
"""A pool and a budget -> for every class, the rows chosen inside the class, best first."""


@dataclass(frozen=True)
class Coreset:
    """Chooses real images of every class by a rule; a condenser like any other.

    The chosen images stand best first, so a shorter prefix is what the rule would have chosen for a smaller budget.
    """

    rule: Rule
    codec: Codec = uint8()
    name: str = "coreset"

    def __call__(self, pool: ClassPool, images_per_class: int, *, seed: int = 0) -> CondensedSet:
        """``images_per_class`` real images of every class, or all where there are fewer."""
        check_budget(images_per_class)
        started = time.perf_counter()
        chosen = self.rule(pool, images_per_class, Random(seed, pool.device))
        images = [pool.of_class(k)[rows.to(pool.device)] for k, rows in enumerate(chosen)]
        part = Part.of_images(pool, images, self.codec)
        provenance = {
            "method": self.name,
            "images_per_class": images_per_class,
            "seed": seed,
            "seconds": round(time.perf_counter() - started, 3),
            "normalisation": pool.normalization,
            "settings": describe(self),
            "versions": versions(),
            "device": str(pool.device),
        }
        return CondensedSet((part,), provenance)


@dataclass(frozen=True)
class RandomRule:
    """Uniformly, without replacement."""

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> list[Tensor]:
        return [torch.randperm(n, generator=random.cpu)[:images_per_class] for n in pool.counts]


def random(*, codec: Codec | None = None) -> Coreset:
    """A uniform choice per class: what a ring buffer holds after a shuffled stream."""
    return Coreset(RandomRule(), codec or uint8(), "random")


@dataclass(frozen=True)
class HerdingRule:
    """See `herding`."""

    net: Net
    epochs: int

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> list[Tensor]:
        features = embed(pool, self.net, self.epochs, random)
        return [herd(f, min(images_per_class, len(f))) for f in features.split(list(pool.counts))]


def herding(net: Net | None = None, *, epochs: int = 10, codec: Codec | None = None) -> Coreset:
    """Greedy herding: each image brings the mean of the chosen embeddings as near to the class mean as it can.

    Args:
        net: the embedding network, trained on the pool for ``epochs`` (0: random weights).
    Reference: Welling, "Herding dynamical weights to learn", ICML 2009; iCaRL (Rebuffi et al., CVPR 2017), Algorithm 4, with
    embeddings of unit length.
    """
    return Coreset(HerdingRule(net or convnet(), epochs), codec or uint8(), "herding")


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


def embed(pool: ClassPool, net: Net, epochs: int, random: Random) -> Float[Tensor, "n d"]:
    """Embeddings of unit length of all images, class-major, under a network trained on the pool for ``epochs``."""
    with random.scope():
        model = as_factory(net)(pool.shape, pool.classes).to(pool.device)
    if epochs:
        data = pool.all()
        train(model, data.x, data.y, PROTOCOLS["dc2021"].scaled(epochs - 1), random)
    model.eval()
    rows = torch.arange(len(pool), device=pool.device)
    probe = Probe(model)
    with torch.no_grad():
        found = [probe(pool.rows(part)).embedding for part in rows.split(64 if pool.device.type == "cpu" else 2048)]
    return torch.nn.functional.normalize(torch.cat(found))

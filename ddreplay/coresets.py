"""Real images chosen instead of made: the selections that condensed sets are compared with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ddreplay.backbones import Net, Probe, as_factory, convnet
from ddreplay.budget import ChooseCount, Validated, check_budget, share_of, total_bytes
from ddreplay.codec import BudgetTooSmall, Codec, fit_quality, float32, uint8
from ddreplay.condense import describe, versions
from ddreplay.condensed import CondensedSet, Part
from ddreplay.data import ClassPool
from ddreplay.evaluate import PROTOCOLS, train
from ddreplay.parameterize import to_pixels
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
    choose: ChooseCount = Validated(pixels_per_byte=18.0)

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
        provenance = {
            "method": self.name,
            "images_per_class": images_per_class,
            **({"max_bytes": total} if total else {}),
            "seed": seed,
            "seconds": round(time.perf_counter() - started, 3),
            "normalisation": pool.normalization,
            "settings": describe(self),
            "versions": versions(),
            "device": str(pool.device),
        }
        return CondensedSet((part,), provenance)

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

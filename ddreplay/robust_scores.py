"""What a set is worth without soft labels and without augmentation: the scores of DD-Ranking."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ddreplay.backbones import Net
from ddreplay.data.pool import ClassPool
from ddreplay.evaluation import PROTOCOLS, Protocol, evaluate
from ddreplay.methods import selections
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["RobustScores", "robust_scores"]


@dataclass(frozen=True)
class RobustScores:
    """Accuracies in percent, and what DD-Ranking makes of them.

    Attributes:
        real_hard: Of networks trained on all real images.
        hard: Of networks trained on the set with hard labels.
        own: Of networks trained on the set under its own protocol, with its own labels.
        random: Of networks trained on as many random real images under that protocol.
        plain, random_plain: The same two without augmentation.
        weight: The share that the improvement over random has in a score, the augmented one in that of augmentation.
    Raises:
        ValueError: for a weight outside 0 to 1.
    Reference: Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", arXiv 2505.13300.
    Example:
        >>> found = RobustScores(real_hard=80.0, hard=50.0, own=60.0, random=40.0, plain=45.0, random_plain=35.0)
        >>> found.improvement_over_random, found.hard_label_recovery
        (20.0, 30.0)
        >>> round(found.label_robust, 1), round(found.augmentation_robust, 1)
        (24.8, 33.8)
    """

    real_hard: float
    hard: float
    own: float
    random: float
    plain: float
    random_plain: float
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight is a share and must lie in [0, 1], got {self.weight}")

    @property
    def improvement_over_random(self) -> float:
        """IOR, in points: how far the set is ahead of random real images."""
        return self.own - self.random

    @property
    def hard_label_recovery(self) -> float:
        """HLR, in points: how far the set with hard labels is behind all real images; less is better."""
        return self.real_hard - self.hard

    @property
    def label_robust(self) -> float:
        """LRS, in percent: (e^a - e^-1) / (e - e^-1) with a = w IOR - (1 - w) HLR, both as shares."""
        return self._score(self.improvement_over_random, -self.hard_label_recovery)

    @property
    def augmentation_robust(self) -> float:
        """ARS, in percent: the same of a = w (own - random) + (1 - w) (plain - random, plain)."""
        return self._score(self.improvement_over_random, self.plain - self.random_plain)

    def _score(self, first: float, second: float) -> float:
        mixed = (self.weight * first + (1 - self.weight) * second) / 100
        return 100 * (math.exp(mixed) - math.exp(-1)) / (math.e - math.exp(-1))


def robust_scores(
    condensed: CondensedSet,
    train: ClassPool,
    test: ClassPool,
    net: Net | None = None,
    *,
    protocol: str | Protocol = "dm2023",
    seeds: int = 5,
    seed: int = 0,
    real_hard: float | None = None,
    real_epochs: int = 30,
    weight: float = 0.5,
) -> RobustScores:
    """Train networks on a set and on random real images in the ways that the scores compare.

    Args:
        condensed: The set.
        train: The real images of its classes; random ones come from here, as many for every class as the set stores.
        test: Images to test on.
        net: Makes the networks; ``None``: the ConvNet of the papers.
        protocol: How the set is trained on; a step size that came with it serves the random images too.
        seeds: The number of networks for each accuracy.
        seed: That of the random images and of the first network.
        real_hard: The accuracy of networks trained on all real images, in percent, where it is known; ``None``: networks are
            trained on them here, for ``real_epochs`` epochs of the protocol without augmentation.
        weight: As in `RobustScores`.
    Departures: random images have hard labels where those of the set are learned; DD-Ranking gives both sides the labels of a teacher,
        where there is one. It searches the step size of every accuracy on test images; here it is the protocol's.
    """
    chosen = (PROTOCOLS[protocol] if isinstance(protocol, str) else protocol).of(condensed)
    plain = replace(chosen, name=f"{chosen.name}, plain", augment=None, mix=0.0)
    hard = replace(chosen, loss="cross_entropy")
    stored = [count for part in condensed.parts for count in part.counts]
    random = selections.random()(train, max(1, round(sum(stored) / len(stored))), seed=seed)
    how: dict[str, Any] = {"seeds": seeds, "seed": seed}
    if real_hard is None:
        whole = selections.random()(train, max(train.counts), seed=seed)  # a class that fits is kept whole
        real_hard = evaluate(
            whole, test, net, protocol=replace(plain, loss="cross_entropy").scaled(real_epochs), **how
        ).mean
    return RobustScores(
        real_hard=real_hard,
        hard=evaluate(_with_hard_labels(condensed), test, net, protocol=hard, **how).mean,
        own=evaluate(condensed, test, net, protocol=chosen, **how).mean,
        random=evaluate(random, test, net, protocol=chosen, **how).mean,
        plain=evaluate(condensed, test, net, protocol=plain, **how).mean,
        random_plain=evaluate(random, test, net, protocol=plain, **how).mean,
        weight=weight,
    )


def _with_hard_labels(condensed: CondensedSet) -> CondensedSet:
    parts = tuple(replace(part, soft_labels=None) for part in condensed.parts)
    return CondensedSet(parts, condensed.provenance)

"""Condensing with the networks that the stream trains anyway."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from avalanche.core import SupervisedPlugin
from torch import nn

from ddreplay.avalanche.storage_policies import CondensedBuffer
from ddreplay.condense.condenser import Condenser
from ddreplay.condense.distiller import Distiller
from ddreplay.data.pool import ClassPool
from ddreplay.methods.practical import Practical
from ddreplay.networks import NetworkSource, Snapshots
from ddreplay.storage.budget import Budget
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["LookingWith", "SnapshotPlugin"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LookingWith:
    """A condenser whose images are looked at by other networks than its own.

    Attributes:
        condenser: a method, or the practical default.
        networks: in the place of its own.
    """

    condenser: Distiller | Practical
    networks: NetworkSource

    takes: ClassVar[frozenset[str]] = Distiller.takes

    def __call__(self, pool: ClassPool, budget: Budget | int, *, seed: int = 0, **how: Any) -> CondensedSet:
        """Condense; ``how``: what `Distiller` takes besides."""
        condenser = self.condenser
        method = condenser.method(pool, budget) if isinstance(condenser, Practical) else condenser
        return replace(method, networks=self.networks)(pool, budget, seed=seed, **how)


class SnapshotPlugin(SupervisedPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
    """Condense an experience with copies of the strategy's own model, taken while it learned that experience.

    A bank of networks trained for condensing alone costs nearly half of the time. The model in training goes through the same ages,
    and knows the remembered classes besides. Where the codec is lossy, new images must have passed it (`CodecPlugin`): a model that
    saw crisp new images beside coded old ones makes a worse memory.

    In a list of plugins it stands before those that update the memory, and the memory is updated after training
    (`CondensedReplayPlugin`), not before (ER_ACE, GDumb).

    Args:
        storage_policy: one whose condenser looks with networks; they are replaced for the time of an update.
        size: copies per experience, evenly spaced over its training steps, the last one at their end. They take ``size`` times the
            bytes of the weights until the update is over.
    Raises:
        ValueError: when ``size`` is not positive.
        TypeError: when the policy does not condense with networks.
    """

    def __init__(self, storage_policy: CondensedBuffer, *, size: int = 20) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        _check(storage_policy.condenser)
        self.storage_policy, self.size = storage_policy, size
        self.networks: list[nn.Module] = []
        self._ages: set[int] = set()
        self._step = 0

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Begin anew."""
        self._let_go()
        self._ages, self._step = set(), 0

    def before_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Choose the steps after which the model is copied, when their number is known."""
        if not self._ages:
            steps = strategy.train_epochs * len(strategy.dataloader)
            self._ages = {round(steps * (k + 1) / self.size) for k in range(self.size)}

    def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Copy the model where its time has come."""
        self._step += 1
        if self._step in self._ages:
            self.networks.append(copy.deepcopy(strategy.model))

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Let the condenser look with the copies in the update that follows."""
        self._ages = set()
        if self.networks:
            log.info("condensing with %d copies of the model in training", len(self.networks))
            condenser = _check(self.storage_policy.condenser)
            self.storage_policy.condenser = LookingWith(condenser, Snapshots(self.networks))

    def after_training(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Give the condenser its own networks back."""
        self._let_go()

    def _let_go(self) -> None:
        self.networks = []
        if isinstance(self.storage_policy.condenser, LookingWith):
            self.storage_policy.condenser = self.storage_policy.condenser.condenser


def _check(condenser: Condenser) -> Distiller | Practical:
    if not isinstance(condenser, (Distiller, Practical)):
        raise TypeError(
            f"condensing with the stream's networks needs a Distiller for a condenser, got {type(condenser).__name__}; selections of "
            "real images look with networks of their own"
        )
    return condenser

"""A bank of networks whose real side is paid once."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddreplay.backbones import Net
from ddreplay.networks.source import Networks, Setting
from ddreplay.objectives.term import Look, Statistic
from ddreplay.randomness import Random
from ddreplay.training import LabelledImages, WithReplacement, by_optimizer, learnable, train_network

__all__ = [
    "Bank",
    "Banked",
]


@dataclass(frozen=True)
class Banked:
    """A bank of networks whose real side is paid once (Ours; the idea: `Fresh` needs new networks, not new statistics).

    Every entry holds a freshly initialised network, one augmentation draw and the objective's statistic of real images under
    both. An image step picks an entry and touches synthetic images only. With ``trained``, entries are of different ages, as the
    networks of `ModelQueue` are: each was trained on the pool's real images, augmented, before it was looked at.

    Args:
        net: makes a randomly initialised network; ``None``: the network of the method that it is part of.
        size: entries. Memory: size x (weights + statistic), see `Bank.nbytes`.
        images: real images per class in an entry's statistic; ``None`` for all of them.
        refresh: every ``refresh`` steps the oldest entry is replaced by a new one, which is shown at that step; ``refresh=1``
            shows a new network at every step, as `Fresh` does. ``None``: never.
        trained: steps of SGD (batches of 64, learning rate 0.01, momentum 0.9) on real images that an entry's network has had at
            most; their number is drawn uniformly from 0 to this.
    """

    net: Net | None = None
    size: int = 40
    _: KW_ONLY
    images: int | None = 512
    refresh: int | None = None
    trained: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")
        if self.refresh is not None and self.refresh < 1:
            raise ValueError(f"refresh must be at least 1 or None, got {self.refresh}")
        if self.trained < 0:
            raise ValueError(f"trained must be at least 0 steps, got {self.trained}")

    def start(self, setting: Setting) -> Networks:
        return self.build(setting).start(setting)

    def build(self, setting: Setting) -> Bank:
        """The bank for this pool, objective and augmentation; it is a source too, and serves several budgets."""
        if not setting.objective.bankable:
            raise ValueError(
                "this objective cannot be banked, because a term's real side changes with the step or with the synthetic images: "
                f"{setting.objective.describe()}; use Fresh(net)"
            )
        return Bank(self, setting, [setting.random.seed() for _ in range(self.size)])


class Bank:
    """Networks with their augmentation draw and real statistic; an entry is computed when it is first looked at.

    Everything of an entry follows from its seed, the pool, the objective and the augmentation.
    """

    def __init__(self, source: Banked, setting: Setting, seeds: list[int]) -> None:
        self.source, self.setting, self.seeds = source, setting, seeds
        self._entries: dict[int, tuple[Look, Statistic]] = {}

    @property
    def net(self) -> Net | None:
        """What made its networks."""
        return self.source.net

    def entry(self, position: int) -> tuple[Look, Statistic]:
        """The look at this position and the real statistic under it."""
        seed = self.seeds[position]
        if seed not in self._entries:
            setting, random = self.setting, Random(seed, self.setting.pool.device)
            net = setting.network(self.source.net, random)
            if self.source.trained:
                _train(net, setting, random.integer(self.source.trained + 1), random)
            look = setting.look(net, random)
            images = max(setting.pool.counts) if self.source.images is None else self.source.images
            self._entries[seed] = look, setting.statistic(look, images, random)
        return self._entries[seed]

    def replace(self, position: int, seed: int) -> None:
        """A new entry in the place of an old one."""
        self._entries.pop(self.seeds[position], None)
        self.seeds[position] = seed

    def fill(self) -> Bank:
        """Compute every entry now."""
        for position in range(len(self.seeds)):
            self.entry(position)
        return self

    def start(self, setting: Setting) -> Networks:
        """A bank that was built before is a network source for other budgets on the same pool."""
        mine = self.setting
        known = (setting.pool.shape, setting.pool.counts, setting.compared)
        if known != (mine.pool.shape, mine.pool.counts, mine.compared):
            raise ValueError("this bank was built on another pool: build one for this pool, or pass Banked(net) itself")
        return _BankedNetworks(self, setting)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights and statistics computed so far."""
        return sum(_nbytes(s) + _nbytes(tuple(look.net.state_dict().values())) for look, s in self._entries.values())


def _train(net: nn.Module, setting: Setting, steps: int, random: Random) -> None:
    descend = by_optimizer(torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9))
    images, order = LabelledImages.of_pool(setting.pool), WithReplacement(steps, 64)
    with learnable(net):
        train_network(
            net, images, order, descend, random, augment=setting.augment, compile=setting.compile, stop=setting.stop
        )


def _nbytes(value: Any) -> int:
    return value.nbytes if isinstance(value, Tensor) else sum(_nbytes(part) for part in value)


class _BankedNetworks:
    def __init__(self, bank: Bank, setting: Setting) -> None:
        self.bank, self.random, self.step = bank, setting.random, 0

    def show(self) -> tuple[Look, Statistic]:
        refresh, size = self.bank.source.refresh, len(self.bank.seeds)
        position = self.random.integer(size)
        if refresh is not None and self.step % refresh == 0:
            position = (self.step // refresh) % size
            self.bank.replace(position, self.random.seed())
        look, statistic = self.bank.entry(position)
        look.round = self.step
        return look, statistic

    def moved(self) -> None:
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "seeds": list(self.bank.seeds)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for position, seed in enumerate(state["seeds"]):
            if self.bank.seeds[position] != seed:
                self.bank.replace(position, seed)

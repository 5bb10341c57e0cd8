"""Which networks look at the images: sources of networks, from a fresh one at every step to a bank with its real side paid once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddreplay.augment import Augment, identity
from ddreplay.backbones import Net, Probe, as_factory, has_batchnorm, settle_batchnorm
from ddreplay.data import Batch, ClassPool
from ddreplay.objectives.term import Look, Side, Statistic, Term
from ddreplay.randomness import Random

__all__ = ["Bank", "Loops", "NetworkSource", "Networks", "Rounds", "Setting", "banked", "fresh", "trained_on_synthetic"]

BATCHNORM_IMAGES = 16  # per class, for running statistics; released code of DC


@dataclass
class Setting:
    """What a source works with during one condensation.

    batch_real: real images per class in one statistic. syn: the synthetic images as they are now, decoded, without a graph.
    images_per_class: the budget.
    chunk: images in one forward where no gradient is needed.
    """

    pool: ClassPool
    objective: Term
    augment: Augment
    batch_real: int
    random: Random
    syn: Callable[[], Batch]
    images_per_class: int = 1
    chunk: int | None = None

    def network(self, net: Net, random: Random | None = None) -> nn.Module:
        """A freshly initialised network on the pool's device, in train mode."""
        with (random or self.random).scope():
            module = as_factory(net)(self.pool.shape, self.pool.classes)
        return module.to(self.pool.device).train().requires_grad_(self.objective.weight_gradients)

    def look(self, net: nn.Module, random: Random | None = None, **more: Any) -> Look:
        """One augmentation draw for this network."""
        random = random or self.random
        transform = self.augment.draw(self.pool.shape, random)
        probe = Probe(net, self.objective.taps)
        return Look(net=net, probe=probe, transform=transform, augment=self.augment, random=random, **more)

    def statistic(self, look: Look, images: int | None = None, random: Random | None = None) -> Statistic:
        """The objective's statistic of a real batch, seen through this look."""
        real = self.pool.draw(images or self.batch_real, random or self.random)
        chunk = None if has_batchnorm(look.net) else self.chunk
        with torch.no_grad():
            return self.objective.summarise(Side(look, real.x, range(self.pool.classes), chunk=chunk))


class Networks(Protocol):
    """A source at work. All that lives between image steps is in its state."""

    def show(self) -> tuple[Look, Statistic]:
        """The next network and what the objective keeps of the real side under it."""

    def moved(self) -> None:
        """Called after the images have moved."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class NetworkSource(Protocol):
    """Says which networks are shown, and what happens to them after the images have moved."""

    def start(self, setting: Setting) -> Networks:
        """Begin a condensation."""


@dataclass(frozen=True)
class Fresh:
    """See `fresh`."""

    net: Net

    def start(self, setting: Setting) -> Networks:
        return _FreshNetworks(self.net, setting)


def fresh(net: Net) -> Fresh:
    """A newly initialised network at every step (DM)."""
    return Fresh(net)


class _FreshNetworks:
    def __init__(self, net: Net, setting: Setting) -> None:
        self.net, self.setting, self.shown = net, setting, 0

    def show(self) -> tuple[Look, Statistic]:
        look = self.setting.look(self.setting.network(self.net), round=self.shown)
        self.shown += 1
        return look, self.setting.statistic(look)

    def moved(self) -> None:
        """A fresh network is seen once."""

    def state_dict(self) -> dict[str, Any]:
        return {"shown": self.shown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.shown = state["shown"]


@dataclass(frozen=True)
class Loops:
    """How often a network is shown, and how long it is trained in between, by the budget.

    table: rows of (images per class, image steps a network sees, epochs on the synthetic set after each of them). A budget
    between two rows takes the larger one's, above the last row the last one's.
    """

    table: tuple[tuple[int, int, int], ...]

    def __call__(self, images_per_class: int) -> tuple[int, int]:
        """(steps, epochs) for this budget."""
        _, steps, epochs = next((row for row in self.table if row[0] >= images_per_class), self.table[-1])
        return steps, epochs


@dataclass(frozen=True)
class Rounds:
    """Image updates in all, as a number of networks: ``rounds`` networks, each seen as often as ``loops`` says."""

    rounds: int
    loops: Loops

    def __call__(self, images_per_class: int) -> int:
        return self.rounds * self.loops(images_per_class)[0]


@dataclass(frozen=True)
class TrainedOnSynthetic:
    """See `trained_on_synthetic`."""

    net: Net
    loops: Loops
    lr: float = 0.01
    batch_size: int = 256
    augment: Augment = field(default=identity)

    def start(self, setting: Setting) -> Networks:
        return _TrainedNetworks(self, setting)


def trained_on_synthetic(
    net: Net, *, loops: Loops | tuple[int, int] = (10, 50), lr: float = 0.01, batch_size: int = 256, augment: Augment = identity
) -> TrainedOnSynthetic:
    """A network is shown several times and trained on the synthetic set in between (DC, DSA, DCC).

    Args:
        loops: (image steps a network sees, epochs on the synthetic set after each but the last), or a table by budget.
        lr, batch_size: of that training, plain SGD.
        augment: what training images undergo, one operation a batch with magnitudes of their own (DSA).
    """
    loops = loops if isinstance(loops, Loops) else Loops(((1, *loops),))
    if any(steps < 1 or epochs < 0 for _, steps, epochs in loops.table):
        raise ValueError(f"loops needs at least 1 step and 0 epochs everywhere, got {loops.table}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    return TrainedOnSynthetic(net, loops, lr, batch_size, augment)


class _TrainedNetworks:
    def __init__(self, source: TrainedOnSynthetic, setting: Setting) -> None:
        self.source, self.setting = source, setting
        self.steps, self.epochs = source.loops(setting.images_per_class)
        self.round, self.step = 0, 0
        self.net: nn.Module | None = None

    def show(self) -> tuple[Look, Statistic]:
        if self.net is None:
            self.net = self.setting.network(self.source.net)
        if has_batchnorm(self.net):
            settle_batchnorm(self.net, self.setting.pool.draw(BATCHNORM_IMAGES, self.setting.random).x)
        look = self.setting.look(self.net, round=self.round, step=self.step)
        return look, self.setting.statistic(look)

    def moved(self) -> None:
        self.step += 1
        if self.step == self.steps:
            self.round, self.step, self.net = self.round + 1, 0, None
        elif self.net is not None:
            self.net.train()
            for _ in range(self.epochs):
                self._epoch(self.net, self.setting.syn())

    def _epoch(self, net: nn.Module, syn: Batch) -> None:
        random, pool = self.setting.random, self.setting.pool
        order = torch.randperm(len(syn.x), generator=random.device, device=syn.x.device)
        weights = list(net.parameters())
        for rows in order.split(self.source.batch_size):
            x = self.source.augment.draw(pool.shape, random, n=len(rows))(syn.x[rows])
            gradient = torch.autograd.grad(F.cross_entropy(net(x), syn.y[rows]), weights, allow_unused=True)
            with torch.no_grad():
                for weight, g in zip(weights, gradient, strict=True):
                    if g is not None:
                        weight.sub_(g, alpha=self.source.lr)

    def state_dict(self) -> dict[str, Any]:
        net = None if self.net is None else self.net.state_dict()
        return {"round": self.round, "step": self.step, "net": net}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.round, self.step, self.net = state["round"], state["step"], None
        if state["net"] is not None:
            self.net = self.setting.network(self.source.net, Random(0, self.setting.pool.device))
            self.net.load_state_dict(state["net"])


@dataclass(frozen=True)
class Banked:
    """See `banked`."""

    net: Net
    size: int = 40
    images: int | None = 512
    refresh: int | None = None

    def start(self, setting: Setting) -> Networks:
        return self.build(setting).start(setting)

    def build(self, setting: Setting) -> Bank:
        """The bank for this pool, objective and augmentation; it is a source too, and serves several budgets."""
        if not setting.objective.bankable:
            raise ValueError(
                "this objective cannot be banked, because a term's real side changes with the step or with the synthetic images: "
                f"{setting.objective.describe()}; use fresh(net)"
            )
        return Bank(self, setting, [setting.random.seed() for _ in range(self.size)])


def banked(net: Net, size: int = 40, *, images: int | None = 512, refresh: int | None = None) -> Banked:
    """A bank of random networks whose real side is paid once (Ours; the idea: `fresh` needs new networks, not new statistics).

    Every entry holds a freshly initialised network, one augmentation draw and the objective's statistic of real images under
    both. An image step picks an entry and touches synthetic images only.

    Args:
        size: entries. Memory: size x (weights + statistic), see `Bank.nbytes`.
        images: real images per class in an entry's statistic; ``None`` for all of them.
        refresh: every ``refresh`` steps the oldest entry is replaced by a new one, which is shown at that step; ``refresh=1``
            shows a new network at every step, as `fresh` does. ``None``: never.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if refresh is not None and refresh < 1:
        raise ValueError(f"refresh must be at least 1 or None, got {refresh}")
    return Banked(net, size, images, refresh)


class Bank:
    """Networks with their augmentation draw and real statistic; an entry is computed when it is first looked at.

    Everything of an entry follows from its seed, the pool, the objective and the augmentation.
    """

    def __init__(self, source: Banked, setting: Setting, seeds: list[int]) -> None:
        self.source, self.setting, self.seeds = source, setting, seeds
        self._entries: dict[int, tuple[Look, Statistic]] = {}

    def entry(self, position: int) -> tuple[Look, Statistic]:
        """The look at this position and the real statistic under it."""
        seed = self.seeds[position]
        if seed not in self._entries:
            setting, random = self.setting, Random(seed, self.setting.pool.device)
            look = setting.look(setting.network(self.source.net, random), random)
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
        if setting.pool.shape != self.setting.pool.shape or setting.pool.counts != self.setting.pool.counts:
            raise ValueError("this bank was built on another pool: build one for this pool, or pass banked(net) itself")
        return _BankedNetworks(self, setting)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights and statistics computed so far."""
        return sum(_nbytes(s) + _nbytes(tuple(look.net.state_dict().values())) for look, s in self._entries.values())


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

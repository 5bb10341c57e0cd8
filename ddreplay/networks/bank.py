"""A bank of networks whose real side is paid once."""

from __future__ import annotations

import logging
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ddreplay.backbones import Net
from ddreplay.data.chunks import by_chunks
from ddreplay.networks.growing import Grow, OneEach, Runs, scope
from ddreplay.networks.source import Context, Networks, NetworkSource
from ddreplay.objectives.side import Look
from ddreplay.objectives.term import Statistic
from ddreplay.randomness import Random

__all__ = ["Bank", "BankSource", "Banked", "check_bankable"]

log = logging.getLogger(__name__)

METERED = 100
"""Real images of every class on which it is measured what a trained network knows, where an objective asks: within 2 % for ten classes."""


@dataclass(frozen=True)
class Banked:
    """A bank of networks whose real side is paid once (Ours; the idea: `Fresh` needs new networks, not new statistics).

    Every entry holds a network, one augmentation draw and the objective's statistic of real images under both. An image step picks
    an entry and touches synthetic images only. Without ``trained`` the networks are freshly initialised. With it they are of
    different ages, as the networks of `ModelQueue` are: each was trained on the pool's real images, augmented, before it was looked
    at. With ``runs``, a few networks are trained and each is kept at several ages: the entries of one run are the same network as it
    grows, and a bank costs a fraction of the training. A pool with one class alone has nothing to teach: then all networks are
    freshly initialised.

    Args:
        net: Makes a randomly initialised network; ``None``: the network of the method that this is part of.
        size: The number of entries. They take ``size`` times the bytes of weights and statistic, see `Bank.nbytes`.
        images: The number of real images per class in an entry's statistic; ``None``: all of them.
        refresh: Every ``refresh`` image steps the oldest entry is replaced by a new one, which is shown at that step; ``refresh=1``
            shows a new network at every step, as `Fresh` does. ``None``: never. It does not go together with ``runs``.
        trained: The largest number of training steps that an entry's network has had. Without ``runs``, every entry draws its own
            number uniformly from 0 to this.
        runs: The number of networks that are trained, each for ``trained`` steps and kept at ``size / runs`` evenly spaced ages, the
            last of them ``trained``: 20 entries of 4 runs of 300 steps are kept after 60, 120, 180, 240 and 300 steps; those of 20
            runs are all of one age. ``None``: every entry is a run of its own.
        batch_size: The number of images in a training batch, drawn uniformly from the pool, with replacement.
        lr: The step size of that training by SGD.
        momentum: The momentum of that training.
    Raises:
        ValueError: for a count out of range, a ``size`` that ``runs`` does not divide, fewer steps than ages, or ``refresh`` together
            with ``runs``.
    Example:
        >>> Banked(size=20, trained=300, runs=4).ages
        (60, 120, 180, 240, 300)
    """

    net: Net | None = None
    size: int = 40
    _: KW_ONLY
    images: int | None = 512
    refresh: int | None = None
    trained: int = 0
    runs: int | None = None
    batch_size: int = 64
    lr: float = 0.01
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")
        if self.images is not None and self.images < 1:
            raise ValueError(f"images must be at least 1 per class, or None for all of them, got {self.images}")
        if self.refresh is not None and self.refresh < 1:
            raise ValueError(f"refresh must be at least 1 or None, got {self.refresh}")
        if self.trained < 0:
            raise ValueError(f"trained must be at least 0 steps, got {self.trained}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 image, got {self.batch_size}")
        if not (self.lr > 0 and 0 <= self.momentum < 1):
            raise ValueError(f"lr must be above 0 and momentum in [0, 1), got {self.lr} and {self.momentum}")
        if self.runs is not None:
            self._check_runs(self.runs)

    def _check_runs(self, runs: int) -> None:
        if runs < 1 or self.size % runs:
            raise ValueError(
                f"size must be a multiple of runs, so that every run is kept at as many ages, got size={self.size} and "
                f"runs={runs}"
            )
        if self.trained < self.size // runs:
            raise ValueError(
                f"{runs} runs kept at {self.size // runs} ages each need trained={self.size // runs} steps at least, got "
                f"trained={self.trained}; give more steps, or runs=None"
            )
        if self.refresh is not None:
            raise ValueError(
                f"refresh replaces entries one by one, and the entries of a run come together: give refresh={self.refresh} or "
                f"runs={runs}, not both"
            )

    @property
    def ages(self) -> tuple[int, ...]:
        """The numbers of training steps after which a run is kept; none where every entry is a run of its own."""
        kept = 0 if self.runs is None else self.size // self.runs
        return tuple(round(self.trained * (k + 1) / kept) for k in range(kept))

    def fraction(self, share: int) -> Banked:
        """The same with one entry in ``share``, and one run in as many; at least one of each, and runs keep their ages."""
        if self.runs is None:
            return replace(self, size=max(1, self.size // share))
        runs = max(1, self.runs // share)
        return replace(self, runs=runs, size=runs * len(self.ages))

    def start(self, context: Context) -> Networks:
        return self.build(context).start(context)

    def build(self, context: Context) -> Bank:
        """The bank for this pool, objective and augmentation; it is a source too, and serves several budgets.

        Raises:
            ValueError: when the objective's real side is not the same at every step.
        """
        check_bankable(context)
        teaches = context.pool.classes > 1
        if self.trained and not teaches:
            alone = context.pool.class_names[0]
            log.info("class %s is alone, which teaches a network nothing: the bank's networks stay untrained", alone)
        grow: Grow
        if self.runs is None or not teaches:
            count, grow = self.size, OneEach(self, context, self.trained if teaches else 0)
        else:
            count, grow = self.runs, Runs(self, context)
        return Bank(self, context, [context.random.seed() for _ in range(count)], self.size, grow)


def check_bankable(context: Context) -> None:
    """Raise a ValueError for an objective whose real side cannot be kept."""
    if not context.objective.bankable:
        raise ValueError(
            "this objective cannot be banked, because a term's real side changes with the step or with the synthetic images: "
            f"{context.objective.describe()}; use Fresh(net)"
        )


@runtime_checkable
class BankSource(NetworkSource, Protocol):
    """What a bank is made from."""

    @property
    def images(self) -> int | None:
        """The number of real images per class in a statistic; ``None``: all."""

    @property
    def refresh(self) -> int | None:
        """The number of image steps after which the oldest entry is replaced; ``None``: never."""


class Bank:
    """Networks with their augmentation draw and real statistic; an entry is computed when it is first looked at.

    Everything of an entry follows from its seed, or its run's, and from the pool, the objective and the augmentation. An entry whose
    training was cut short (``Context.stop``) is given out and not kept.

    Attributes:
        source: What the bank was made from.
        context: What its entries are made with.
        seeds: One seed per entry, or one per run.
        size: The number of entries.
    """

    def __init__(self, source: BankSource, context: Context, seeds: list[int], size: int, grow: Grow) -> None:
        self.source, self.context, self.seeds, self.size = source, context, seeds, size
        self._grow = grow
        self._entries: dict[int, tuple[Look, Statistic]] = {}

    @property
    def net(self) -> Net | None:
        """What made its networks."""
        return self.source.net

    @property
    def ready(self) -> int:
        """The number of entries that are computed."""
        return len(self._entries)

    def entry(self, position: int, running: Context | None = None) -> tuple[Look, Statistic]:
        """The look at this position and the real statistic under it.

        Args:
            running: The context whose deadline and progress count, where it is not the bank's own.
        """
        if position in self._entries:
            return self._entries[position]
        context, running = self.context, running or self.context
        grown = self._grow(position, self.seeds, running.stop)
        images = max(context.pool.counts) if self.source.images is None else self.source.images
        with scope(grown.seed):
            look = context.look(grown.net, grown.random)
            found = look, context.statistic(look, images, grown.random)
            if grown.trained and context.objective.reads_accuracy:
                look.accuracy = _accuracy(grown.net, context, grown.random)
        if grown.whole:
            self._entries[position] = found
            if running.on_network is not None:
                running.on_network(self.ready, self.size)
        return found

    def replace(self, index: int, seed: int) -> None:
        """A new seed in the place of an old one; the entries that followed from the old one are gone."""
        each = self.size // len(self.seeds)
        for position in range(index * each, (index + 1) * each):
            self._entries.pop(position, None)
        self._grow.forget(index)
        self.seeds[index] = seed

    def fill(self) -> Bank:
        """Compute every entry now."""
        for position in range(self.size):
            self.entry(position)
        return self

    def networks(self) -> list[nn.Module]:
        """The networks of all entries, trained where they are to be, without the statistics of real images."""
        return [self._grow(position, self.seeds, None).net for position in range(self.size)]

    def start(self, context: Context) -> Networks:
        """A bank that was built before is a network source for other budgets on the same pool.

        Raises:
            ValueError: when it was built on another pool.
        """
        mine = self.context
        known = (context.pool.shape, context.pool.counts, context.compared, context.own)
        if known != (mine.pool.shape, mine.pool.counts, mine.compared, mine.own):
            raise ValueError("this bank was built on another pool: build one for this pool, or pass Banked(net) itself")
        return _BankedNetworks(self, context)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights and statistics computed so far, the networks of a run that are no entries yet among them."""
        nets = {id(net): net for net in (*(look.net for look, _ in self._entries.values()), *self._grow.kept())}
        weights = sum(_nbytes(tuple(net.state_dict().values())) for net in nets.values())
        return weights + sum(_nbytes(statistic) for _, statistic in self._entries.values())


def _accuracy(net: nn.Module, context: Context, random: Random) -> Tensor:
    """The share of a few real images of every known class that a network names rightly, as it is when tested: a scalar on the device."""
    pool, trains = context.pool, {module: module.training for module in net.modules()}
    rows = pool.draw_rows(METERED, random)
    net.eval()
    with torch.no_grad():
        logits = by_chunks(lambda part: net(pool.rows(part)), rows.flatten(), context.chunk or rows.numel())
    for module, training in trains.items():
        module.training = training
    return (logits.argmax(1) == pool.positions(rows.shape[1])).float().mean()


def _nbytes(value: Any) -> int:
    return value.nbytes if isinstance(value, Tensor) else sum(_nbytes(part) for part in value)


class _BankedNetworks:
    def __init__(self, bank: Bank, context: Context) -> None:
        self.bank, self.context, self.step = bank, context, 0

    def show(self) -> tuple[Look, Statistic]:
        refresh, size, random = self.bank.source.refresh, self.bank.size, self.context.random
        position = random.integer(size)
        if refresh is not None and self.step % refresh == 0:
            position = (self.step // refresh) % size
            self.bank.replace(position, random.seed())
        look, statistic = self.bank.entry(position, self.context)
        look.round = self.step
        return look, statistic

    def moved(self) -> None:
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "seeds": list(self.bank.seeds)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for index, seed in enumerate(state["seeds"]):
            if self.bank.seeds[index] != seed:
                self.bank.replace(index, seed)

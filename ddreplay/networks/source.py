"""What a source of networks works with, and what it must give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from ddreplay.augment.siamese import Augment
from ddreplay.backbones import ConvNet, Net, Probe, as_factory, mixes_images
from ddreplay.data.chunks import DrawnImages, in_memory
from ddreplay.data.pool import Batch, ClassPool
from ddreplay.networks.real_batches import Drawer, Uniform
from ddreplay.objectives.side import Look, Side
from ddreplay.objectives.term import Statistic, Term
from ddreplay.randomness import Random

__all__ = ["NetworkSource", "Networks", "Context", "with_net"]

Part = TypeVar("Part")


def with_net(part: Part, net: Net) -> Part:
    """The same part, and the parts inside it, with this network where they name none: ``Banked(size=40)`` in ``dm(net, ...)``."""
    if not is_dataclass(part) or isinstance(part, type):
        return part
    changes: dict[str, Any] = {}
    for field in fields(part):
        value = getattr(part, field.name)
        filled = net if field.name == "net" and value is None else with_net(value, net)
        if filled is not value:
            changes[field.name] = filled
    return replace(part, **changes) if changes else part


@dataclass
class Context:
    """What a source works with during one condensation.

    Attributes:
        pool: The real images of all classes that networks know and are trained on.
        objective: What must agree between real and synthetic images.
        augment: What both sides undergo.
        batch_real: The number of real images per class in one statistic.
        random: The source of every draw of this condensation.
        syn: Gives the synthetic images as they are now, decoded, without a graph.
        images_per_class: The number of synthetic images per class.
        chunk: The number of images in one forward where no gradient is needed (`ddreplay.objectives.side.Side`).
        drawer: Draws the real images of a statistic; ``None``: uniformly.
        compile: Whether networks run through ``torch.compile``, where that can be done.
        positions: The classes that are compared, by position in the pool; ``None``: all of them.
        real: The classes that are compared, as a pool, which statistics draw from; ``None``: the pool.
        own: The blocks of the compared classes that this process looks at, where several share them; ``None``: all. Images are drawn for
            all, so that every process draws the same.
        stop: Says that time is up; ``None``: it never is. It is asked between the training steps of networks that nobody was shown
            yet: a bank's, an expert, those that a queue begins with. What it cuts short is shown as it is; a bank and a folder of
            experts do not keep it. Training between image steps is never cut, so that a run can go on to the same bits.
        on_network: Is told how many networks of how many are made.
    """

    pool: ClassPool
    objective: Term
    augment: Augment
    batch_real: int
    random: Random
    syn: Callable[[], Batch]
    images_per_class: int = 1
    chunk: int | None = None
    drawer: Drawer | None = None
    compile: bool = False
    positions: tuple[int, ...] | None = None
    real: ClassPool | None = None
    own: tuple[int, ...] | None = None
    stop: Callable[[], bool] | None = None
    on_network: Callable[[int, int], None] | None = None

    def network(self, net: Net | None, random: Random | None = None) -> nn.Module:
        """A freshly initialised network on the pool's device, in train mode; its outputs are all known classes, two at least.

        ``None``: the ConvNet of the papers.
        """
        with (random or self.random).scope():
            module = as_factory(ConvNet() if net is None else net)(self.pool.shape, max(2, self.pool.classes))
        module = module.to(self.pool.device, non_blocking=True)  # without waiting for what the device does
        return module.train().requires_grad_(self.objective.weight_gradients)

    def look(self, net: nn.Module, random: Random | None = None, **more: Any) -> Look:
        """One augmentation draw for this network."""
        random = random or self.random
        transform = self.augment.draw(self.pool.shape, random)
        twice = self.objective.weight_gradients
        probe = Probe(net, self.objective.taps, compile=self.compile, twice=twice)
        return Look(net=net, probe=probe, transform=transform, augment=self.augment, random=random, **more)

    def statistic(self, look: Look, images: int | None = None, random: Random | None = None) -> Statistic:
        """The objective's statistic of a real batch, seen through this look; its images are fetched and pass piece by piece.

        Args:
            images: The number of real images per class; ``None``: ``batch_real``.
            random: The source of the draw, which then owes nothing to earlier draws; ``None``: the condensation's.
        """
        n, source = images or self.batch_real, random or self.random
        pool = self.pool if self.real is None else self.real
        drawer = self.drawer or Uniform().start(pool)
        rows, positions = drawer(look, n, source, anew=random is not None), self.compared
        if self.own is not None:
            rows, positions = rows[list(self.own)], tuple(positions[k] for k in self.own)
        real, back = DrawnImages(pool, rows.flatten()), look.mark()

        def attempt(chunk: int | None) -> Statistic:
            back()
            with torch.no_grad():
                return self.objective.summarise(Side(look, real, positions, chunk=chunk))

        if self.chunk is None or mixes_images(look.net):  # all at once, or not at all
            return attempt(self.chunk)
        found, self.chunk = in_memory(attempt, self.chunk, pool.device)
        return found

    @property
    def compared(self) -> tuple[int, ...]:
        """The positions of the classes that a statistic is of."""
        return tuple(range(self.pool.classes)) if self.positions is None else self.positions


@runtime_checkable
class Networks(Protocol):
    """A source at work. All that lives between image steps is in its state."""

    def show(self) -> tuple[Look, Statistic]:
        """The next network and what the objective keeps of the real side under it."""

    def moved(self) -> None:
        """Called after the images have moved."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class NetworkSource(Protocol):
    """Says which networks are shown, and what happens to them after the images have moved."""

    @property
    def net(self) -> Net | None:
        """What makes the networks; ``None`` where the method says it (`with_net`)."""

    def start(self, context: Context) -> Networks:
        """Begin a condensation."""

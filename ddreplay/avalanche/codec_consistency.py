"""New images as the memory gives them back: through its codec, at its quality."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol, runtime_checkable

import torch
from avalanche.core import SupervisedPlugin
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import Dataset

from ddreplay.avalanche.datasets import Samples, read
from ddreplay.avalanche.storage_policies import CondensedBuffer
from ddreplay.condense.condenser import default_codec
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.image_count import AtQuality, Fixed
from ddreplay.data.pool import ClassPool
from ddreplay.data.space import to_network, to_pixels
from ddreplay.methods.selection_rules import RandomRule
from ddreplay.methods.selections import Selection
from ddreplay.parameterize.coded import Coded
from ddreplay.randomness import Random
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import Codec
from ddreplay.storage.part import Part

__all__ = ["CodecPlugin", "Stored", "how_stored"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stored:
    """How a memory stores the images of a class.

    Attributes:
        codec: at its quality.
        images: of a class, which share a sheet: what a picture codec leaves out of an image depends on its neighbours.
        mean, std: network space is (pixel - mean) / std.
    """

    codec: Codec
    images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def like(cls, part: Part) -> Stored:
        """As a part of a condensed set is stored."""
        return cls(part.codec, max(1, *part.counts), part.mean, part.std)

    def give_back(self, x: Float[Tensor, "n ..."], y: Int64[Tensor, " n"]) -> Float[Tensor, "n ..."]:
        """Images in network space as this codec gives them back: every class in sheets of ``images``, in the order of the rows.

        The last sheet of a class is filled up with its first images. A class of fewer images makes one sheet of them.
        """
        images = x if x.dim() == 4 else x[:, :, None, None]
        pixels, out = to_pixels(images, self.mean, self.std), torch.empty_like(images)
        for label in y.unique():
            rows = (y == label).nonzero().flatten()
            size = min(self.images, len(rows))
            sheets = pixels[rows[torch.arange(-(-len(rows) // size) * size) % len(rows)]].split(size)
            stored = self.codec.encode(sheets)
            c, h, w = images.shape[1:]
            given = torch.cat(self.codec.decode(stored, [size] * len(sheets), (c, h, w)))[: len(rows)]
            out[rows] = to_network(given, self.mean, self.std)
        return out.reshape(x.shape)


@runtime_checkable
class Chooses(Protocol):
    """A condenser that condenses with another one, which may follow from pool and budget, such as `ddreplay.methods.Practical`."""

    def method(self, pool: ClassPool, budget: Budget | int) -> Any:
        """What it condenses this pool with, or what stores images as it does."""


def how_stored(policy: Any, samples: Callable[[], Samples]) -> Stored | None:
    """How a storage policy stores the classes of an experience; ``None`` where nothing is lost, or nothing is known of it.

    Where the memory holds something, as its newest images that are stored with loss. Before, as the policy's budget would store a
    random choice of the experience's own images, ``samples``, which are asked for in this case alone.
    """
    if not isinstance(policy, CondensedBuffer):
        return None
    held = [part for memory in policy.memories.values() for part in memory.condensed.parts]
    lossy = [part for part in held or _expected(policy, samples()) if part.codec.lossy]
    return Stored.like(lossy[-1]) if lossy else None


def _expected(policy: CondensedBuffer, samples: Samples) -> Sequence[Part]:
    images = samples.x if samples.x.dim() == 4 else samples.x[:, :, None, None]
    pool = ClassPool(images, samples.y, mean=policy.mean, std=policy.std, device="cpu")
    condenser, budget = policy.condenser, policy.budget.of_each(pool.classes)
    while isinstance(condenser, Chooses):
        condenser = condenser.method(pool, budget)
    if not isinstance(condenser, (Distiller, Selection)):
        log.info("how %s stores images is known when the memory holds some", type(condenser).__name__)
        return ()
    form = condenser.parameterize if isinstance(condenser, Distiller) else None
    codec = form.codec if isinstance(form, Coded) else condenser.codec or default_codec(budget, images.shape[1])
    if not codec.lossy:
        return ()
    # other rules for the number of images train networks
    choose = condenser.choose if isinstance(condenser.choose, (AtQuality, Fixed)) else AtQuality()
    return Selection(RandomRule(), codec=codec, choose=choose)(pool, budget).parts


class CodecPlugin(SupervisedPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
    """Show new images as the memory's codec gives them back, wherever that is lossy.

    A network that sees crisp new images beside coded old ones learns the codec's traces as a feature of new classes, and forgets the
    old ones for it. So the images of an experience pass the codec that the memory has, at its quality, in sheets of as many images.
    Labels, task labels, transforms and the order of samples stay as they are, and the memory itself is filled from crisp images.
    Where training transforms draw nothing, images are coded once an experience, before they are trained on; where they do, once an
    epoch, after the draw. `CondensedReplayPlugin` does this by itself; alone it is for strategies that hold a policy of their own
    (see `use_in`). Not for training on the memory alone, as in GDumb.

    Args:
        storage_policy: a `CondensedBuffer` or `RingBuffer`; with other policies, and with lossless codecs, nothing is changed.
        crisp: share of the new images that are left as they are, drawn anew in every epoch.
        seed: everything drawn follows from it; the caller's random state is untouched.
    Attributes:
        stored: how the memory stored images in the current experience, or ``None``.
        seconds: wall time of coding, one number per experience.
    Raises:
        ValueError: when ``crisp`` is not in [0, 1].
    """

    def __init__(self, storage_policy: Any, *, crisp: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= crisp <= 1:
            raise ValueError(f"crisp is a share of the new images and must lie in [0, 1], got {crisp}")
        self.storage_policy, self.crisp = storage_policy, crisp
        self.random = Random(seed)
        self.stored: Stored | None = None
        self.seconds: list[float] = []
        self._shown: _Shown | None = None

    def after_train_dataset_adaptation(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Put the coded images in the place of the experience's."""
        dataset = strategy.adapted_dataset
        if self.crisp == 1 or len(dataset) == 0:
            return
        started = time.perf_counter()
        samples = cache(partial(read, dataset))
        self.stored = how_stored(self.storage_policy, samples)
        if self.stored is None:
            return
        self._shown = _Shown(dataset, samples(), self.stored, self.crisp, self.random)
        strategy.adapted_dataset = self._shown.as_dataset()
        self.seconds.append(time.perf_counter() - started)
        log.info("%d new images through %s in %.1f s", len(dataset), self.stored.codec, self.seconds[-1])

    def before_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Draw anew what is drawn in every epoch."""
        if self._shown is not None:
            started = time.perf_counter()
            self._shown.renew()
            self.seconds[-1] += time.perf_counter() - started

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Let go of the experience's images."""
        self._shown = None


class _Shown(Dataset[tuple[Any, ...]]):
    """The items of an experience with other images: coded ones, and crisp ones among them."""

    def __init__(self, dataset: Any, samples: Samples, stored: Stored, crisp: float, random: Random) -> None:
        self.dataset, self.stored, self.share, self.random = dataset, stored, crisp, random
        items, self.y = self._items(), samples.y
        appended = sum(attribute.use_in_getitem for attribute in dataset._data_attributes.values())
        self.rest = [tuple(item[1 : len(item) - appended]) for item in items]
        self._code(items)
        self.same_in_every_epoch = torch.equal(self.crisp, samples.x)
        self.epochs = 0

    def _items(self) -> list[Any]:
        """As the training transforms draw them now."""
        with self.random.scope():
            return [self.dataset[k] for k in range(len(self.dataset))]

    def _code(self, items: Sequence[Any]) -> None:
        self.crisp = torch.stack([item[0].detach().cpu() for item in items])
        self.coded = self.stored.give_back(self.crisp, self.y)
        self._mix()

    def _mix(self) -> None:
        self.x = self.coded
        if self.share:
            rows = torch.randperm(len(self.y), generator=self.random.cpu)[: round(self.share * len(self.y))]
            self.x = self.coded.index_copy(0, rows, self.crisp[rows])

    def renew(self) -> None:
        """For the epoch that begins; what was drawn when this was made serves the first."""
        if self.epochs and not self.same_in_every_epoch:
            self._code(self._items())
        elif self.epochs:
            self._mix()
        self.epochs += 1

    def as_dataset(self) -> Any:
        """With the attributes of the experience's dataset."""
        kind, attributes = type(self.dataset), list(self.dataset._data_attributes.values())
        return kind([self], data_attributes=attributes, collate_fn=self.dataset.collate_fn)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return (self.x[index], *self.rest[index])

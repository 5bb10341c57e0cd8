"""One cell of the class-incremental benchmark: a strategy with a memory on a stream, with one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from benchmarks.kept_networks import Seconds, digest
from benchmarks.kept_sets import KeptSets
from benchmarks.memories import in_time, memory_condenser
from benchmarks.streams import Stream, average_accuracy, backward_transfer, class_incremental_stream, forgetting
from benchmarks.trained_networks import CompiledInTraining, trained_network
from ddreplay import Budget
from ddreplay.augment.siamese import Siamese
from ddreplay.datasets import ImageData, load
from ddreplay.randomness import Random
from strategies import STRATEGIES

__all__ = ["FROM_SCRATCH", "Cell", "Settings", "method_of", "run_cell"]

FROM_SCRATCH = ("gdumb", "joint")
"""Strategies whose last network owes nothing to the earlier ones."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers besides the cell; and where the files are, which decides nothing."""

    dataset: str
    root: str | None
    download: bool
    experiences: int
    order: Literal["drawn", "fixed"]
    net: str
    condense_net: str
    epochs: int
    batch_size: int
    lr: float
    gdumb_steps: int
    gdumb_batch_size: int
    gdumb_lr_to: float
    finish_steps: int
    update: Literal["after", "before"]
    crisp: float
    balanced: bool
    augment: bool
    only_last: bool
    per_class: int | None
    validation: bool
    codec: str | None
    device: str
    compile: bool

    def data(self) -> ImageData:
        """The data; for tuning with held-out training images in the place of the test images."""
        return _data(self.dataset, self.root, self.download, self.validation)

    def deciding(self, data: ImageData) -> dict[str, Any]:
        """What must be alike in all cells of a record: the settings, and a digest of the images."""
        kept = {name: value for name, value in asdict(self).items() if name not in ("root", "download")}
        if self.gdumb_lr_to == 1:
            del kept["gdumb_lr_to"]  # a constant step size is what records say nothing of
        if self.update == "after":
            del kept["update"]  # the same
        return {**kept, "dataset": Path(self.dataset).name, "images": _digest(data), "classes": data.classes}


@lru_cache(maxsize=1)
def _data(dataset: str, root: str | None, download: bool, validation: bool) -> ImageData:
    found = load(dataset, root=root, download=download)
    return found.for_tuning(fraction=0.3) if validation else found


def _digest(data: ImageData) -> str:
    found = hashlib.sha256(repr((data.mean, data.std, data.shape, data.class_names)).encode())
    for tensor in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()[:32]


@dataclass(frozen=True)
class Cell:
    """A strategy with one memory at one budget with one seed; a strategy without a memory stands for both, and has no budget."""

    memory: str
    seed: int
    strategy: str
    images_per_class: int | None = None
    bytes_per_class: int | None = None

    @property
    def budget(self) -> Budget | None:
        """What the memory may hold; None for a strategy without one."""
        if self.images_per_class is None and self.bytes_per_class is None:
            return None
        return Budget.of(images_per_class=self.images_per_class, bytes_per_class=self.bytes_per_class)

    @classmethod
    def of(cls, result: dict[str, Any]) -> Cell:
        """The cell that a result is of."""
        return cls(*(result[name] for name in ("memory", "seed", "strategy", "images_per_class", "bytes_per_class")))


def _sets(settings: Settings, cell: Cell, data: ImageData, cache: Path) -> KeptSets:
    codec = settings.codec or ("avif" if cell.bytes_per_class else None)
    made = memory_condenser(cell.memory, settings.condense_net, data.augmentation, codec, compile=settings.compile)
    return KeptSets(made, cache, share=in_time(cell.memory)[1])


def method_of(settings: Settings, cell: Cell) -> str | None:
    """A digest of all settings that the cell's memory condenses with, and of the versions that do it; None without a memory."""
    data = settings.data()
    if cell.budget is None:
        return None
    pool = data.pool("train", device="cpu").select([0])
    return digest(_sets(settings, cell, data, Path()).settings(pool, cell.budget))[:16]


def run_cell(settings: Settings, cache: Path, cell: Cell) -> dict[str, Any]:
    """Train the strategy on the stream.

    What is drawn while an experience is trained on follows from the seed and the number of the experience; so a strategy that begins
    from scratch ends with the same network whether the earlier ones were trained or not.

    Args:
        cache: Where condensed sets and trained networks are kept.
    """
    data = settings.data()
    stream = class_incremental_stream(
        data,
        settings.experiences,
        cell.seed,
        device=settings.device,
        per_class=settings.per_class,
        order=settings.order,
    )
    sets = None if cell.budget is None else _sets(settings, cell, data, cache)
    memory = None if sets is None else _buffer(sets, cell, data, settings.device)
    strategy = _strategy(settings, cell, data, memory)
    found, training = _follow(strategy, stream, settings, cell, sets)
    beside, condensing = _beside(strategy), Seconds() if sets is None else sets.seconds
    return {
        **asdict(cell),
        "accuracies": found,
        "average_accuracy": average_accuracy(found),
        "forgetting": forgetting(found),
        "backward_transfer": backward_transfer(found),
        "images": 0 if memory is None else len(memory.buffer),
        "nbytes": (0 if memory is None else memory.nbytes) + beside,
        "nbytes_beside": beside,
        "condense_seconds": condensing.wall,
        "condense_cpu_seconds": condensing.cpu,
        "train_seconds": training.wall,
        "train_cpu_seconds": training.cpu,
        "method": method_of(settings, cell),
    }


def _buffer(sets: KeptSets, cell: Cell, data: ImageData, device: str) -> Any:
    from ddreplay.avalanche import CondensedBuffer

    return CondensedBuffer(
        images_per_class=cell.images_per_class,
        bytes_per_class=cell.bytes_per_class,
        total_num_classes=data.classes,
        condenser=sets,
        seed=cell.seed,
        mean=data.mean,
        std=data.std,
        device=device,
        seconds=None if sets.share is None else "training",
    )


def _strategy(settings: Settings, cell: Cell, data: ImageData, memory: Any) -> Any:
    from ddreplay.avalanche import AugmentPlugin

    batch_size = settings.gdumb_batch_size if cell.strategy == "gdumb" else settings.batch_size
    with Random(1000 + cell.seed).scope():
        model = trained_network(settings.net)(data.shape, data.classes)
        strategy = STRATEGIES[cell.strategy].build(
            CompiledInTraining(model, batch_size) if settings.compile else model,
            memory,
            lr=settings.lr,
            lr_to=settings.gdumb_lr_to,
            batch_size=batch_size,
            epochs=settings.epochs,
            steps=settings.gdumb_steps,
            batch_size_mem="balanced" if settings.balanced else None,
            crisp=settings.crisp,
            finish_steps=settings.finish_steps,
            update=settings.update,
            device=settings.device,
        )
    if settings.augment:
        strategy.plugins.append(AugmentPlugin(Siamese(data.augmentation), seed=cell.seed))
    return strategy


def _follow(
    strategy: Any, stream: Stream, settings: Settings, cell: Cell, sets: KeptSets | None
) -> tuple[list[list[float] | None], Seconds]:
    """Accuracies after every experience, and what training took, without condensing."""
    found: list[list[float] | None] = []
    training, last = Seconds(), len(stream.train) - 1
    for k, experience in enumerate(stream.train):
        with _drawn_anew(strategy, cell.seed, k):
            if settings.only_last and cell.strategy in FROM_SCRATCH and k < last:
                _remember(strategy, experience)
                found.append(None)
                continue
            started, before = Seconds.now(), Seconds() if sets is None else sets.elapsed
            strategy.train(experience)
            training += Seconds.now() - started
            training -= Seconds() if sets is None else sets.elapsed - before
            found.append(stream.measure(strategy.model))
    return found, training


@contextmanager
def _drawn_anew(strategy: Any, seed: int, experience: int) -> Iterator[None]:
    """Within it, global draws and those of augmentation follow from the seed and the experience, whatever was drawn before."""
    from ddreplay.avalanche import AugmentPlugin

    random = Random(1_000_003 * (seed + 1) + experience)
    for plugin in strategy.plugins:
        if isinstance(plugin, AugmentPlugin):
            plugin.seed, plugin.random = random.seed(), None
    with random.scope():
        yield


def _remember(strategy: Any, experience: Any) -> None:
    """Take an experience into the memory of a strategy that trains on the memory alone, without training."""
    from ddreplay.avalanche import MemoryOnlyPlugin

    (plugin,) = (plugin for plugin in strategy.plugins if isinstance(plugin, MemoryOnlyPlugin))
    strategy.experience = experience
    plugin.storage_policy.post_adapt(strategy, experience)


def _beside(strategy: Any) -> int:
    """Bytes that a strategy stores beside its memory: DER++'s outputs."""
    from ddreplay.avalanche import DarkExperiencePlugin

    return sum(plugin.nbytes for plugin in strategy.plugins if isinstance(plugin, DarkExperiencePlugin))

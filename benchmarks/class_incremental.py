"""``python -m benchmarks class-incremental``: streams of new classes, strategies, memories, seeds; accuracy beside bytes and seconds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.checks import among, at_least
from benchmarks.memories import Shared, memory_condenser, spelled
from benchmarks.report.progress import Progress
from benchmarks.report.records import begin, write
from benchmarks.report.streams import budget_of, draw, table
from benchmarks.streams import average_accuracy, backward_transfer, class_incremental_stream, forgetting
from benchmarks.workers import each, processes
from ddreplay import names
from ddreplay.augment.siamese import Siamese
from ddreplay.backbones import as_factory
from ddreplay.datasets import ImageData, load
from ddreplay.randomness import Random
from strategies import STRATEGIES

__all__ = ["class_incremental"]

BOUNDS = ("finetuning", "joint")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers besides memory, budget and seed."""

    dataset: str
    root: str | None
    download: bool
    experiences: int
    net: str
    strategies: tuple[str, ...]
    epochs: int
    gdumb_steps: int
    batch_size: int
    lr: float
    per_class: int | None
    validation: bool
    codec: str | None
    device: str
    compile: bool = False
    balanced: bool = False
    augment: bool = False

    def data(self) -> ImageData:
        """The data; for tuning with held-out training images in the place of the test images."""
        found = load(self.dataset, root=self.root, download=self.download)
        return found.for_tuning(fraction=0.3) if self.validation else found


@dataclass(frozen=True)
class Cell:
    """One memory at one budget with one seed, which strategies share; or a strategy without a memory, and so without a budget."""

    memory: str
    seed: int
    images_per_class: int | None = None
    bytes_per_class: int | None = None

    @property
    def has_budget(self) -> bool:
        """Whether it is of a memory."""
        return self.images_per_class is not None or self.bytes_per_class is not None


def class_incremental(
    dataset: str = "digits",
    root: Path | None = None,
    download: bool = False,
    experiences: int = 5,
    images_per_class: tuple[int, ...] = (1, 2, 5),
    bytes_per_class: tuple[int, ...] = (),
    codec: str | None = None,
    memories: tuple[str, ...] = ("ring", "herding", "dm", "dc"),
    strategies: tuple[str, ...] = ("gdumb", "er"),
    seeds: int = 5,
    net: str = "convnet(width=32)",
    epochs: int = 5,
    gdumb_steps: int = 100,
    batch_size: int = 10,
    balanced: bool = False,
    augment: bool = False,
    lr: float = 0.02,
    per_class: int | None = None,
    bounds: bool = True,
    validation: bool = False,
    workers: int = 0,
    device: str = "cpu",
    compile: bool = False,
    out: Path = Path("results"),
) -> None:
    """Compare memories on class-incremental streams.

    Every memory is filled at the end of each experience from that experience alone; experience replay (er) trains on new data
    and memory, GDumb (gdumb) from scratch on the memory. Finetuning and joint training are the bounds. The settings of condensers
    are small ones (benchmarks/memories.py), not the papers'; table and record say them in full.

    Args:
        dataset: digits, mnist, fashion-mnist, cifar10, cifar100, svhn, an .npz file in MedMNIST's layout, or a folder of class folders.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        experiences: in the stream; must divide the number of classes.
        images_per_class: budgets to compare.
        bytes_per_class: budgets in bytes instead; every memory chooses by itself how many images at which quality.
        codec: how images are stored, such as uint8 or "jpeg(quality=30)"; default: uint8, and avif for budgets in bytes.
        memories: ring (random real images), herding, default (what CondensedBuffer takes for a budget in bytes), or any method of
            ddreplay condense, with options if any: "dm(steps=1000)".
        strategies: any of strategies/; those without a memory run once for each seed.
        seeds: class order, memory and network are drawn anew for each.
        net: the network trained, and that condensers look with.
        epochs: of experience replay, finetuning and joint training on each experience.
        gdumb_steps: gradient steps of GDumb on the memory after each experience.
        batch_size: of new images, and as many of the memory.
        balanced: experience replay takes as many images of every old class as of a new one instead.
        augment: train on augmented images, new and replayed ones, with the operations that memories are condensed under.
        lr: SGD with momentum 0.9 and weight decay 5e-4.
        per_class: at most this many training images of every class.
        bounds: run finetuning and joint training too.
        validation: test on held-out training images instead of test images: for choosing settings.
        workers: processes; 0: one a core.
        device: cpu or cuda.
        compile: condense through torch.compile where that can be done: faster after tens of seconds.
        out: folder for the record (JSON) and the picture (PNG).
    """
    settings = Settings(
        dataset=dataset,
        root=None if root is None else str(root),
        download=download,
        experiences=experiences,
        net=net,
        strategies=strategies,
        epochs=epochs,
        gdumb_steps=gdumb_steps,
        batch_size=batch_size,
        lr=lr,
        per_class=per_class,
        validation=validation,
        codec=codec,
        device=device,
        compile=compile,
        balanced=balanced,
        augment=augment,
    )
    spelled_out = _check(settings, memories, bytes_per_class or images_per_class, seeds)
    alone = [name for name in strategies if not STRATEGIES[name].has_memory]
    alone += [name for name in BOUNDS if bounds and name not in alone]
    cells = [Cell(name, seed) for seed in range(seeds) for name in alone]
    for seed, memory in itertools.product(range(seeds), memories):
        if bytes_per_class:
            cells += [Cell(memory, seed, bytes_per_class=n) for n in bytes_per_class]
        else:
            cells += [Cell(memory, seed, images_per_class=n) for n in images_per_class]
    protocol = {
        **asdict(settings),
        "images_per_class": () if bytes_per_class else images_per_class,
        "bytes_per_class": bytes_per_class,
        "memories": memories,
        "condensers": spelled_out,
        "seeds": seeds,
    }
    recording = begin("class-incremental", protocol, device=device)
    path = out / f"class_incremental_{Path(dataset).stem}.json"
    with Progress(len(cells), "class-incremental", unit="cells") as progress:
        for results in each(partial(run_cell, settings), cells, workers or processes(device)):
            for result in results:
                recording.add(**result)
            progress.advance(note=f"{results[0]['memory']} {budget_of(results[0])}")
            write(recording.finish(), path)  # what is done survives an interruption
    record = recording.finish()
    print(table(record.results, spelled_out))
    picture = draw(record.results, path.with_suffix(".png"), dataset)
    print(f"record: {path}" + (f"   picture: {picture}" if picture else "   no picture: matplotlib is not installed"))
    print(f"{record.seconds:.0f} s")


def _check(settings: Settings, memories: Sequence[str], budgets: Sequence[int], seeds: int) -> dict[str, str]:
    """Every memory with all its settings; whatever cannot run is refused before anything does."""
    among("strategies", settings.strategies, tuple(STRATEGIES))
    at_least(1, seeds=seeds, experiences=settings.experiences, batch_size=settings.batch_size, epochs=settings.epochs)
    for budget in budgets:
        at_least(1, budget=budget)
    data = settings.data()
    for name in memories:
        memory_condenser(name, settings.net, data.augmentation, settings.codec)
    class_incremental_stream(data, settings.experiences, 0, per_class=1)
    return {name: spelled(name) for name in memories}


def run_cell(settings: Settings, cell: Cell) -> list[dict[str, Any]]:
    """Train every strategy on one stream with one memory; a result for each."""
    data = settings.data()
    stream = class_incremental_stream(
        data, settings.experiences, cell.seed, device=settings.device, per_class=settings.per_class
    )
    shared, chosen = None, [cell.memory]
    if cell.has_budget:
        codec = settings.codec or ("avif" if cell.bytes_per_class else None)
        made = memory_condenser(cell.memory, settings.net, data.augmentation, codec, compile=settings.compile)
        shared = Shared(made)
        chosen = [name for name in settings.strategies if STRATEGIES[name].has_memory]
    results = []
    for name in chosen:
        random = Random(1000 + cell.seed)
        with random.scope():
            model = as_factory(names.network(settings.net))(data.shape, data.classes)
            memory = None if shared is None else _buffer(shared, cell, data, settings.device)
            results.append(_train(name, model, memory, stream, settings, cell, shared, data.augmentation))
    return results


def _buffer(shared: Shared, cell: Cell, data: Any, device: str) -> Any:
    from ddreplay.avalanche import CondensedBuffer

    return CondensedBuffer(
        images_per_class=cell.images_per_class,
        bytes_per_class=cell.bytes_per_class,
        total_num_classes=data.classes,
        condenser=shared,
        seed=cell.seed,
        mean=data.mean,
        std=data.std,
        device=device,
    )


def _train(
    name: str,
    model: Any,
    memory: Any,
    stream: Any,
    settings: Settings,
    cell: Cell,
    shared: Shared | None,
    operations: str,
) -> dict[str, Any]:
    from ddreplay.avalanche import AugmentPlugin

    strategy = STRATEGIES[name].build(
        model,
        memory,
        lr=settings.lr,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        steps=settings.gdumb_steps,
        batch_size_mem="balanced" if settings.balanced else None,
        device=settings.device,
    )
    if settings.augment:
        strategy.plugins.append(AugmentPlugin(Siamese(operations), seed=cell.seed))
    found, seconds = [], 0.0
    for experience in stream.train:
        started = time.perf_counter()
        strategy.train(experience)
        seconds += time.perf_counter() - started
        found.append(stream.measure(strategy.model))
    condensing = 0.0 if memory is None else sum(memory.seconds)
    return {
        "strategy": name,
        **asdict(cell),
        "accuracies": found,
        "average_accuracy": average_accuracy(found),
        "forgetting": forgetting(found),
        "backward_transfer": backward_transfer(found),
        "images": 0 if memory is None else len(memory.buffer),
        "nbytes": 0 if memory is None else memory.nbytes,
        "condense_seconds": 0.0 if shared is None else shared.seconds,
        "train_seconds": seconds - condensing,
    }

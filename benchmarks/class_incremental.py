"""``python -m benchmarks class-incremental``: streams of new classes, strategies, memories, seeds; accuracy beside bytes and seconds."""

from __future__ import annotations

import itertools
import logging
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.memories import Shared, memory_condenser
from benchmarks.report.progress import Progress
from benchmarks.report.records import begin, write
from benchmarks.report.streams import BOUNDS, budget_of, draw, table
from benchmarks.streams import average_accuracy, backward_transfer, class_incremental_stream, forgetting
from ddreplay.augment.siamese import Siamese
from ddreplay.cli import make_net
from ddreplay.datasets import ImageData, load
from ddreplay.randomness import Random

__all__ = ["class_incremental"]


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
    """One memory (or bound) at one budget with one seed; strategies share its memory. Bounds have no budget."""

    memory: str
    seed: int
    images_per_class: int | None = None
    bytes_per_class: int | None = None

    @property
    def budget(self) -> str:
        """In words."""
        return budget_of(asdict(self))


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
    are small ones (benchmarks/memories.py), not the papers'.

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
        strategies: gdumb, er.
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
    _check(settings, memories, bytes_per_class or images_per_class, seeds)
    cells = [Cell(name, seed) for seed in range(seeds) for name in BOUNDS if bounds]
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
        "seeds": seeds,
    }
    recording = begin("class-incremental", protocol, device=device)
    path = out / f"class_incremental_{Path(dataset).stem}.json"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with Progress(len(cells), "class-incremental", unit="cells") as progress:
        for results in _run(settings, cells, workers or cores):
            for result in results:
                recording.add(**result)
            progress.advance(note=f"{results[0]['memory']} {budget_of(results[0])}")
            write(recording.finish(), path)  # what is done survives an interruption
    record = recording.finish()
    print(table(record.results))
    picture = draw(record.results, path.with_suffix(".png"), dataset)
    print(f"record: {path}" + (f"   picture: {picture}" if picture else "   no picture: matplotlib is not installed"))
    print(f"{record.seconds:.0f} s")


def _check(settings: Settings, memories: Sequence[str], budgets: Sequence[int], seeds: int) -> None:
    unknown = set(settings.strategies) - {"gdumb", "er"}
    if unknown:
        raise ValueError(f"strategies must be among gdumb and er, got {sorted(unknown)}")
    if seeds < 1 or min(budgets) < 1:
        raise ValueError(f"seeds and budgets must be at least 1, got {seeds} and {budgets}")
    data = settings.data()
    for name in memories:
        memory_condenser(name, settings.net, data.augmentation)
    class_incremental_stream(data, settings.experiences, 0, per_class=1)


def _run(settings: Settings, cells: list[Cell], workers: int) -> Iterator[list[dict[str, Any]]]:
    if workers == 1:
        for cell in cells:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="No loggers specified")
                yield run_cell(settings, cell)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        for done in as_completed([pool.submit(run_cell, settings, cell) for cell in cells]):
            yield done.result()


def _quiet() -> None:
    """A worker process: one thread, no messages between those of progress."""
    torch.set_num_threads(1)
    logging.getLogger("ddreplay").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="No loggers specified")


def run_cell(settings: Settings, cell: Cell) -> list[dict[str, Any]]:
    """Train every strategy on one stream with one memory; a result for each."""
    data = settings.data()
    stream = class_incremental_stream(
        data, settings.experiences, cell.seed, device=settings.device, per_class=settings.per_class
    )
    shared = None
    if cell.memory not in BOUNDS:
        codec = settings.codec or ("avif" if cell.bytes_per_class else None)
        made = memory_condenser(cell.memory, settings.net, data.augmentation, codec, compile=settings.compile)
        shared = Shared(made)
    names = (cell.memory,) if shared is None else settings.strategies
    results = []
    for name in names:
        random = Random(1000 + cell.seed)
        with random.scope():
            model = make_net(settings.net)(data.shape, data.classes)
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

    strategy = _strategy(name, model, memory, settings)
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


def _FixedSteps(steps: int) -> Any:
    """A plugin that makes as many epochs of every experience as give about so many gradient steps."""
    from avalanche.core import SupervisedPlugin

    class FixedSteps(SupervisedPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
        def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            strategy.train_epochs = max(1, round(steps / len(strategy.dataloader)))

    return FixedSteps()


def _strategy(name: str, model: Any, memory: Any, settings: Settings) -> Any:
    from strategies import experience_replay, finetuning, gdumb, joint

    how: dict[str, Any] = {"lr": settings.lr, "batch_size": settings.batch_size, "device": settings.device}
    if name == "gdumb":
        strategy = gdumb(model, memory, epochs=1, **how)
        strategy.plugins.append(_FixedSteps(settings.gdumb_steps))
        return strategy
    if name == "er":
        replayed: Any = "balanced" if settings.balanced else None
        return experience_replay(model, memory, epochs=settings.epochs, batch_size_mem=replayed, **how)
    return (finetuning if name == "finetuning" else joint)(model, epochs=settings.epochs, **how)

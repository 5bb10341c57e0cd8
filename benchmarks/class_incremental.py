"""``python -m benchmarks class-incremental``: streams of new classes, strategies, memories, seeds; accuracy beside bytes and seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmarks.checks import among, at_least
from benchmarks.memories import in_time, memory_condenser, spelled
from benchmarks.report.progress import Progress
from benchmarks.report.records import Recording, refused, resume, write
from benchmarks.report.streams import budget_of, differences, draw, table
from benchmarks.stream_cells import FROM_SCRATCH, Cell, Settings, method_of, run_cell
from benchmarks.streams import class_incremental_stream
from benchmarks.trained_networks import trained_network
from benchmarks.workers import each, processes
from strategies import STRATEGIES

__all__ = ["class_incremental"]

BOUNDS = ("finetuning", "joint")
IMAGES = (1, 2, 5)


def class_incremental(
    dataset: str = "digits",
    root: Path | None = None,
    download: bool = False,
    experiences: int = 5,
    order: Literal["drawn", "fixed"] = "drawn",
    images_per_class: tuple[int, ...] = (),
    bytes_per_class: tuple[int, ...] = (),
    codec: str | None = None,
    memories: tuple[str, ...] = ("ring", "herding", "dm", "dc"),
    strategies: tuple[str, ...] = ("gdumb", "er"),
    seeds: int = 5,
    net: str = "convnet(width=32)",
    condense_net: str | None = None,
    epochs: int = 5,
    batch_size: int = 10,
    gdumb_steps: int = 100,
    gdumb_batch_size: int | None = None,
    gdumb_lr_to: float = 0.01,
    finish_steps: int = 0,
    update: Literal["after", "before"] = "after",
    crisp: float = 0.0,
    balanced: bool = False,
    augment: bool = False,
    lr: float = 0.02,
    per_class: int | None = None,
    only_last: bool = False,
    bounds: bool = True,
    validation: bool = False,
    workers: int = 0,
    device: str = "cpu",
    compile: bool = False,
    out: Path = Path("results"),
    name: str | None = None,
    cache: Path | None = None,
) -> None:
    """Compare memories on class-incremental streams.

    Every memory is filled at the end of each experience from that experience alone; experience replay (er) trains on new data
    and memory, GDumb (gdumb) from scratch on the memory. Finetuning and joint training are the bounds. The settings of condensers
    are small ones (benchmarks/memories.py), not the papers'; table and record say them in full.

    A cell is one memory at one budget with one seed under one strategy. The record is written after every cell, and a call with the
    same settings goes on from it: finished cells are not run again, and other memories, budgets, seeds and strategies are added to
    it. A record of other settings, or of other images, is refused. Cells are run seed by seed, so that what is compared in pairs is
    complete early. One process at a time may write a record. Below the table stand differences of condensed and real memories, paired
    by seed.

    Args:
        dataset: digits, mnist, fashion-mnist, cifar10, cifar100, svhn, an .npz file in MedMNIST's layout, or a folder of class folders.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        experiences: in the stream; must divide the number of classes.
        order: of the classes: drawn by seed, or fixed as their labels are.
        images_per_class: budgets to compare; default: 1 2 5 where none are given in bytes.
        bytes_per_class: budgets in bytes; every memory chooses by itself how many images at which quality.
        codec: how images are stored, such as uint8 or "jpeg(quality=30)"; default: uint8, and avif for budgets in bytes. A memory may say
            its own, as in "ring(codec=uint8)".
        memories: ring (random real images), herding, default (what CondensedBuffer takes for a budget in bytes), chosen (the better of
            the two on held-out images), or any method of ddreplay condense, with options if any: "dm(steps=1000)". Behind an @ may
            stand how long condensing may take, as a share of the training just before: "default@0.5".
        strategies: any of strategies/; those without a memory run once for each seed.
        seeds: class order, images, memory and network are drawn anew for each.
        net: the network trained; besides those of ddreplay, slim_resnet18 (Avalanche's). "bfloat16(...)" computes in that precision.
        condense_net: the network that condensers look with; default: net.
        epochs: of experience replay, finetuning and joint training on each experience.
        batch_size: of new images, and as many of the memory.
        gdumb_steps: gradient steps of GDumb on the memory after each experience.
        gdumb_batch_size: of GDumb; default: batch_size.
        gdumb_lr_to: share of the step size at which GDumb ends, along half a cosine, as its authors do; 1: constant.
        finish_steps: steps on the memory alone at the end of every experience, all classes alike, for strategies that know them.
        update: whether the memory takes an experience in after it was trained on or before, for strategies that know both.
        crisp: share of new images that do not pass the memory's codec, for strategies that know it.
        balanced: replay takes as many images of every old class as of a new one instead.
        augment: train on augmented images, new and replayed ones, with the operations that memories are condensed under.
        lr: SGD with momentum 0.9 and weight decay 5e-4.
        per_class: at most this many training images of every class.
        only_last: GDumb and joint training train after the last experience alone, with the same result there; the memory takes in
            every experience. Their forgetting and backward transfer are then unknown.
        bounds: run finetuning and joint training too.
        validation: test on held-out training images instead of test images: for choosing settings.
        workers: processes; 0: one a core.
        device: cpu or cuda.
        compile: condense and train through torch.compile where that can be done: faster after tens of seconds.
        out: folder for the record (JSON) and the picture (PNG).
        name: of the record's file; default: class_incremental_ and the data set.
        cache: folder where condensed sets and the trained networks of banks are kept, for all strategies, budgets and later runs; default:
            cache in the folder of the record. What they took is charged to every cell that uses them. After a change of the code that
            condenses, take a new one.
    """
    settings = Settings(
        dataset=dataset,
        root=None if root is None else str(root),
        download=download,
        experiences=experiences,
        order=order,
        net=net,
        condense_net=condense_net or net,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        gdumb_steps=gdumb_steps,
        gdumb_batch_size=gdumb_batch_size or batch_size,
        gdumb_lr_to=gdumb_lr_to,
        finish_steps=finish_steps,
        update=update,
        crisp=crisp,
        balanced=balanced,
        augment=augment,
        only_last=only_last,
        per_class=per_class,
        validation=validation,
        codec=codec,
        device=device,
        compile=compile,
    )
    images = images_per_class or (() if bytes_per_class else IMAGES)
    spelled_out = _check(settings, memories, strategies, images, bytes_per_class, seeds)
    path = out / f"{name or f'class_incremental_{Path(dataset).stem}'}.json"
    protocol = {**settings.deciding(settings.data()), "condensers": spelled_out}
    recording = resume(path, "class-incremental", protocol, device=device, growing=("condensers",))
    done = {Cell.of(result) for result in recording.results}
    cells = list(_cells(memories, strategies, images, bytes_per_class, range(seeds), bounds))
    _check_methods(path, settings, recording, cells)
    missing = [cell for cell in cells if cell not in done]
    run = partial(run_cell, settings, cache or out / "cache")
    with Progress(max(1, len(missing)), "class-incremental", unit="cells") as progress:
        for result in each(run, missing, workers or processes(device)) if missing else ():
            recording.add(**result)
            write(recording.finish(), path)  # what is done survives an interruption
            progress.advance(note=f"{result['strategy']} {result['memory']} {budget_of(result)}, seed {result['seed']}")
    record = recording.finish()
    print(table(record.results, recording.protocol["condensers"]))
    print(differences(record.results))
    picture = draw(record.results, path.with_suffix(".png"), dataset)
    print(f"record: {path}" + (f"   picture: {picture}" if picture else "   no picture: matplotlib is not installed"))
    print(f"{len(missing)} cells run, {len(done)} were in the record; {record.seconds:.0f} s in all")


def _cells(
    memories: Sequence[str],
    strategies: Sequence[str],
    images: Sequence[int],
    nbytes: Sequence[int],
    seeds: range,
    bounds: bool,
) -> Iterator[Cell]:
    """Seed by seed; within a seed all memories of a strategy and budget beside each other, and what has no memory at the end."""
    alone = [name for name in strategies if not STRATEGIES[name].has_memory]
    alone += [name for name in BOUNDS if bounds and name not in alone]
    for seed in seeds:
        for strategy in (name for name in strategies if STRATEGIES[name].has_memory):
            yield from (Cell(memory, seed, strategy, bytes_per_class=n) for n in nbytes for memory in memories)
            yield from (Cell(memory, seed, strategy, images_per_class=n) for n in images for memory in memories)
        yield from (Cell(name, seed, name) for name in alone)


def _check(
    settings: Settings,
    memories: Sequence[str],
    strategies: Sequence[str],
    images: Sequence[int],
    nbytes: Sequence[int],
    seeds: int,
) -> dict[str, str]:
    """Every memory with all its settings; whatever cannot run is refused before anything does."""
    among("strategies", strategies, tuple(STRATEGIES))
    at_least(1, seeds=seeds, experiences=settings.experiences, batch_size=settings.batch_size, epochs=settings.epochs)
    at_least(1, gdumb_steps=settings.gdumb_steps, gdumb_batch_size=settings.gdumb_batch_size)
    at_least(0, finish_steps=settings.finish_steps)
    if not 0 <= settings.gdumb_lr_to <= 1:
        raise ValueError(f"gdumb_lr_to is a share of the step size and must lie in [0, 1], got {settings.gdumb_lr_to}")
    if not 0 <= settings.crisp <= 1:
        raise ValueError(f"crisp is a share of the new images and must lie in [0, 1], got {settings.crisp}")
    for budget in (*images, *nbytes):
        at_least(1, budget=budget)
    if both := set(images) & set(nbytes):
        raise ValueError(f"budgets in images and in bytes must be different numbers, got {sorted(both)} in both")
    if settings.condense_net.startswith("slim_resnet18"):
        raise ValueError("condensers do not look with slim_resnet18; name another network with --condense-net")
    data = settings.data()
    trained_network(settings.net)(data.shape, data.classes)
    for name in memories:
        if in_time(name)[1] is not None and set(strategies) & set(FROM_SCRATCH):
            raise ValueError(
                f"{name}: gdumb and joint have trained nothing when they condense; take er, or leave the share out"
            )
        memory_condenser(name, settings.condense_net, data.augmentation, settings.codec)
    class_incremental_stream(data, settings.experiences, 0, per_class=1)
    return {name: spelled(name) for name in memories}


def _check_methods(path: Path, settings: Settings, recording: Recording, cells: Sequence[Cell]) -> None:
    """Refuse to go on from cells whose memories were condensed with other settings or versions than now."""
    known = {_memory_of(Cell.of(r)): r["method"] for r in recording.results}
    asked = {_memory_of(cell): cell for cell in cells}
    changed = [
        f"the settings or versions that {cell.memory} condenses with"
        for key, cell in asked.items()
        if key in known and known[key] != method_of(settings, cell)
    ]
    if changed:
        raise refused(path, list(dict.fromkeys(changed)))


def _memory_of(cell: Cell) -> tuple[Any, ...]:
    return cell.memory, cell.images_per_class, cell.bytes_per_class

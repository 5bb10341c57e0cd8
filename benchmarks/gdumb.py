"""``python -m benchmarks gdumb``: from scratch on the memory after every step, as DM, IDM and DDM measure continual learning."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.checks import at_least
from benchmarks.memories import condenser
from benchmarks.report.progress import Progress
from benchmarks.report.records import resume, write
from benchmarks.report.tables import format_bytes, format_number, format_summary, settings_note, summary, text_table
from benchmarks.workers import each, processes
from ddreplay import CondensedMemory, Condenser, names
from ddreplay.backbones import as_factory
from ddreplay.datasets import ImageData, load
from ddreplay.evaluation import PROTOCOLS, Protocol, accuracy, train
from ddreplay.randomness import Random

__all__ = ["PAPER", "Scale", "class_order", "gdumb", "run_cell", "table"]

PAPER: dict[tuple[int, str], float] = {
    (5, "random"): 24.8,
    (10, "random"): 25.2,
    (5, "dsa"): 31.0,
    (10, "dsa"): 29.8,
    (5, "dm"): 33.8,
    (10, "dm"): 33.7,
    (5, "idm"): 39.3,
    (10, "idm"): 39.3,
}
"""Final accuracy in percent on all of CIFAR-100, by steps and memory: Zhao et al., IDM, CVPR 2023, Sec. 5.6."""


@dataclass(frozen=True)
class Scale:
    """Everything that a scale decides.

    memories: those that need more than a method's name, as `ddreplay.names` reads them. classes_per_step: ``None``: all classes
    over the steps. batch_size: of the training on the memory. networks: trained after every step of every seed.
    """

    net: str
    images_per_class: int
    classes_per_step: int | None
    epochs: int
    batch_size: int
    seeds: int
    networks: int
    memories: dict[str, str]


_IDM = "weight=0.1, networks=model_queue(train_steps=50)"  # released command for CIFAR-100 at 10 images per class
_QUEUE = "train_steps=2, batch_size=64, size=20, push_interval=5, meter_interval=50"
_SMALL_IDM = f"steps=80, lr=0.8, weight=0.025, batch_real=64, networks=model_queue({_QUEUE})"

SCALES = {
    "full": Scale(
        net="convnet",
        images_per_class=20,
        classes_per_step=None,
        epochs=1000,
        batch_size=256,
        seeds=5,
        networks=3,
        memories={
            "idm": f"idm({_IDM}, parameterize=pixels)",
            "idm, tiles": f"idm({_IDM}, parameterize=partitioned(2))",
            "dm, tiles": "dm(parameterize=partitioned(2))",
        },
    ),
    "small": Scale(
        net="convnet(width=32)",
        images_per_class=10,
        classes_per_step=4,
        epochs=60,
        batch_size=32,
        seeds=2,
        networks=1,
        memories={
            "herding": "herding(epochs=3)",
            "dsa": "dsa(rounds=40, loops=(1, 1), batch_real=32)",
            "dm": "dm(networks=banked(size=12), steps=200, lr=4.0)",
            "ddm": "ddm(networks=banked(size=12), steps=200, lr=4.0, gram=2500.0)",
            "idm": f"idm({_SMALL_IDM}, parameterize=pixels)",
            "idm, tiles": f"idm({_SMALL_IDM}, parameterize=partitioned(2))",
            "dm, tiles": "dm(networks=banked(size=12), steps=200, lr=4.0, parameterize=partitioned(2))",
        },
    ),
}
"""``full``: the papers' settings. ``small``: a quarter of the width, so that sums over features are a quarter (step sizes times 4,
weights of other terms by 4), few classes, steps, epochs and seeds."""

MEMORIES = ("random", "herding", "dsa", "dm", "idm", "idm, tiles", "ddm", "random x4")


@dataclass(frozen=True)
class Cell:
    """One memory over one stream."""

    memory: str
    seed: int


@dataclass(frozen=True)
class Stream:
    """What all cells share."""

    dataset: str
    root: str | None
    download: bool
    steps: int
    scale: Scale
    device: str
    compile: bool = False

    def data(self) -> ImageData:
        return load(self.dataset, root=self.root, download=self.download)

    def protocol(self, data: ImageData) -> Protocol:
        """dm2023, as far as the scale allows."""
        found, size = PROTOCOLS["dm2023"].on(data.augmentation).scaled(self.scale.epochs), self.scale.batch_size
        named = found.name if size == found.batch_size else f"{found.name}, batches of {size}"
        return replace(found, name=named, batch_size=size)


def gdumb(
    dataset: str = "digits",
    steps: int = 5,
    scale: Literal["small", "full"] = "small",
    memories: tuple[str, ...] = MEMORIES,
    images_per_class: int | None = None,
    classes_per_step: int | None = None,
    epochs: int | None = None,
    seeds: int | None = None,
    networks: int | None = None,
    net: str | None = None,
    root: Path | None = None,
    download: bool = False,
    workers: int = 0,
    device: str = "auto",
    compile: bool = False,
    out: Path = Path("results"),
) -> None:
    """Continual learning as DM, IDM and DDM ran it: a stream of new classes, and a network trained on nothing but the memory.

    Every memory is condensed in the stream, from the new classes of each step alone. After each step a new network, whose outputs
    are all classes of the data set, is trained from scratch on the memory (protocol dm2023) and tested on the seen classes;
    outputs of unseen classes are not masked. "idm, tiles" and "dm, tiles" store images of 2 x 2 tiles; "random x4" holds four
    times as many real images: what the 32-bit images of the released methods cost. Stored images take 8 bits a value.

    Args:
        dataset: digits, cifar100, another name, an .npz file in MedMNIST's layout, or a folder of class folders.
        steps: of the stream; DM: 5 and 10.
        scale: full: the papers' settings; small: minutes on two cores.
        memories: any of random, herding, dsa, dm, idm, "idm, tiles", "dm, tiles", ddm, or another method of ddreplay condense with
            options if any, each with " x4" behind it for four times the images.
        images_per_class: stored images; by default the scale's.
        classes_per_step: by default the scale's, or all classes over the steps where there are not enough.
        epochs: of training on the memory after each step; by default the scale's.
        seeds: class orders; by default the scale's.
        networks: trained after each step; by default the scale's.
        net: the backbone that condenses and is trained; by default the scale's.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        workers: processes; 0: one a core.
        device: auto, cpu or cuda.
        compile: run networks through torch.compile where that can be done: faster after tens of seconds.
        out: folder for the record (JSON); a call with the same settings goes on from it.
    """
    given: dict[str, Any] = {
        "images_per_class": images_per_class,
        "classes_per_step": classes_per_step,
        "epochs": epochs,
        "seeds": seeds,
        "networks": networks,
        "net": net,
    }
    settings = replace(SCALES[scale], **{k: v for k, v in given.items() if v is not None})
    at_least(1, seeds=settings.seeds, networks=settings.networks, images_per_class=settings.images_per_class)
    at_least(0, epochs=settings.epochs)
    stream = Stream(dataset, None if root is None else str(root), download, steps, settings, device, compile)
    data = stream.data()
    class_order(data.classes, steps, settings.classes_per_step, 0)
    for memory in memories:
        make_condenser(memory, stream, data)
    cells = [Cell(memory, seed) for seed in range(settings.seeds) for memory in memories]
    protocol = {
        "dataset": data.name,
        "normalization": data.normalization,
        "steps": steps,
        "scale": scale,
        "evaluation": stream.protocol(data).name,
        "compile": compile,
        **asdict(settings),
        "memories": memories,
        "condensers": {memory: spelled_out(memory, settings)[0] for memory in memories},
    }
    path = out / f"gdumb_{Path(dataset).stem}_{steps}_{scale}.json"
    on = "cpu" if device == "auto" and not torch.cuda.is_available() else device
    recording = resume(path, "gdumb", protocol, device=on)
    done = {(one["memory"], one["seed"]) for one in recording.results}
    missing = [cell for cell in cells if (cell.memory, cell.seed) not in done]
    with Progress(max(1, len(missing)), "gdumb", unit="streams") as progress:
        for result in each(partial(run_cell, stream), missing, workers or processes(device)):
            recording.add(**result)
            write(recording.finish(), path)
            progress.advance(note=f"{result['memory']}: {result['accuracy'][-1]:.1f} %")
    record = recording.finish()
    write(record, path)
    print(table(record.results, steps, paper=data.classes == 100, protocol=stream.protocol(data).name))
    print("\n".join(settings_note(protocol["condensers"])))
    print(f"record: {path}\n{record.seconds:.0f} s")


def class_order(classes: int, steps: int, classes_per_step: int | None, seed: int) -> list[list[int]]:
    """The classes of every step: blocks of numpy's legacy permutation, as in DM's released code.

    Raises:
        ValueError: when there are fewer classes than steps.

    >>> class_order(100, 5, None, 0)[0][:6]
    [26, 86, 2, 55, 75, 93]
    """
    if steps < 1 or classes < steps:
        raise ValueError(f"steps must be between 1 and the number of classes, {classes}, got {steps}")
    per_step = min(classes_per_step or classes, classes // steps)
    order = np.random.RandomState(seed).permutation(classes).tolist()
    return [order[k * per_step : (k + 1) * per_step] for k in range(steps)]


def spelled_out(memory: str, scale: Scale) -> tuple[str, int]:
    """A memory with its settings at this scale, and how many times the budget it may hold.

    >>> spelled_out("random x4", SCALES["small"])
    ('random', 4)
    """
    name, times = (memory[:-3], memory[-1]) if memory[-3:-1] == " x" and memory[-1].isdigit() else (memory, "1")
    return scale.memories.get(name, name), int(times)


def make_condenser(memory: str, stream: Stream, data: ImageData) -> tuple[Condenser, int]:
    """A memory's condenser, and how many times the budget it may hold.

    Raises:
        ValueError: for a memory that is neither in the scale's table nor a method.
    """
    text, times = spelled_out(memory, stream.scale)
    return condenser(text, stream.scale.net, data.augmentation, compile=stream.compile), times


def run_cell(stream: Stream, cell: Cell) -> dict[str, Any]:
    """One memory over one stream: accuracy, bytes and seconds after every step."""
    data, scale = stream.data(), stream.scale
    pool, test = data.pool("train", device=stream.device), data.pool("test", device=stream.device)
    make, times = make_condenser(cell.memory, stream, data)
    memory = CondensedMemory(make, images_per_class=times * scale.images_per_class, seed=cell.seed)
    random = Random(cell.seed, pool.device)
    seen: list[int] = []
    found: dict[str, list[Any]] = {"accuracy": [], "accuracies": [], "nbytes": [], "images": [], "train_seconds": []}
    for classes in class_order(data.classes, stream.steps, scale.classes_per_step, cell.seed):
        memory.update(pool.select(classes))
        seen = sorted([*seen, *classes])
        batch = memory.batch(pool.device)
        started = time.perf_counter()
        accuracies = []
        for _ in range(scale.networks):
            with random.scope():
                network = as_factory(names.network(scale.net))(data.shape, data.classes).to(pool.device)
            train(network, batch.x, batch.y, stream.protocol(data), random, compile=stream.compile)
            accuracies.append(accuracy(network, test.select(seen), columns=seen, compile=stream.compile))
        found["train_seconds"].append(round(time.perf_counter() - started, 2))
        found["accuracies"].append(accuracies)
        found["accuracy"].append(sum(accuracies) / len(accuracies))
        found["nbytes"].append(memory.nbytes)
        found["images"].append(len(memory))
    return {**asdict(cell), **found, "condense_seconds": [round(s, 2) for s in memory.seconds]}


def table(results: Sequence[dict[str, Any]], steps: int, *, paper: bool, protocol: str = "dm2023") -> str:
    """One row a memory: accuracy after every step, means over seeds with the last one's 95 % interval, in percent.

    Args:
        paper: put the papers' numbers on CIFAR-100 beside.
        protocol: how networks were trained, to be said below the table.
    """
    header = [
        "memory",
        *(f"step {k + 1}" for k in range(steps - 1)),
        "last step",
        "bytes",
        "images",
        "condense s",
        "train s",
    ]
    rows = []
    for memory in dict.fromkeys(r["memory"] for r in results):
        group = [r for r in results if r["memory"] == memory]
        means = [summary([r["accuracy"][k] for r in group]) for k in range(steps)]
        rows.append(
            [
                memory,
                *(format_number(found.mean) for found in means[:-1]),
                format_summary(means[-1], scale=1),
                format_bytes(group[0]["nbytes"][-1]),
                group[0]["images"][-1],
                format_number(summary([sum(r["condense_seconds"]) for r in group]).mean, 0),
                format_number(summary([sum(r["train_seconds"]) for r in group]).mean, 0),
                *([format_number(PAPER.get((steps, memory)))] if paper else []),
            ]
        )
    seeds = len({r["seed"] for r in results})
    lines = [
        f"accuracy in percent of networks trained by {protocol}; mean and 95 % interval over {seeds} class orders; "
        "images: trained on; seconds: all steps"
    ]
    if paper:
        header.append("paper")
        lines.append(
            "paper: last step on all of CIFAR-100, 20 images per class, ConvNet of width 128, dm2023 with its 1,000 epochs"
        )
    return "\n".join([text_table(header, rows), *lines])

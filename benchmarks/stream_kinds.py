"""``python -m benchmarks stream-kinds``: streams of every kind, with real and condensed images at equal bytes, in a plain PyTorch loop."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.checks import among, at_least
from benchmarks.report.records import resume, write
from benchmarks.report.tables import text_table
from benchmarks.workers import each, processes
from ddreplay import Budget, ClassPool, CondensedMemory, ConvNet, OnlineMemory, dm
from ddreplay.data.pool import concatenate
from ddreplay.datasets import ImageData, load
from ddreplay.methods import selections
from ddreplay.networks import Banked
from ddreplay.randomness import Random
from ddreplay.storage.codecs import uint8

__all__ = ["KINDS", "MEMORIES", "condenser_of", "page_table", "run_cell", "stream_kinds"]

KINDS = ("class", "task", "domain", "repeated", "online")
MEMORIES = ("none", "ring", "condensed")
EXPERIENCES = 5


@dataclass(frozen=True)
class Part:
    """An experience: what is learned, and what is tested. classes: outputs that may answer; ``None``: all."""

    train: ClassPool
    test: ClassPool
    classes: list[int] | None = None


def parts_of(kind: str, data: ImageData, seed: int) -> list[Part]:
    """The experiences of a stream.

    class, task: two classes each, in an order drawn from the seed; for task, the task is told at the test. domain: all classes, turned
    by 0, 90, 180 and 270 degrees. repeated: four classes each, every one in two experiences, with other images of it.
    """
    random = Random(seed)
    train, test = (data.pool(split, device="cpu") for split in ("train", "test"))
    order = torch.randperm(data.classes, generator=random.cpu).tolist()
    if kind == "domain":
        return [Part(_turned(train, k, 4, random), _turned(test, k, 1, random)) for k in range(4)]
    size = data.classes // EXPERIENCES
    own = [order[k * size : (k + 1) * size] for k in range(EXPERIENCES)]
    if kind in ("class", "task"):
        return [Part(train.select(c), test.select(c), sorted(c) if kind == "task" else None) for c in own]
    halves = [_half(train, k) for k in range(2)]
    both = [(own[k], own[(k - 1) % EXPERIENCES]) for k in range(EXPERIENCES)]
    return [
        Part(concatenate([halves[0].select(new), halves[1].select(old)]), test.select([*new, *old]))
        for new, old in both
    ]


def _turned(pool: ClassPool, quarters: int, share: int, random: Random) -> ClassPool:
    """One image in ``share``, turned by so many right angles."""
    rows = torch.arange(len(pool))[quarters % share :: share]
    how: dict[str, Any] = {"mean": pool.mean, "std": pool.std, "device": "cpu", "augmentation": pool.augmentation}
    return ClassPool(pool.stored(rows).rot90(quarters, (2, 3)), pool.relabel(pool.all_labels())[rows], **how)


def _half(pool: ClassPool, which: int) -> ClassPool:
    """Every second image."""
    return pool.subset(torch.arange(len(pool))[which::2])


def drops_of(data: ImageData, size: int, seed: int) -> list[ClassPool]:
    """A stream without boundaries: few images at a time, classes coming and going gradually."""
    random, pool = Random(seed), data.pool("train", device="cpu")
    place = torch.randperm(data.classes, generator=random.cpu)
    labels = pool.all_labels()
    when = place[labels] + 1.5 * torch.randn(len(pool), generator=random.cpu)
    how: dict[str, Any] = {"mean": pool.mean, "std": pool.std, "device": "cpu", "augmentation": pool.augmentation}
    return [ClassPool(pool.stored(rows), pool.relabel(labels)[rows], **how) for rows in when.argsort().split(size)]


def condenser_of(memory: str) -> Any:
    """What fills the bytes: real images, any or herded ones, or distribution matching under a bank of networks."""
    if memory == "ring":
        return selections.random(codec=uint8())
    if memory == "herding":
        return selections.herding(codec=uint8())
    return dm(ConvNet(width=32), networks=Banked(size=10), steps=150, lr=0.4, per_image=True).stored_by(uint8())


def stream_kinds(
    dataset: str = "digits",
    kinds: tuple[str, ...] = KINDS,
    memories: tuple[str, ...] = MEMORIES,
    bytes_per_class: int = 340,
    seeds: int = 2,
    epochs: int = 10,
    workers: int = 1,
    out: Path = Path("results"),
) -> None:
    """Train one network on streams of every kind, replaying a memory of equal bytes, and test it on all that was shown.

    Online, 20 images come at a time, without boundaries; real images are then a reservoir of all bytes, and condensed ones share them
    with a reservoir of a third, from which a class is condensed when 60 of it have come. Everything is charged.

    Args:
        dataset: digits, or another of `ddreplay.datasets.load`.
        kinds: class, task, domain, repeated, online.
        memories: none, ring (real images), condensed.
        bytes_per_class: of everything stored.
        seeds: streams, each with an order and a network of its own.
        epochs: of every experience; online, every image is seen in two steps.
        workers: processes; 0: one a core.
        out: folder of the record; cells that it has are not run again.
    """
    among("kinds", kinds, KINDS)
    among("memories", memories, MEMORIES)
    at_least(1, bytes_per_class=bytes_per_class, seeds=seeds, epochs=epochs)
    at_least(0, workers=workers)
    protocol = {
        "dataset": dataset,
        "bytes_per_class": bytes_per_class,
        "epochs": epochs,
        "condenser": repr(condenser_of("condensed")),
        "network": "convnet(width=32), SGD, lr 0.01, momentum 0.9, 32 new and 32 remembered images a step",
    }
    recording = resume(out / "stream_kinds.json", "stream-kinds", protocol)
    known = {(one["kind"], one["memory"], one["seed"]) for one in recording.results}
    cells = [(kind, memory, seed) for kind in kinds for memory in memories for seed in range(seeds)]
    run = partial(run_cell, dataset, bytes_per_class, epochs)
    for result in each(run, [cell for cell in cells if cell not in known], workers or processes()):
        recording.add(**result)
        write(recording.finish(), out / "stream_kinds.json")
    print(_table(recording.results, kinds, memories))


def run_cell(dataset: str, bytes_per_class: int, epochs: int, cell: tuple[str, str, int]) -> dict[str, Any]:
    """One memory over one stream with one seed: accuracy, bytes and seconds."""
    kind, memory, seed = cell
    started = time.perf_counter()
    through = _online if kind == "online" else _stream
    accuracy, nbytes = through(kind, memory, load(dataset), bytes_per_class, epochs, seed)
    spent = round(time.perf_counter() - started, 1)
    return {
        "kind": kind,
        "memory": memory,
        "seed": seed,
        "accuracy": accuracy,
        "nbytes": nbytes,
        "seconds": spent,
    }


def _table(results: Sequence[dict[str, Any]], kinds: Sequence[str], memories: Sequence[str]) -> str:
    return text_table(["memory", *kinds], _rows(results, kinds, memories))


def page_table(results: Sequence[dict[str, Any]]) -> str:
    """As docs/results.md has it."""
    names = {"none": "none", "ring": "real images, random", "condensed": "condensed"}
    rows = [[names[row[0]], *row[1:]] for row in _rows(results, KINDS, MEMORIES)]
    lines = [["memory", *KINDS], ["---"] * (1 + len(KINDS)), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rows(results: Sequence[dict[str, Any]], kinds: Sequence[str], memories: Sequence[str]) -> list[list[str]]:
    rows = []
    for memory in memories:
        cells = []
        for kind in kinds:
            found = [one["accuracy"] for one in results if (one["kind"], one["memory"]) == (kind, memory)]
            cells.append(f"{statistics.fmean(found):.1f} ({min(found):.1f}..{max(found):.1f})")
        rows.append([memory, *cells])
    return rows


def _network(data: ImageData, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    with Random(seed).scope():
        net = ConvNet(width=32)(data.shape, data.classes)
    return net, torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, held: Any, random: Random) -> None:
    """One step on new images, and as many remembered ones as 32."""
    if held is not None:
        rows = torch.randint(len(held.x), (32,), generator=random.cpu)
        x, y = torch.cat([x, held.x[rows]]), torch.cat([y, held.y[rows]])
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()


def _stream(kind: str, memory: str, data: ImageData, nbytes: int, epochs: int, seed: int) -> tuple[float, int]:
    """Accuracy in percent, the mean over all experiences after the last, and bytes stored at most."""
    net, optimizer = _network(data, seed)
    random, parts, most = Random(seed + 1), parts_of(kind, data, seed), 0
    held = None if memory == "none" else CondensedMemory(condenser_of(memory), Budget.bytes(nbytes), seed=seed)
    for part in parts:
        x, y = part.train.all().x, part.train.relabel(part.train.all_labels())
        old = held.batch() if held is not None and len(held) else None
        for _ in range(epochs):
            for rows in torch.randperm(len(x), generator=random.cpu).split(32):
                _step(net, optimizer, x[rows], y[rows], old, random)
        if held is not None:
            held.update(part.train)
            most = max(most, held.nbytes)
    return statistics.fmean(_accuracy(net, part.test, part.classes) for part in parts), most


def _online(kind: str, memory: str, data: ImageData, nbytes: int, epochs: int, seed: int) -> tuple[float, int]:
    """The same without boundaries, over all classes at the end."""
    net, optimizer = _network(data, seed)
    random, most, held = Random(seed + 1), 0, None
    if memory == "ring":
        held = OnlineMemory(
            condenser_of(memory), max_bytes=nbytes * data.classes, enough=10**9, reservoir=0.999, seed=seed
        )
    elif memory == "condensed":
        held = OnlineMemory(
            condenser_of(memory), max_bytes=nbytes * data.classes, enough=60, reservoir=1 / 3, seed=seed
        )
    for drop in drops_of(data, 20, seed):
        x, y = drop.all().x, drop.relabel(drop.all_labels())
        old = held.batch() if held is not None and len(held) else None
        for _ in range(2):
            _step(net, optimizer, x, y, old, random)
        if held is not None:
            held.update(drop)
            most = max(most, held.nbytes)
    return _accuracy(net, data.pool("test", device="cpu"), None), most


@torch.no_grad()
def _accuracy(net: nn.Module, test: ClassPool, classes: list[int] | None) -> float:
    net.eval()
    scores = net(test.all().x)
    net.train()
    if classes is not None:
        masked = torch.full_like(scores, float("-inf"))
        masked[:, classes] = scores[:, classes]
        scores = masked
    return 100 * float((scores.argmax(1) == test.relabel(test.all_labels())).float().mean())

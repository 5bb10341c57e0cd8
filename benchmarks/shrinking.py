"""``python -m benchmarks shrinking``: a set that shrinks to its first images, in several orders, against one condensed anew."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.checks import at_least
from benchmarks.report.records import resume, write
from benchmarks.report.tables import text_table
from ddreplay import Budget, ClassPool, CondensedSet, ConvNet, Distiller, dm, evaluate
from ddreplay.datasets import ImageData, load
from ddreplay.evaluation import PROTOCOLS
from ddreplay.methods.prefix_order import prefix_ordered, reordered
from ddreplay.networks import Banked
from ddreplay.objectives import MeanEmbedding, RandomPrefix
from ddreplay.randomness import Random
from ddreplay.storage.codecs import codec_from_spec
from ddreplay.storage.fit import fit

__all__ = ["WAYS", "page_table", "shrinking"]

WAYS = ("as condensed", "random order", "greedy order", "learned order", "condensed anew")


@dataclass(frozen=True)
class Task:
    """What is condensed and shrunk, and in which units. pictures: whether sets are stored as AVIF, else in uint8."""

    pool: ClassPool
    method: Distiller
    unit: Literal["images", "bytes"]

    def condense(self, amount: int, seed: int, *, learned: bool = False) -> CondensedSet:
        """A set of so many images or bytes a class; ``learned``: its first images are learned as sets of their own."""
        method = replace(self.method, objective=RandomPrefix(MeanEmbedding())) if learned else self.method
        return method(self.pool, Budget(amount, self.unit), seed=seed)

    def shrink(self, condensed: CondensedSet, amount: int) -> CondensedSet:
        """What a memory keeps of a set under a smaller budget."""
        if self.unit == "images":
            return condensed.take(amount)
        return fit(condensed, Budget.bytes(amount).total(len(condensed.class_ids)))


def shrinking(
    dataset: str = "digits",
    unit: Literal["images", "bytes"] = "bytes",
    whole: int = 1034,
    left: tuple[int, ...] = (522, 266, 138),
    codec: Literal["uint8", "avif"] = "uint8",
    sets: int = 3,
    steps: int = 200,
    nets: int = 2,
    epochs: int = 100,
    augment: bool = False,
    classes: int | None = None,
    out: Path = Path("results"),
) -> None:
    """Condense a set, shrink it as a memory does, and train new networks on what is left.

    As condensed: the images stand as they were made, which is the order of the real ones that they began as. Random order: shuffled.
    Greedy order: `prefix_ordered`. Learned order: `RandomPrefix`. Condensed anew: from all real images, which a memory has no more.

    Args:
        dataset: digits, or another of `ddreplay.datasets.load`; tested on its test split.
        unit: what the sizes count.
        whole: images or bytes a class before shrinking, by distribution matching under a bank of networks.
        left: images or bytes a class after it, from the whole set each time. The default is 16 digits, then 8, 4 and 2.
        codec: of sizes in bytes, which condense through it.
        sets: condensed with a seed each.
        steps: of the images.
        nets: trained on each set, of width 32.
        epochs: of training.
        augment: train with DSA's operations (protocol dm2023), else without (dc2021).
        classes: the first so many alone; None: all.
        out: folder of the record; cells that it has are not run again.
    """
    at_least(1, whole=whole, sets=sets, steps=steps, nets=nets, epochs=epochs)
    at_least(2, classes=2 if classes is None else classes)
    for amount in left:
        at_least(1, left=amount)
        if amount > whole:
            raise ValueError(f"left must be at most the whole, {whole}, got {amount}")
    data = load(dataset)
    train, test = (_first(data, split, classes) for split in ("train", "test"))
    task = Task(train, _method(data, steps, codec), unit)
    protocol = PROTOCOLS["dm2023" if augment else "dc2021"].scaled(epochs).on(data.augmentation)
    about = {
        "dataset": dataset,
        "unit": unit,
        "whole": whole,
        "codec": codec,
        "method": repr(task.method),
        "nets": nets,
        "protocol": protocol.name,
        **({} if classes is None else {"classes": classes}),
    }
    path = out / f"shrinking_{Path(dataset).stem}.json"
    recording = resume(path, "shrinking", about)
    done = {(one["seed"], one["left"], one["way"]) for one in recording.results}
    net = ConvNet(width=32)
    for seed in range(sets):
        for way, amount, kept, seconds in _cells(task, whole, left, seed, done):
            accuracy = evaluate(kept, test, net, protocol=protocol, seeds=nets, seed=seed).mean
            size = {"images": kept.stored_images, "nbytes": kept.nbytes}
            recording.add(seed=seed, left=amount, way=way, accuracy=accuracy, **size, seconds=round(seconds, 2))
            write(recording.finish(), path)
    print(_table(recording.results, (whole, *left), unit))


def _first(data: ImageData, split: Literal["train", "test"], classes: int | None) -> ClassPool:
    pool = data.pool(split, device="cpu")
    return pool if classes is None else pool.select(range(classes))


def _cells(task: Task, whole: int, left: Sequence[int], seed: int, done: set[tuple[int, int, str]]) -> Any:
    """(way, amount, what is left, seconds of condensing or ordering) of those that are missing."""
    made: dict[str, tuple[CondensedSet, float]] = {}
    for amount in (whole, *left):
        for way in WAYS:
            if (seed, amount, way) in done or (amount == whole and way in ("random order", "condensed anew")):
                continue
            if way == "condensed anew":
                found, seconds = _timed(lambda amount=amount: task.condense(amount, seed))  # type: ignore[misc]
            else:
                found, seconds = _ordered(task, whole, way, seed, made)
                found = found if amount == whole else task.shrink(found, amount)
            yield way, amount, found, seconds


def _ordered(
    task: Task, whole: int, way: str, seed: int, made: dict[str, tuple[CondensedSet, float]]
) -> tuple[CondensedSet, float]:
    """The whole set in an order, made once."""
    if way in made:
        return made[way]
    if way in ("as condensed", "learned order"):
        made[way] = _timed(lambda: task.condense(whole, seed, learned=way == "learned order"))
        return made[way]
    plain, _ = _ordered(task, whole, "as condensed", seed, made)
    make: dict[str, Callable[[], CondensedSet]] = {
        "random order": lambda: _shuffled(plain, seed),
        "greedy order": lambda: prefix_ordered(plain, seed=seed),
    }
    made[way] = _timed(make[way])
    return made[way]


def _timed(make: Callable[[], CondensedSet]) -> tuple[CondensedSet, float]:
    started = time.perf_counter()
    return make(), time.perf_counter() - started


def _method(data: ImageData, steps: int, codec: str) -> Distiller:
    how: dict[str, Any] = {"steps": steps, "lr": 0.4, "per_image": True, "strategy": data.augmentation}
    return dm(ConvNet(width=32), networks=Banked(size=10), **how).stored_by(codec_from_spec({"name": codec}))


def _shuffled(condensed: CondensedSet, seed: int) -> CondensedSet:
    """The stored images of every class in random order."""
    random = Random(seed)
    orders = [
        [torch.randperm(count, generator=random.cpu).tolist() for count in part.counts] for part in condensed.parts
    ]
    parts = tuple(reordered(part, order) for part, order in zip(condensed.parts, orders, strict=True))
    return replace(condensed, parts=parts)


def _table(results: Sequence[dict[str, Any]], amounts: Sequence[int], unit: str) -> str:
    return text_table(["kept", *(f"{n} {unit} a class" for n in amounts)], _rows(results, amounts))


def page_table(results: Sequence[dict[str, Any]], classes: int = 10) -> str:
    """As docs/results.md has it: bytes, and images, a class."""
    amounts = sorted({one["left"] for one in results}, reverse=True)
    heads = []
    for n in amounts:
        images = sorted({one["images"] // classes for one in results if one["left"] == n})
        heads.append(f"{n} B ({'..'.join(str(k) for k in dict.fromkeys((images[0], images[-1])))})")
    lines = [["kept", *heads], ["---"] * (1 + len(heads)), *_rows(results, amounts)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rows(results: Sequence[dict[str, Any]], amounts: Sequence[int]) -> list[list[str]]:
    rows = []
    for way in WAYS:
        of_way = [[r["accuracy"] for r in results if (r["way"], r["left"]) == (way, n)] for n in amounts]
        rows.append([way, *(f"{statistics.fmean(v):.1f} ({min(v):.1f}..{max(v):.1f})" if v else "-" for v in of_way)])
    return rows

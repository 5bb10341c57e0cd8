"""``python -m benchmarks shrinking``: a set that keeps its first images, in several orders, against one condensed anew."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.checks import at_least
from benchmarks.report.records import begin, write
from benchmarks.report.tables import text_table
from ddreplay import CondensedSet, ConvNet, dm, evaluate
from ddreplay.datasets import load
from ddreplay.evaluation import PROTOCOLS
from ddreplay.methods.prefix_order import prefix_ordered
from ddreplay.networks import Banked
from ddreplay.randomness import Random

__all__ = ["shrinking"]

WAYS = ("as condensed", "random order", "greedy order", "condensed anew")


def shrinking(
    dataset: str = "digits",
    images_per_class: int = 16,
    left: tuple[int, ...] = (1, 2, 4),
    sets: int = 3,
    nets: int = 2,
    epochs: int = 100,
    out: Path = Path("results"),
) -> None:
    """Condense a set, keep few of its images, and train new networks on them.

    Args:
        dataset: digits, or another of `ddreplay.datasets.load`; tested on its test split.
        images_per_class: of the whole set, by distribution matching under a bank of networks.
        left: images of every class that are kept.
        sets: condensed with a seed each.
        nets: trained on each, of width 32.
        epochs: of training.
        out: folder of the record.
    """
    at_least(1, images_per_class=images_per_class, sets=sets, nets=nets, epochs=epochs)
    data = load(dataset)
    pool, test, net = data.pool("train", device="cpu"), data.pool("test", device="cpu"), ConvNet(width=32)
    method = dm(net, networks=Banked(size=10), steps=200, lr=0.4, per_image=True, strategy=data.augmentation)
    protocol = replace(PROTOCOLS["dc2021"].scaled(epochs), name=f"dc2021, {epochs} epochs")
    about = {
        "dataset": dataset,
        "images_per_class": images_per_class,
        "method": repr(method),
        "protocol": protocol.name,
    }
    recording = begin("shrinking", about)
    for seed in range(sets):
        whole = method(pool, images_per_class, seed=seed)
        orders = {"as condensed": whole, "random order": _shuffled(whole, seed), "greedy order": prefix_ordered(whole)}
        for n in left:
            found = {way: one.take(n) for way, one in orders.items()} | {"condensed anew": method(pool, n, seed=seed)}
            for way, kept in found.items():
                accuracy = evaluate(kept, test, net, protocol=protocol, seeds=nets, seed=seed).mean
                recording.add(seed=seed, left=n, way=way, accuracy=accuracy)
                write(recording.finish(), out / "shrinking.json")
    rows = []
    for way in WAYS:
        of_way = [[r["accuracy"] for r in recording.results if (r["way"], r["left"]) == (way, n)] for n in left]
        rows.append([way, *(f"{statistics.fmean(values):.1f}" for values in of_way)])
    print(text_table(["kept", *(f"{n} of {images_per_class}" for n in left)], rows))


def _shuffled(condensed: CondensedSet, seed: int) -> CondensedSet:
    """The stored images of every class in random order; for sets that are stored without loss."""
    random, parts = Random(seed), []
    for part in condensed.parts:
        blocks = part.codec.decode(part.stored, part.counts, part.shape)
        blocks = [x[torch.randperm(len(x), generator=random.cpu)] for x in blocks]
        parts.append(replace(part, stored=part.codec.encode(blocks)))
    return replace(condensed, parts=tuple(parts))

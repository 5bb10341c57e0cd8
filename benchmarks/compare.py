"""``python -m benchmarks compare``: condensers side by side on one data set: accuracy, bytes, seconds."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.memories import memory_condenser
from benchmarks.report.progress import Progress
from benchmarks.report.records import begin, write
from benchmarks.report.tables import format_bytes, format_summary, summary, text_table
from ddreplay.cli import make_net
from ddreplay.datasets import ImageData, load
from ddreplay.evaluate import PROTOCOLS, evaluate

__all__ = ["compare", "first_rows", "reduced", "table"]


def compare(
    dataset: str = "digits",
    methods: tuple[str, ...] = ("random", "herding", "dm(networks=banked(size=20), steps=300)"),
    images_per_class: tuple[int, ...] = (1, 10),
    seeds: int = 3,
    networks: int = 1,
    net: str = "convnet(width=32)",
    protocol: str = "dm2023",
    epochs: int | None = None,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    validation: bool = False,
    root: Path | None = None,
    download: bool = False,
    device: str = "auto",
    compile: bool = False,
    name: str = "compare",
    out: Path = Path("results"),
) -> None:
    """Condense with every method, train networks on each set, and put accuracies beside bytes and seconds.

    Args:
        dataset: as in ddreplay condense.
        methods: of ddreplay condense, with options if any: "dm(steps=1000)"; options not given are those for small
            machines (benchmarks/memories.py), then the papers'.
        images_per_class: stored images of every class.
        seeds: sets condensed by every method.
        networks: networks trained on each set.
        net: the backbone that condenses and is trained.
        protocol: dc2021 or dm2023.
        epochs: another number of epochs; the protocol's name then says so.
        train_per_class, test_per_class: use the first so many images of every class alone.
        validation: test on held-out training images instead of test images: for choosing settings.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        device: auto, cpu or cuda.
        compile: run networks through torch.compile where that can be done: faster after tens of seconds.
        name: of the record's file.
        out: folder for the record (JSON).
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {sorted(PROTOCOLS)}, got {protocol!r}")
    data = load(dataset, root=root, download=download)
    data = data.for_tuning() if validation else data
    data = reduced(data, train_per_class, test_per_class)
    pool, test = data.pool("train", device=device), data.pool("test", device=device)
    chosen = PROTOCOLS[protocol].on(data.augmentation).scaled(PROTOCOLS[protocol].epochs if epochs is None else epochs)
    condensers = {text: memory_condenser(text, net, data.augmentation, compile=compile) for text in methods}
    settings = {
        "dataset": data.name,
        "normalization": data.normalization,
        "methods": methods,
        "images_per_class": images_per_class,
        "net": net,
        "compile": compile,
        "evaluation": chosen.name,
        "networks": networks,
        "train": f"{len(pool)} images",
        "test": f"{len(test)} {'held-out training' if validation else 'test'} images",
        "scale": "reduced"
        if epochs or train_per_class or test_per_class or "width=" in net
        else "as the arguments say",
    }
    recording = begin("compare", settings, device=pool.device)
    cells = list(itertools.product(range(seeds), images_per_class, methods))
    with Progress(len(cells), name, unit="sets") as progress:
        for seed, count, text in cells:
            started = time.perf_counter()
            condensed = condensers[text](pool, count, seed=seed)
            seconds = time.perf_counter() - started
            found = evaluate(
                condensed, test, make_net(net), protocol=chosen, seeds=networks, seed=1000 + seed, compile=compile
            )
            recording.add(
                method=text,
                images_per_class=count,
                seed=seed,
                accuracies=list(found.accuracies),
                accuracy=found.mean,
                nbytes=condensed.nbytes,
                stored_images=condensed.stored_images,
                images=len(condensed),
                condense_seconds=round(seconds, 2),
                train_seconds=round(found.seconds, 2),
            )
            progress.advance(note=f"{text}, {count} per class: {found.mean:.1f} %")
            write(recording.finish(), out / f"{name}.json")
    print(table(recording.results))
    print(f"record: {out / name}.json")


def reduced(data: ImageData, train_per_class: int | None, test_per_class: int | None) -> ImageData:
    """The first so many images of every class alone; ``None``: all."""
    train, test = first_rows(data.train_labels, train_per_class), first_rows(data.test_labels, test_per_class)
    return replace(
        data,
        train_images=data.train_images[train],
        train_labels=data.train_labels[train],
        test_images=data.test_images[test],
        test_labels=data.test_labels[test],
    )


def first_rows(labels: Tensor, per_class: int | None) -> Tensor:
    """Where the first ``per_class`` images of every class are."""
    return torch.cat([(labels == c).nonzero()[:per_class, 0] for c in labels.unique()])


def table(results: list[dict[str, Any]]) -> str:
    """One row a budget and method: means over seeds with 95 % intervals, accuracies in percent."""
    header = ["per class", "method", "accuracy %", "bytes", "trained on", "condense s", "train s"]
    rows = []
    for key in dict.fromkeys((r["images_per_class"], r["method"]) for r in results):
        group = [r for r in results if (r["images_per_class"], r["method"]) == key]
        rows.append(
            [
                *key,
                format_summary(summary([r["accuracy"] for r in group]), scale=1),
                format_bytes(group[0]["nbytes"]),
                group[0]["images"],
                f"{summary([r['condense_seconds'] for r in group]).mean:.1f}",
                f"{summary([r['train_seconds'] for r in group]).mean:.1f}",
            ]
        )
    rows.sort(key=lambda row: row[0])
    return f"{text_table(header, rows)}\nmean and 95 % interval over {len({r['seed'] for r in results})} seeds"

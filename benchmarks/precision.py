"""``python -m benchmarks precision``: what bfloat16, compiling and channels-last are worth, in seconds and in accuracy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.compare import reduced
from benchmarks.report.progress import Progress
from benchmarks.report.records import begin, write
from benchmarks.report.tables import format_summary, paired, summary, text_table
from ddreplay import Distiller, methods
from ddreplay.backbones import Bfloat16, ConvNet, Net, as_factory
from ddreplay.datasets import load
from ddreplay.evaluate import PROTOCOLS, evaluate
from ddreplay.networks import Banked

__all__ = ["WAYS", "precision", "table"]

WAYS = ("float32", "float32, channels last", "float32, compiled", "bfloat16", "bfloat16, compiled")


@dataclass(frozen=True)
class ChannelsLast:
    """A network whose weights lie channels last; PyTorch's convolutions then work so, whatever the images' order."""

    net: Net

    def __call__(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return as_factory(self.net)(shape, classes).to(memory_format=torch.channels_last)


def precision(
    dataset: str = "digits",
    method: str = "dm",
    images_per_class: int = 10,
    width: int = 32,
    steps: int = 100,
    bank: int = 10,
    lr: float = 4.0,
    epochs: int = 60,
    seeds: int = 3,
    ways: tuple[str, ...] = WAYS,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    device: str = "auto",
    out: Path = Path("results"),
) -> None:
    """Condense and evaluate in every way of running a network, interleaved: seconds and accuracies side by side.

    A way's first run, which compiles, is shown by its seconds alone and not counted among the others.

    Args:
        dataset: as in ddreplay condense.
        method: dm, with a bank of networks; or dsac, whose synthetic side is differentiated twice and so not compiled.
        images_per_class: of the condensed sets.
        width: of the ConvNet.
        steps: image steps.
        bank: networks of dm.
        lr: image learning rate.
        epochs: of evaluation (protocol dm2023).
        seeds: runs of every way after the first.
        ways: any of WAYS; the first is what the others are compared with.
        train_per_class, test_per_class: use the first so many images of every class alone.
        device: auto, cpu or cuda.
        out: folder for the record (JSON).
    """
    if method not in ("dm", "dsac") or not set(ways) <= set(WAYS):
        raise ValueError(f"method must be dm or dsac, and ways among {', '.join(WAYS)}; got {method!r} and {ways}")
    data = reduced(load(dataset), train_per_class, test_per_class)
    pool, test = data.pool("train", device=device), data.pool("test", device=device)
    protocol = PROTOCOLS["dm2023"].on(data.augmentation).scaled(epochs)
    settings = {"dataset": data.name, "method": method, "images_per_class": images_per_class, "width": width}
    settings |= {"steps": steps, "bank": bank, "lr": lr, "evaluation": protocol.name, "scale": "reduced"}
    settings |= {"train": f"{len(pool)} images", "test": f"{len(test)} images"}
    recording = begin("precision", settings, device=pool.device)
    path = out / f"precision_{data.name}_{method}.json"
    with Progress((seeds + 1) * len(ways), "precision", unit="sets") as progress:
        for seed in range(seeds + 1):
            for way in ways:
                net, compile = running(way, width)
                found = condenser(method, net, data.augmentation, steps, bank, lr)
                started = time.perf_counter()
                condensed = replace(found, compile=compile)(pool, images_per_class, seed=seed)
                seconds = time.perf_counter() - started
                tested = evaluate(condensed, test, net, protocol=protocol, seeds=1, seed=seed, compile=compile)
                recording.add(
                    way=way, seed=seed, accuracy=tested.mean, condense_seconds=seconds, evaluate_seconds=tested.seconds
                )
                write(recording.finish(), path)
                progress.advance(note=way)
    print(table(recording.results))
    print(f"record: {path}")


def running(way: str, width: int) -> tuple[Net, bool]:
    """The network, and whether to compile."""
    name, _, how = way.partition(", ")
    net: Net = Bfloat16(ConvNet(width=width)) if name == "bfloat16" else ConvNet(width=width)
    return (ChannelsLast(net) if how == "channels last" else net), how == "compiled"


def condenser(method: str, net: Net, strategy: str, steps: int, bank: int, lr: float) -> Distiller:
    """The method at this scale."""
    if method == "dm":
        return methods.dm(net, networks=Banked(size=bank), steps=steps, lr=lr, strategy=strategy)
    return methods.dsac(
        net, rounds=max(1, steps // 10), loops=(10, 3), lr=lr, lr_net=0.05, batch_real=64, strategy=strategy
    )


def table(results: Sequence[dict[str, Any]]) -> str:
    """A row a way: accuracy and its difference from the first way, seed by seed; seconds, and how many times as fast."""
    ways = list(dict.fromkeys(r["way"] for r in results))
    header = ["way", "accuracy %", "difference", "condense s", "times", "evaluate s", "times", "first run s"]
    rows = []
    for way in ways:
        own, base = ([r for r in results if r["way"] == name] for name in (way, ways[0]))
        gain = paired([r["accuracy"] for r in own], [r["accuracy"] for r in base[: len(own)]])
        row = [way, format_summary(summary([r["accuracy"] for r in own]), scale=1), ""]
        if way != ways[0]:
            row[2] = format_summary(gain, scale=1)
        for key in ("condense_seconds", "evaluate_seconds"):
            mine, theirs = (summary([r[key] for r in side if r["seed"]]) for side in (own, base))
            row += [format_summary(mine, scale=1), f"{theirs.mean / mine.mean:.1f}"]
        first = next(r for r in own if not r["seed"])
        rows.append([*row, f"{first['condense_seconds'] + first['evaluate_seconds']:.0f}"])
    seeds = len({r["seed"] for r in results})
    return (
        f"{text_table(header, rows)}\nmean and 95 % interval; accuracies over {seeds} seeds, seconds without the first"
    )

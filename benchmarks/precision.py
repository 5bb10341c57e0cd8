"""``python -m benchmarks precision``: what bfloat16, compiling and channels-last are worth in seconds, and what they cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.checks import among, at_least
from benchmarks.image_gradients import METHODS, Matching, gradient_table, image_gradients
from benchmarks.report.progress import Progress
from benchmarks.report.records import begin, write
from benchmarks.report.tables import format_summary, paired, summary, text_table
from benchmarks.sets import Data, read, training
from ddreplay import Distiller, methods
from ddreplay.backbones import Bfloat16, ConvNet, Net, as_factory
from ddreplay.evaluation import evaluate
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
    gradients: tuple[str, ...] = (),
    ages: tuple[int, ...] = (0, 5),
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    device: str = "auto",
    out: Path = Path("results"),
) -> None:
    """Condense and evaluate in every way of running a network, interleaved: seconds and accuracies side by side.

    A way's first run, which compiles, is shown by its seconds alone and not counted among the others. With ``gradients``, instead: how
    far one step's image gradient is from that in float64, for networks in float32, for networks in bfloat16 in a plain loop, and for the
    same networks in the library's terms. Nothing is condensed then.

    Args:
        dataset: as in ddreplay condense.
        method: dm, with a bank of networks; or dsac, whose synthetic side is differentiated twice and so not compiled.
        images_per_class: of the condensed sets.
        width: of the ConvNet.
        steps: image steps.
        bank: networks of dm.
        lr: image learning rate.
        epochs: of evaluation (protocol dm2023).
        seeds: runs of every way after the first; networks whose gradients are compared.
        ways: any of WAYS; the first is what the others are compared with.
        gradients: methods whose image gradients are compared: dc, dsa, dcc, dsac, dm, idm, ddm.
        ages: epochs that the networks of ``gradients`` are trained for on the real data before.
        train_per_class, test_per_class: use the first so many images of every class alone.
        device: auto, cpu or cuda.
        out: folder for the record (JSON).
    """
    among("method", [method], ("dm", "dsac"))
    among("ways", ways, WAYS)
    among("gradients", gradients, METHODS)
    at_least(1, images_per_class=images_per_class, width=width, steps=steps, bank=bank, seeds=seeds)
    data = read(dataset, train_per_class=train_per_class, test_per_class=test_per_class, device=device)
    described = {**data.described(), "images_per_class": images_per_class, "width": width, "scale": "reduced"}
    if gradients:
        matching = Matching(width=width, images_per_class=images_per_class)
        settings = {**described, "gradients": gradients, "ages": ages, "batch_real": matching.batch_real}
        compare_gradients(data, gradients, matching, ages, seeds, settings, out)
        return
    protocol = training("dm2023", data.images, epochs)
    settings = {**described, "method": method, "steps": steps, "bank": bank, "lr": lr, "evaluation": protocol.name}
    recording = begin("precision", settings, device=data.pool.device)
    path = out / f"precision_{data.images.name}_{method}.json"
    with Progress((seeds + 1) * len(ways), "precision", unit="sets") as progress:
        for seed in range(seeds + 1):
            for way in ways:
                net, compile = running(way, width)
                found = condenser(method, net, data.images.augmentation, steps, bank, lr)
                started = time.perf_counter()
                condensed = replace(found, compile=compile)(data.pool, images_per_class, seed=seed)
                seconds = time.perf_counter() - started
                tested = evaluate(condensed, data.test, net, protocol=protocol, seeds=1, seed=seed, compile=compile)
                recording.add(
                    way=way, seed=seed, accuracy=tested.mean, condense_seconds=seconds, evaluate_seconds=tested.seconds
                )
                write(recording.finish(), path)
                progress.advance(note=way)
    print(table(recording.results))
    print(f"record: {path}")


def compare_gradients(
    data: Data,
    methods: Sequence[str],
    matching: Matching,
    ages: Sequence[int],
    seeds: int,
    settings: dict[str, Any],
    out: Path,
) -> None:
    """The errors of image gradients, as a table and a record."""
    recording = begin("precision", settings, device=data.pool.device)
    path = out / f"precision_{data.images.name}_gradients.json"
    with Progress(seeds * len(ages), "precision", unit="networks") as progress:
        for age in ages:
            for seed in range(seeds):
                for result in image_gradients(data, methods, replace(matching, trained=age), seed):
                    recording.add(**result)
                write(recording.finish(), path)
                progress.advance(note=f"seed {seed}, {age} epochs trained")
    print(gradient_table(recording.results))
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

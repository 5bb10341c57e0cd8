"""``python -m benchmarks unrolling``: memory and seconds of a gradient through N inner steps, by the way it is computed."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from benchmarks.checks import at_least
from benchmarks.live_bytes import LiveBytes
from benchmarks.report.records import begin, write
from benchmarks.report.tables import format_bytes, text_table
from ddreplay.augment.siamese import Identity
from ddreplay.backbones import as_factory
from ddreplay.names import network
from ddreplay.objectives.unrolling import Inner, InnerStep, Memory, unroll
from ddreplay.randomness import Random

__all__ = ["peak_of_unrolling", "unrolling"]

WAYS: tuple[Memory, ...] = ("graph", "constant", "first-order")


def peak_of_unrolling(
    memory: Memory,
    steps: int,
    *,
    net: str = "convnet(width=8)",
    side: int = 16,
    images: int = 30,
    momentum: float = 0.0,
) -> tuple[int, float]:
    """Peak bytes and seconds of one gradient with respect to ``images`` images of ``side`` x ``side`` through ``steps`` steps."""
    shape, classes = (1, side, side), 3
    with Random(0).scope():
        module = as_factory(network(net))(shape, classes)
    x = torch.randn(images, *shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.arange(images) % classes
    names, start = tuple(name for name, _ in module.named_parameters()), tuple(module.parameters())
    plan = [InnerStep(None, Identity().draw(shape, Random(0)))] * steps
    started = time.perf_counter()
    with LiveBytes() as seen:
        end = unroll(Inner(module, names, plan, momentum), start, x, y, torch.full((steps,), 0.01), memory)
        torch.stack([w.square().sum() for w in end]).sum().backward()
    return seen.peak, time.perf_counter() - started


def unrolling(
    steps: tuple[int, ...] = (5, 10, 20, 40),
    net: str = "convnet(width=32)",
    side: int = 32,
    images: int = 10,
    momentum: float = 0.0,
    out: Path = Path("results"),
) -> None:
    """One gradient through the inner training of trajectory matching (MTT) and its kin, on the CPU.

    Args:
        steps: inner steps.
        net: the backbone that is trained.
        side: pixels of an image.
        images: in every inner step.
        momentum: of the inner SGD.
        out: folder for the record (JSON).
    """
    at_least(1, side=side, images=images, steps=min(steps, default=0))
    recording = begin("unrolling", {"net": net, "side": side, "images": images, "momentum": momentum})
    for n in steps:
        for memory in WAYS:
            peak, seconds = peak_of_unrolling(memory, n, net=net, side=side, images=images, momentum=momentum)
            recording.add(memory=memory, steps=n, peak_bytes=peak, seconds=round(seconds, 3))
    found = {(r["memory"], r["steps"]): r for r in recording.results}
    rows = [
        [n, *(f"{format_bytes(found[way, n]['peak_bytes'])}, {found[way, n]['seconds']:.2f} s" for way in WAYS)]
        for n in steps
    ]
    print(text_table(["inner steps", "graph (MTT)", "constant (TESLA, exact)", "first-order (TESLA, published)"], rows))
    print(f"record: {write(recording.finish(), out / 'unrolling.json')}")

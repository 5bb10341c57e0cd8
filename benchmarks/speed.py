"""``python -m benchmarks speed``: one step of every method against a plain loop, which must give the same numbers."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.checks import among, at_least
from benchmarks.plain_loops import COMPILED, ROWS, Problem, Row, plain_epoch
from benchmarks.report.progress import Progress
from benchmarks.report.records import begin, write
from benchmarks.report.tables import format_bytes, text_table
from ddreplay import names
from ddreplay.augment.siamese import Identity
from ddreplay.backbones import Probe, as_factory
from ddreplay.data.chunks import forward_chunk
from ddreplay.data.pool import Batch, pick_device
from ddreplay.networks.trained_on_synthetic import train_epoch
from ddreplay.objectives import Look, Side
from ddreplay.randomness import Random

__all__ = ["check", "ours", "speed"]

TOLERANCE = {torch.float64: 1e-10, torch.float32: 5e-3}
"""The largest difference allowed, relative to the largest entry: of the loss, the image gradients, the trained weights. In float32 the
image gradients of a plain gradient-matching loop on 32x32 images are themselves about 1e-2 from those in float64."""


@dataclass(frozen=True)
class Size:
    """Of the problem that is timed. real, syn: images of every class."""

    shape: tuple[int, int, int]
    classes: int
    real: int
    syn: int
    net: str
    device: torch.device


def speed(
    methods: tuple[str, ...] = (),
    image: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    batch_real: int = 64,
    images_per_class: int = 10,
    net: str = "convnet(width=64)",
    repeats: int = 5,
    batch_size: int = 256,
    compiled: bool = False,
    threads: int = 1,
    device: str = "auto",
    out: Path = Path("results"),
) -> None:
    """Time one matching step of every method, and one epoch of training a network, against plain loops.

    Both sides run interleaved in one process, on the same images, network and augmentation draw; their losses and image gradients must
    agree, in float64 to 1e-10. Printed: the median of each, the median of the ratios of pairs with their quartiles, and
    the memory in use at most above the start.

    Args:
        methods: rows of benchmarks/plain_loops.py; none: all of them, and the epoch.
        image: channels, height and width.
        classes: of the data.
        batch_real: real images of every class.
        images_per_class: synthetic images of every class.
        net: the network.
        repeats: pairs timed.
        batch_size: of the epoch.
        compiled: time steps and epoch through torch.compile as well; compiling itself is not counted.
        threads: of torch, on the CPU.
        device: auto, cpu or cuda.
        out: folder for the record.
    """
    rows = [*ROWS, *(COMPILED if compiled else ())]
    epochs = ["epoch", *(["epoch, compiled"] if compiled else [])]
    known = [*(row.name for row in rows), *epochs]
    among("methods", methods, known)
    at_least(
        1, classes=classes, batch_real=batch_real, images_per_class=images_per_class, repeats=repeats, threads=threads
    )
    torch.set_num_threads(threads)
    size = Size(image, classes, batch_real, images_per_class, net, pick_device(device))
    wanted = methods or tuple(known)
    protocol = {
        "image": image,
        "classes": classes,
        "batch_real": batch_real,
        "images_per_class": images_per_class,
        "net": net,
        "batch_size": batch_size,
        "repeats": repeats,
    }
    recording = begin("speed", protocol, device=size.device)
    with Progress(len(wanted), "speed", unit="rows") as progress:
        for row in (row for row in rows if row.name in wanted):
            differences = check(row, size)
            problem = make_problem(row, size, torch.float32)
            found = compare(partial(ours, row, problem, {}), partial(theirs, row, problem), repeats, size.device)
            recording.add(row=row.name, **found, **differences)
            progress.advance(note=row.name)
        for name in (name for name in epochs if name in wanted):
            recording.add(row=name, **time_epoch(size, batch_size, repeats, compile=name != "epoch"))
            progress.advance(note=name)
    path = write(recording.finish(), out / "speed.json")
    print(table(recording.results))
    print(f"record: {path}")


def make_problem(row: Row, size: Size, dtype: torch.dtype) -> Problem:
    """Images of noise around one pattern for each class, a fresh network and one augmentation draw; the same at every call."""
    random = Random(0, size.device)
    with random.scope():
        net = as_factory(names.network(size.net))(size.shape, size.classes).to(size.device, dtype)
        patterns = torch.randn(size.classes, 1, *size.shape, device=size.device, dtype=dtype)
        real, syn = (
            patterns + 0.5 * torch.randn(size.classes, n, *size.shape, device=size.device, dtype=dtype)
            for n in (size.real, size.syn)
        )
    return Problem(net, row.augment.draw(size.shape, random), real, syn.requires_grad_())


def ours(row: Row, problem: Problem, kept: dict[str, Any] | None = None) -> tuple[Tensor, Tensor]:
    """Loss and image gradients as the library computes them; a banked row keeps its real side in ``kept``."""
    term, net, random = row.term(), problem.net, Random(1, problem.real.device)
    look = Look(
        net, Probe(net, term.taps, compile=row.compile), problem.transform, row.augment, random, accuracy=row.accuracy
    )
    shape = problem.real.shape[2:]
    chunk = forward_chunk((shape[0], shape[1], shape[2]), problem.real.device)
    classes = range(len(problem.real))
    kept = {} if kept is None or not row.banked else kept
    if "statistic" not in kept:
        with torch.no_grad():
            kept["statistic"] = term.summarise(Side(look, problem.real.flatten(0, 1), classes, chunk=chunk))
    loss = term.distance(kept["statistic"], Side(look, problem.syn.flatten(0, 1), classes, chunk=chunk))
    return loss.detach(), torch.autograd.grad(loss, problem.syn)[0]


def theirs(row: Row, problem: Problem) -> tuple[Tensor, Tensor]:
    """The same by the plain loop."""
    loss = row.plain(problem)
    return loss.detach(), torch.autograd.grad(loss, problem.syn)[0]


def check(row: Row, size: Size) -> dict[str, float]:
    """The differences between both sides, relative to the largest entry, in float64 and float32.

    Raises:
        ValueError: when one is above its tolerance: then a time would mean nothing.
    """
    found = {}
    for dtype, tolerance in TOLERANCE.items():
        problem = make_problem(row, size, dtype)
        pairs = zip(ours(row, problem), theirs(row, problem), strict=True)
        found[f"difference_{str(dtype)[6:]}"] = worst = max(difference(a, b) for a, b in pairs)
        if not worst <= tolerance:
            raise ValueError(
                f"{row.name} differs from its plain loop by {worst:.1e} in {dtype}; at most {tolerance:.0e} is allowed"
            )
    return found


def difference(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference over the largest absolute entry of ``b``."""
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))


def time_epoch(size: Size, batch_size: int, repeats: int, *, compile: bool = False) -> dict[str, Any]:
    """One epoch of training a network on the synthetic images."""
    found: dict[str, Any] = {}
    how: dict[str, Any] = {"lr": 0.01, "batch_size": batch_size, "augment": Identity()}
    for dtype, tolerance in TOLERANCE.items():
        problem = make_problem(ROWS[0], size, dtype)
        x, y = (
            problem.syn.detach().flatten(0, 1),
            torch.arange(size.classes, device=size.device).repeat_interleave(size.syn),
        )
        nets = problem.net, copy.deepcopy(problem.net)
        train_epoch(nets[0], Batch(x, y), Random(0, size.device), compile=compile, **how)
        plain_epoch(nets[1], x, y, Random(0, size.device), **how)
        pairs = zip(nets[0].parameters(), nets[1].parameters(), strict=True)
        found[f"difference_{str(dtype)[6:]}"] = worst = max(difference(a, b) for a, b in pairs)
        if not worst <= tolerance:
            raise ValueError(
                f"an epoch differs from its plain loop by {worst:.1e} in {dtype}; at most {tolerance:.0e} is allowed"
            )
    random = Random(0, size.device)
    times = compare(
        lambda: train_epoch(nets[0], Batch(x, y), random, compile=compile, **how),
        lambda: plain_epoch(nets[1], x, y, random, **how),
        repeats,
        size.device,
    )
    return {**times, **found}


def compare(first: Callable[[], Any], second: Callable[[], Any], repeats: int, device: torch.device) -> dict[str, Any]:
    """Seconds of both, interleaved, after one run each that is not counted; ratios are second over first."""
    times: tuple[list[float], list[float]] = ([], [])
    peaks: list[int | None] = []
    for function in (first, second):
        function()
        peaks.append(_peak_of(function, device))
    for repeat in range(repeats):
        for which in (0, 1) if repeat % 2 == 0 else (1, 0):
            times[which].append(_seconds((first, second)[which], device))
    ratios = [b / a for a, b in zip(*times, strict=True)]
    return {
        "seconds": times[0],
        "plain_seconds": times[1],
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "peak_memory": peaks[0],
        "plain_peak_memory": peaks[1],
    }


def _seconds(function: Callable[[], Any], device: torch.device) -> float:
    started = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _peak_of(function: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes in use at most during a call, above those before it; None where the system does not say."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before = _status("VmRSS")
        function()
        return max(0, _status("VmHWM") - before)
    except (OSError, StopIteration):
        return None


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def table(results: Sequence[dict[str, Any]]) -> str:
    """A row a method: times, ratio with quartiles, memory, differences."""
    header = ["row", "ms", "plain ms", "times as fast", "memory", "plain memory", "float64 differs", "float32 differs"]
    rows = []
    for r in results:
        low, _, high = statistics.quantiles(r["ratios"], n=4) if len(r["ratios"]) > 1 else [r["ratio"]] * 3
        rows.append(
            [
                r["row"],
                f"{1000 * statistics.median(r['seconds']):.1f}",
                f"{1000 * statistics.median(r['plain_seconds']):.1f}",
                f"{r['ratio']:.2f} ({low:.2f} to {high:.2f})",
                format_bytes(r["peak_memory"]),
                format_bytes(r["plain_peak_memory"]),
                f"{r['difference_float64']:.1e}",
                f"{r['difference_float32']:.1e}",
            ]
        )
    return text_table(header, rows)

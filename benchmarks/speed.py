"""``python -m benchmarks speed``: one step of every method against a plain loop, which must give the same numbers."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
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
from ddreplay.backbones import Bfloat16, Probe, as_factory
from ddreplay.data.chunks import forward_chunk
from ddreplay.data.pool import Batch, pick_device
from ddreplay.networks.trained_on_synthetic import train_epoch
from ddreplay.objectives import GradientMatching, Look, Side
from ddreplay.randomness import Random

__all__ = ["check", "ours", "speed"]


@dataclass(frozen=True)
class Way:
    """How the library takes an image step of DSA and the network's epochs behind it.

    bfloat16: the network trains, and sees real images, in bfloat16; synthetic ones are matched in float32. pieces: images that pass at
    once while it trains.
    """

    compile: bool = False
    bfloat16: bool = False
    pieces: int | None = None


UNCOUNTED = 6
"""Runs before the first that is timed, on a GPU: a step is captured when it was asked for a few times."""

ROUNDS = {
    "dsa and epochs": Way(),
    "dsa and epochs, pieces": Way(pieces=25),
    "dsa and epochs, compiled": Way(compile=True, pieces=50),
    "dsa and epochs, compiled, bfloat16": Way(compile=True, bfloat16=True, pieces=50),
}
"""Rows of an image step and the epochs between it and the next."""

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
    epochs: int = 5,
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
        methods: rows of benchmarks/plain_loops.py, or of `ROUNDS`; none: all of the former, and the epoch.
        image: channels, height and width.
        classes: of the data.
        batch_real: real images of every class.
        images_per_class: synthetic images of every class.
        net: the network.
        repeats: pairs timed.
        batch_size: of the epoch.
        epochs: on the synthetic images behind a step, in the rows that have them; the paper's are 50 at 256 real and 10 synthetic images.
        compiled: time steps and epoch through torch.compile as well; compiling itself is not counted.
        threads: of torch, on the CPU.
        device: auto, cpu or cuda.
        out: folder for the record.
    """
    rows = [*ROWS, *(COMPILED if compiled else ())]
    single = ["epoch", *(["epoch, compiled"] if compiled else [])]
    known = [*(row.name for row in rows), *single]
    among("methods", methods, [*known, *ROUNDS])
    at_least(
        1, classes=classes, batch_real=batch_real, images_per_class=images_per_class, repeats=repeats, threads=threads
    )
    at_least(1, epochs=epochs)
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
        "epochs": epochs,
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
        for name in (name for name in single if name in wanted):
            recording.add(row=name, **time_epoch(size, batch_size, repeats, compile=name != "epoch"))
            progress.advance(note=name)
        for name in (name for name in ROUNDS if name in wanted):
            recording.add(row=name, **time_round(size, ROUNDS[name], epochs, batch_size, repeats))
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


def ours(
    row: Row, problem: Problem, kept: dict[str, Any] | None = None, marks: list[float] | None = None
) -> tuple[Tensor, Tensor]:
    """Loss and image gradients as the library computes them; a banked row keeps its real side in ``kept``.

    marks: gets the time when the real side is there, and that when all is.
    """
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
    if marks is not None:
        marks.append(time.perf_counter())
    loss = term.distance(kept["statistic"], Side(look, problem.syn.flatten(0, 1), classes, chunk=chunk))
    found = loss.detach(), torch.autograd.grad(loss, problem.syn)[0]
    if marks is not None:
        marks.append(time.perf_counter())
    return found


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
        with torch.backends.cudnn.flags(
            enabled=True, allow_tf32=False
        ):  # else a GPU's float32 has ten bits in convolutions
            pairs = list(zip(ours(row, problem), theirs(row, problem), strict=True))
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


def time_round(size: Size, way: Way, epochs: int, batch_size: int, repeats: int) -> dict[str, Any]:
    """An image step of DSA and the epochs behind it, against the plain loops; both networks train on from pair to pair.

    The step must agree as everywhere; of the trained weights the differences are told, and decide nothing in bfloat16. ``parts`` are the
    median seconds of ours: the real side, the synthetic one, the epochs.
    """
    row = replace(next(row for row in ROWS if row.name == "dsa"), term=lambda: GradientMatching(compile=way.compile))
    found = check(row, size)
    problem, other = (make_problem(row, size, torch.float32) for _ in range(2))
    if way.bfloat16:
        low = Bfloat16(names.network(size.net))(size.shape, size.classes).to(size.device)
        low.load_state_dict(problem.net.state_dict())
        problem = replace(problem, net=low)
    x = problem.syn.detach().flatten(0, 1)
    y = torch.arange(size.classes, device=size.device).repeat_interleave(size.syn)
    how: dict[str, Any] = {"lr": 0.01, "batch_size": batch_size, "augment": row.augment}
    more: dict[str, Any] = {"epochs": epochs, "compile": way.compile, "pieces": way.pieces}
    randoms, parts = [Random(0, size.device) for _ in range(2)], list[list[float]]()

    def our_round() -> None:
        marks = [time.perf_counter()]
        ours(row, problem, marks=marks)
        train_epoch(problem.net, Batch(x, y), randoms[0], **how, **more)
        marks.append(time.perf_counter())
        parts.append([b - a for a, b in pairwise(marks)])

    def their_round() -> None:
        theirs(row, other)
        for _ in range(epochs):
            plain_epoch(other.net, x, y, randoms[1], **how)

    times = compare(our_round, their_round, repeats, size.device)
    pairs = zip(problem.net.parameters(), other.net.parameters(), strict=True)
    found["difference_weights"] = max(difference(a, b) for a, b in pairs)
    each = [statistics.median(column) for column in zip(*parts[-repeats:], strict=True)]
    return {**times, **found, "parts": dict(zip(("real", "synthetic", "epochs"), each, strict=True))}


def compare(first: Callable[[], Any], second: Callable[[], Any], repeats: int, device: torch.device) -> dict[str, Any]:
    """Seconds of both, interleaved, after runs of each that are not counted; ratios are second over first."""
    times: tuple[list[float], list[float]] = ([], [])
    peaks: list[int | None] = []
    for function in (first, second):
        for _ in range(1 if device.type == "cpu" else UNCOUNTED):
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

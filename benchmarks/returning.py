"""``python -m benchmarks returning``: what a memory still knows of a class's first images once the class has come back with others."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from benchmarks.checks import among, at_least
from benchmarks.report.records import resume, write
from benchmarks.report.tables import text_table
from benchmarks.stream_kinds import condenser_of
from benchmarks.workers import each, processes
from ddreplay import Budget, ClassPool, CondensedMemory, ConvNet, evaluate
from ddreplay.data.pool import concatenate
from ddreplay.datasets import load
from ddreplay.evaluation import PROTOCOLS

__all__ = ["MEMORIES", "STAGES", "halves", "page_table", "returning", "run_cell"]

MEMORIES = ("ring", "herding", "condensed")
STAGES = ("before", "after", "each counted once", "new half alone", "both at once")
"""The first halves alone; once the second ones have come; the same, where a remembered image counts as one new image; the second halves,
remembering nothing; all images, which no stream shows together."""


def halves(pool: ClassPool, like: ClassPool) -> Bool[Tensor, " n"]:
    """Which images of a pool lie on the far side of their class: beyond its median along the first principal component of ``like``.

    Args:
        like: the training images of the same classes.
    """
    far = []
    for k in range(pool.classes):
        known = like.of_class(k).flatten(1)
        mean = known.mean(0)
        direction = torch.linalg.svd(known - mean, full_matrices=False).Vh[0]
        direction = direction * direction.sum().sign()  # which of the two signs is the machine's choice
        far.append((pool.of_class(k).flatten(1) - mean) @ direction > ((known - mean) @ direction).median())
    return torch.cat(far)


def returning(
    dataset: str = "digits",
    memories: tuple[str, ...] = MEMORIES,
    bytes_per_class: int = 340,
    seeds: int = 5,
    nets: int = 3,
    epochs: int = 100,
    workers: int = 1,
    out: Path = Path("results"),
) -> None:
    """Show all classes by halves that look different, and test new networks, trained on the memory alone, on each half.

    A half is one side of its class along the first principal component of its images; with every other seed the far side comes first.
    The memory of the first halves is condensed together with the second ones, in the same bytes.

    Args:
        dataset: digits, or another of `ddreplay.datasets.load`.
        memories: ring (real images, random), herding, condensed.
        bytes_per_class: of everything stored, before and after.
        seeds: memories and networks.
        nets: trained on each memory, of width 32.
        epochs: of training, without augmentation (dc2021).
        workers: processes; 0: one a core.
        out: folder of the record; cells that it has are not run again.
    """
    among("memories", memories, MEMORIES)
    at_least(1, bytes_per_class=bytes_per_class, seeds=seeds, nets=nets, epochs=epochs)
    at_least(0, workers=workers)
    protocol = {
        "dataset": dataset,
        "bytes_per_class": bytes_per_class,
        "nets": nets,
        "protocol": PROTOCOLS["dc2021"].scaled(epochs).name,
        "condenser": repr(condenser_of("condensed")),
    }
    path = out / f"returning_{Path(dataset).stem}.json"
    recording = resume(path, "returning", protocol)
    known = {(one["memory"], one["seed"], one["stage"]) for one in recording.results}
    cells = [(memory, seed, stage) for seed in range(seeds) for memory in memories for stage in STAGES]
    run = partial(run_cell, dataset, bytes_per_class, nets, epochs)
    for result in each(run, [cell for cell in cells if cell not in known], workers or processes()):
        recording.add(**result)
        write(recording.finish(), path)
    print(text_table(["memory", "tested on", *STAGES], _rows(recording.results)))


def run_cell(dataset: str, nbytes: int, nets: int, epochs: int, cell: tuple[str, int, str]) -> dict[str, Any]:
    """One memory with one seed at one stage: accuracy on each half, in percent."""
    memory, seed, stage = cell
    data, started = load(dataset), time.perf_counter()
    whole, tests = (data.pool(split, device="cpu") for split in ("train", "test"))
    old, new = _sides(whole, whole, seed)
    held = CondensedMemory(condenser_of(memory), Budget.bytes(nbytes), seed=seed)
    if stage in ("before", "after", "each counted once"):
        held.update(old)
    if stage == "each counted once":
        held.stands_for.clear()
    if stage != "before":
        held.update(concatenate([old, new]) if stage == "both at once" else new)
    how: dict[str, Any] = {"protocol": PROTOCOLS["dc2021"].scaled(epochs), "seeds": nets, "seed": seed}
    found = {
        half: evaluate(held.condensed, test, ConvNet(width=32), **how).mean
        for half, test in zip(("old", "new"), _sides(tests, whole, seed), strict=True)
    }
    spent = round(time.perf_counter() - started, 1)
    return {"memory": memory, "seed": seed, "stage": stage, **found, "nbytes": held.nbytes, "seconds": spent}


def _sides(pool: ClassPool, like: ClassPool, seed: int) -> tuple[ClassPool, ClassPool]:
    """The halves that come first and second."""
    far = halves(pool, like)
    first = far if seed % 2 else ~far
    return pool.subset(first.nonzero().flatten()), pool.subset((~first).nonzero().flatten())


def page_table(results: Sequence[dict[str, Any]]) -> str:
    """As docs/results.md has it."""
    lines = [["memory", "tested on", *STAGES], ["---"] * (2 + len(STAGES)), *_rows(results)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rows(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = []
    for memory in dict.fromkeys(one["memory"] for one in results):
        for half in ("old", "new"):
            by_stage = [
                [one[half] for one in results if (one["memory"], one["stage"]) == (memory, stage)] for stage in STAGES
            ]
            said = [f"{statistics.fmean(v):.1f} ({min(v):.1f}..{max(v):.1f})" if v else "-" for v in by_stage]
            rows.append([memory, f"{half} half", *said])
    return rows

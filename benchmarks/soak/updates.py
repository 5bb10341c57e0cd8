"""Hundreds of updates of one memory: its seconds, bytes and header must not grow with them."""

from __future__ import annotations

import gc
import resource
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.soak.samples import toy_pool
from ddreplay import Budget, CondensedMemory, ConvNet, dm
from ddreplay.methods import selections
from ddreplay.storage.codecs import uint8

__all__ = ["MEMORIES", "UpdateCounts", "update_often"]

MEMORIES: dict[str, tuple[Any, Budget]] = {
    "random, 2 images a class": (selections.random(), Budget.images(2)),
    "random, 6000 bytes in all": (selections.random(codec=uint8()), Budget.total_bytes(6000)),
    "dm, 1 image a class": (dm(ConvNet(width=8), steps=1), Budget.images(1)),
}


@dataclass(frozen=True)
class UpdateCounts:
    """Over the second and the last quarter of the updates.

    seconds: medians of an update, of the processor. header_nbytes: largest. resident: bytes of the process at their ends.
    """

    memory: str
    updates: int
    seconds: tuple[float, float]
    header_nbytes: tuple[int, int]
    resident: tuple[int, int]

    @property
    def flat(self) -> bool:
        """Whether the last quarter costs what the second does: within half as long again, 200 bytes of header and 32 MB."""
        early, late = self.seconds
        grown = self.header_nbytes[1] - self.header_nbytes[0], self.resident[1] - self.resident[0]
        return late < 1.5 * early + 0.001 and grown[0] < 200 and grown[1] < 2**25


def update_often(updates: int, memory: str, *, classes: int = 6) -> UpdateCounts:
    """Update a memory so many times, with two classes of a few that return again and again.

    Raises:
        ValueError: when there are too few updates for quarters.
    """
    if updates < 8:
        raise ValueError(f"updates must be at least 8, to compare quarters of them, got {updates}")
    condenser, budget = MEMORIES[memory]
    held, pool = CondensedMemory(condenser, budget), toy_pool(classes=classes)
    seconds, headers, resident = [], [], []
    for k in range(updates):
        started = time.process_time()
        held.update(pool.select([k % classes, (k + 1) % classes]))
        seconds.append(time.process_time() - started)
        headers.append(held.condensed.header_nbytes)
        if k in (updates // 2 - 1, updates - 1):
            gc.collect()
            resident.append(_resident())
    early, late = slice(updates // 4, updates // 2), slice(3 * updates // 4, updates)
    return UpdateCounts(
        memory,
        updates,
        (statistics.median(seconds[early]), statistics.median(seconds[late])),
        (max(headers[early]), max(headers[late])),
        (resident[0], resident[1]),
    )


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

"""``python -m benchmarks soak``: kills, hostile files and hundreds of updates, counted."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.checks import at_least
from benchmarks.report.records import resume, write
from benchmarks.report.tables import format_bytes, text_table
from benchmarks.soak.children import in_child
from benchmarks.soak.hostile import Counts, read_files
from benchmarks.soak.kills import KillCounts, kill_runs
from benchmarks.soak.updates import MEMORIES, UpdateCounts, update_often

__all__ = ["soak"]

FRESH_EVERY = 25
"""One in so many runs is of whole interpreters; with eleven runs in turn, each of them comes to it."""


def soak(
    minutes: float = 5.0,
    kills: int = 200,
    files: int = 2000,
    updates: int = 200,
    seed: int = 0,
    out: Path = Path("results"),
) -> None:
    """Kill runs at random moments, read damaged and forged files, update a memory hundreds of times; say what was not as it should be.

    Kills get at most half of the minutes, and files the rest; updates come after and take what they take. Where a record of the same
    settings stands, kills are counted on from it, and files that were read are not read again.

    Args:
        minutes: after which no new run or file is begun.
        kills: processes to kill at work, by SIGKILL, over methods and budgets; each run must end with the bits of one left alone.
        files: damaged and forged sets, checkpoints, states, archives and pictures, each read within a gigabyte and 20 seconds.
        updates: of every memory, whose seconds, header and resident size are to stay flat.
        seed: of moments and damages.
        out: folder of the record.
    Raises:
        ValueError: when something was not as it should be; the record is written before.
    """
    at_least(0, minutes=minutes, kills=kills, files=files)
    torch.set_num_threads(1)  # children are forks, in which threads of the parent are missing
    protocol = {"minutes": minutes, "kills": kills, "files": files, "updates": updates, "seed": seed}
    parts, started = Parts(out / "soak.json", protocol), time.monotonic()
    logging.getLogger("ddreplay").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        killed = KillCounts(**parts.found("kills"))
        until = started + 30 * minutes - killed.seconds
        how: dict[str, Any] = {"seed": seed, "until": until, "fresh_every": FRESH_EVERY, "counts": killed}
        kill_runs(Path(folder), kills, **how, on_run=lambda counts: parts.put("kills", asdict(counts)))
        parts.put("kills", asdict(killed))
        _say_kills(killed)
        read = Counts(**parts.found("files"))
        if not read.files:
            read_files(Path(folder) / "files", files, seed=seed, until=started + 60 * minutes, counts=read)
            parts.put("files", asdict(read))
        _say_files(read)
        often = [in_child(partial(update_often, updates, memory)) for memory in MEMORIES] if updates else []
        parts.put("updates", *({**asdict(one), "flat": one.flat} for one in often))
        _say_updates(often)
    print(f"{time.monotonic() - started:.0f} seconds; record: {parts.path}")
    wrong = killed.failures + read.failures + sum(not one.flat for one in often)
    if wrong:
        raise ValueError(f"{wrong} things were not as they should be; the record says which")


class Parts:
    """The parts of a record, written as soon as one is known better; a second run of the same command goes on from them."""

    def __init__(self, path: Path, protocol: dict[str, Any]) -> None:
        self.path, self.recording = path, resume(path, "soak", protocol)

    def found(self, part: str) -> dict[str, Any]:
        """What an earlier run counted."""
        kept = [one for one in self.recording.results if one["part"] == part]
        return {name: value for name, value in kept[0].items() if name != "part"} if kept else {}

    def put(self, part: str, *counts: dict[str, Any]) -> None:
        others = [one for one in self.recording.results if one["part"] != part]
        self.recording.results[:] = [*others, *({"part": part, **one} for one in counts)]
        write(self.recording.finish(), self.path)


def _say_kills(killed: KillCounts) -> None:
    print(
        f"{killed.kills} kills in {killed.runs} runs, {killed.fresh} of whole interpreters: {killed.same} runs ended with the same bits, "
        f"{killed.failed} starts failed, {killed.leftovers} files were left behind; {killed.seconds:.0f} s"
    )


def _row(values: tuple[float, float], scale: float, digits: int) -> list[float]:
    return [round(scale * value, digits) for value in values]


def _grown(resident: tuple[int, int]) -> str:
    return format_bytes(max(0, resident[1] - resident[0]))


def _say_updates(often: Sequence[UpdateCounts]) -> None:
    if often:
        heads = ["memory", "ms early", "ms late", "header early", "header late", "resident grew"]
        print(
            text_table(
                heads,
                [
                    [o.memory, *map(str, _row(o.seconds, 1000, 2)), *map(str, o.header_nbytes), _grown(o.resident)]
                    for o in often
                ],
            )
        )


def _say_files(read: Counts) -> None:
    print(
        f"{read.files} files: {read.refused} refused in the package's words, {read.read} read and sound, {read.unnoticed} unnoticed, "
        f"{read.foreign} other errors, {read.slow} too slow, {read.killed} ended the process, {read.wrote} wrote something, "
        f"{read.changed} changed a memory; at most {read.seconds:.1f} s and {format_bytes(read.memory)} for one"
    )
    for example in read.examples:
        print(f"  {example}")

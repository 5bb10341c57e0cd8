"""``python -m benchmarks soak``: kills, hostile files and hundreds of updates, counted."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from benchmarks.checks import at_least
from benchmarks.report.records import begin, write
from benchmarks.report.tables import format_bytes, text_table
from benchmarks.soak.children import in_child
from benchmarks.soak.hostile import Counts, read_files
from benchmarks.soak.kills import kill_runs
from benchmarks.soak.updates import MEMORIES, update_often

__all__ = ["soak"]


def soak(
    minutes: float = 5.0,
    kills: int = 200,
    files: int = 2000,
    updates: int = 200,
    seed: int = 0,
    out: Path = Path("results"),
) -> None:
    """Kill runs at random moments, read damaged and forged files, update a memory hundreds of times; say what was not as it should be.

    Kills get at most half of the minutes, and files the rest; updates come after and take what they take.

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
    recording, started = begin("soak", protocol), time.monotonic()
    logging.getLogger("ddreplay").setLevel(logging.WARNING)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        killed = kill_runs(Path(folder), kills, seed=seed, until=started + 30 * minutes)
        recording.add(part="kills", **asdict(killed))
        wrong += killed.failures
        print(
            f"{killed.kills} kills in {killed.runs} runs: {killed.same} ended with the same bits, {killed.failed} starts failed, "
            f"{killed.leftovers} files were left behind"
        )
        read = read_files(Path(folder) / "files", files, seed=seed, until=started + 60 * minutes)
        recording.add(part="files", **asdict(read))
        wrong += read.failures
        _say_files(read)
        often = [in_child(partial(update_often, updates, memory)) for memory in MEMORIES] if updates else []
        for one in often:
            recording.add(part="updates", **asdict(one), flat=one.flat)
            wrong += not one.flat
        _say_updates(
            [
                [o.memory, *map(str, _row(o.seconds, 1000, 2)), *map(str, o.header_nbytes), _grown(o.resident)]
                for o in often
            ]
        )
    record = write(recording.finish(), out / "soak.json")
    print(f"{time.monotonic() - started:.0f} seconds; record: {record}")
    if wrong:
        raise ValueError(f"{wrong} things were not as they should be; the record says which")


def _row(values: tuple[float, float], scale: float, digits: int) -> list[float]:
    return [round(scale * value, digits) for value in values]


def _grown(resident: tuple[int, int]) -> str:
    return format_bytes(max(0, resident[1] - resident[0]))


def _say_updates(rows: list[list[str]]) -> None:
    if rows:
        heads = ["memory", "ms early", "ms late", "header early", "header late", "resident grew"]
        print(text_table(heads, rows))


def _say_files(read: Counts) -> None:
    print(
        f"{read.files} files: {read.refused} refused in the package's words, {read.read} read and sound, {read.unnoticed} unnoticed, "
        f"{read.foreign} other errors, {read.slow} too slow, {read.killed} ended the process, {read.wrote} wrote something, "
        f"{read.changed} changed a memory; at most {read.seconds:.1f} s and {format_bytes(read.memory)} for one"
    )
    for example in read.examples:
        print(f"  {example}")

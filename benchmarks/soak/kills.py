"""Runs that are killed at random moments, again and again, and must end with the bits of one that was left alone."""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.soak.samples import toy_pool
from ddreplay import Budget, CondensedMemory, ConvNet, methods
from ddreplay.methods import selections
from ddreplay.networks import Banked, ModelQueue
from ddreplay.storage.files import read_whole, write_atomically
from ddreplay.storage.sealed import read_state

__all__ = ["RUNS", "KillCounts", "kill_runs"]

NET = ConvNet(width=8)
QUEUE = ModelQueue(train_steps=1, batch_size=8, push_interval=2, size=3, meter_interval=2)


@dataclass
class KillCounts:
    """kills: processes that were killed at work. runs: those that came to their end. same: of them, with the bits of an uninterrupted one.

    leftovers: files beside the checkpoint at the end, which none should be. failed: starts that ended with an error.
    """

    kills: int = 0
    runs: int = 0
    same: int = 0
    leftovers: int = 0
    failed: int = 0
    by_run: dict[str, int] = field(default_factory=dict)

    @property
    def failures(self) -> int:
        """Everything that must not be."""
        return self.runs - self.same + self.leftovers + self.failed


Run = Callable[[Path], torch.Tensor]
"""Goes on from what the folder holds, and gives the images."""


def condensing(method: Any, budget: Budget | int) -> Run:
    """A condensation with a checkpoint after every step."""

    def run(folder: Path) -> torch.Tensor:
        images: torch.Tensor = (
            method(toy_pool(), budget, seed=3, checkpoint=folder / "ck", checkpoint_every=1).images().x
        )
        return images

    return run


def stream(condenser: Any, budget: Budget) -> Run:
    """A memory over a stream of updates, whose state is kept after each."""

    def run(folder: Path) -> torch.Tensor:
        memory, pool, path = CondensedMemory(condenser, budget, seed=5), toy_pool(classes=6), folder / "ck"
        if path.exists():
            memory.load_state_dict(read_state(read_whole(path), "the memory"))
        for classes in ([0, 1], [2, 3], [1, 4], [5], [0, 5])[len(memory.seconds) :]:
            memory.update(pool.select(classes))
            content = io.BytesIO()
            torch.save(memory.state_dict(), content)
            write_atomically(path, content.getvalue())
        return memory.batch().x

    return run


RUNS: dict[str, Run] = {
    "dm, 2 images": condensing(methods.dm(NET, steps=12), 2),
    "dm, 700 bytes": condensing(methods.dm(NET, steps=8, networks=Banked(size=3, trained=2)), Budget.bytes(700)),
    "dc, 2 images": condensing(methods.dc(NET, rounds=4, loops=(2, 1)), 2),
    "idm, 2 images": condensing(methods.idm(NET, steps=8, weight=0.01, networks=QUEUE), 2),
    "dcc, 2000 bytes in all": condensing(methods.dcc(NET, rounds=4, loops=(2, 1)), Budget.total_bytes(2000)),
    "mtt, 2 images": condensing(
        methods.mtt(NET, iterations=6, steps=2, latest_start=1, segment=1, experts=1, lr=1.0, inner_lr=0.01), 2
    ),
    "a stream of herding, 900 bytes a class": stream(selections.herding(NET, epochs=1), Budget.bytes(900)),
    "a stream of dm, 4000 bytes in all": stream(methods.dm(NET, steps=2), Budget.total_bytes(4000)),
}
"""Methods over budgets. With budgets in bytes, the number of images is chosen before, and kept."""


def kill_runs(
    folder: Path, kills: int, *, seed: int = 0, until: float | None = None, runs: dict[str, Run] = RUNS
) -> KillCounts:
    """Kill runs, in turn, until so many processes were killed at work.

    Args:
        until: a reading of ``time.monotonic`` after which no new run begins.
    """
    counts, draw = KillCounts(), random.Random(seed)
    alone: dict[str, tuple[str, float]] = {}
    for name, run in runs.items():
        started = time.monotonic()
        if _wait(_start(run, _fresh(folder))) != 0:
            raise RuntimeError(f"{name} does not run to its end even where nothing kills it")
        alone[name] = (folder / "work" / "result").read_text(), time.monotonic() - started
    turn = 0
    while counts.kills < kills and (until is None or time.monotonic() < until):
        name = list(runs)[turn % len(runs)]
        turn += 1
        before = counts.kills
        _one(folder, runs[name], *alone[name], draw, counts, kills, until)
        counts.by_run[name] = counts.by_run.get(name, 0) + counts.kills - before
    return counts


def _one(
    folder: Path,
    run: Run,
    expected: str,
    seconds: float,
    draw: random.Random,
    counts: KillCounts,
    kills: int,
    until: float | None,
) -> None:
    """One run from its beginning to its end, through kills; lives get longer, so that it ends where the machine is busy too."""
    work = _fresh(folder)
    while True:
        child = _start(run, work)
        if counts.kills < kills and (until is None or time.monotonic() < until):
            time.sleep(draw.random() * seconds)
            seconds *= 1.1
            os.kill(child, signal.SIGKILL)
        status = _wait(child)
        if status == -signal.SIGKILL:
            counts.kills += 1
            continue
        if status != 0:
            counts.failed += 1
            return
        break
    counts.runs += 1
    counts.same += (work / "result").read_text() == expected
    counts.leftovers += len({path.name for path in work.iterdir()} - {"ck", "result"})


def _fresh(folder: Path) -> Path:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    for path in work.iterdir():
        path.unlink()
    return work


def _start(run: Run, work: Path) -> int:
    """The run in a child of this process, which writes a digest of its images at the end."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            digest = hashlib.sha256(run(work).contiguous().numpy().tobytes()).hexdigest()
            write_atomically(work / "result", digest.encode())
            code = 0
        finally:
            os._exit(code)
    return child


def _wait(child: int) -> int:
    """Its exit code; where a signal ended it, the negative of that."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

"""Runs that are killed at random moments, again and again, and must end with the bits of one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.soak.runs import RUNS, Run, come_to_end

__all__ = ["KillCounts", "kill_runs"]

IMPORTING = 6.0
"""Seconds that a new interpreter takes longer, until there is something to lose."""


@dataclass
class KillCounts:
    """kills: processes that were killed at work. runs: those that came to their end. same: of them, with the bits of an uninterrupted one.

    fresh: of the kills, those of whole interpreters, often while they import. leftovers: files beside the checkpoint at the end, which none
    should be. failed: starts that ended with an error. seconds: on the clock.
    """

    kills: int = 0
    fresh: int = 0
    runs: int = 0
    same: int = 0
    leftovers: int = 0
    failed: int = 0
    seconds: float = 0.0
    by_run: dict[str, int] = field(default_factory=dict)

    def note(self, work: Path, status: int, expected: str) -> None:
        """How a run ended: the exit code of its last process, and what stands in its folder."""
        if status != 0:
            self.failed += 1
            return
        self.runs += 1
        self.same += (work / "result").read_text() == expected
        self.leftovers += len({path.name for path in work.iterdir()} - {"ck", "result"})

    @property
    def failures(self) -> int:
        """Everything that must not be."""
        return self.runs - self.same + self.leftovers + self.failed


def kill_runs(
    folder: Path,
    kills: int,
    *,
    seed: int = 0,
    until: float | None = None,
    runs: Mapping[str, Run] = RUNS,
    fresh_every: int = 0,
    counts: KillCounts | None = None,
    on_run: Callable[[KillCounts], None] | None = None,
) -> KillCounts:
    """Kill runs, in turn, until so many processes were killed at work.

    Each run is done here before, which tells the bits that it must end with, and imports all that it needs: the processes that are
    killed are forks of this one, which begin to work at once. One that imports torch has nothing to lose for seconds.

    Args:
        seed: of the moments.
        until: a reading of ``time.monotonic`` after which no new run begins.
        fresh_every: every so manieth run is of whole interpreters, which import everything anew, and must end with the same bits; 0: none.
        counts: what is counted on, of an earlier call.
        on_run: is told the counts after every run.
    """
    counts = KillCounts() if counts is None else counts
    alone: dict[str, tuple[str, float]] = {}
    started = time.monotonic()
    while counts.kills < kills and (until is None or time.monotonic() < until):
        turn = counts.runs + counts.failed
        name = list(runs)[turn % len(runs)]
        fresh = fresh_every > 0 and turn % fresh_every == fresh_every - 1
        if name not in alone:
            alone[name] = _alone(runs[name], folder)
        expected, seconds = alone[name]
        start = partial(_interpreter, name) if fresh else partial(_fork, runs[name])
        lives = _lives(seconds + IMPORTING * fresh, kills - counts.kills, random.Random(f"{seed} {turn}"))
        killed, status = _killed(start, _emptied(folder), lives)
        counts.kills += killed
        counts.fresh += killed * fresh
        counts.by_run[name] = counts.by_run.get(name, 0) + killed
        counts.note(folder / "work", status, expected)
        counts.seconds, started = counts.seconds + time.monotonic() - started, time.monotonic()
        if on_run is not None:
            on_run(counts)
    return counts


def _alone(run: Run, folder: Path) -> tuple[str, float]:
    """The digest of a run that nothing kills, and its seconds once everything is imported."""
    come_to_end(run, _emptied(folder))
    started, work = time.monotonic(), _emptied(folder)
    come_to_end(run, work)
    return (work / "result").read_text(), time.monotonic() - started


def _lives(seconds: float, most: int, draw: random.Random) -> Iterator[float]:
    """Seconds until a process is killed; they get longer, so that a run ends where the machine is busy too."""
    for k in range(most):
        yield draw.random() * seconds * 1.1**k


def _killed(start: Callable[[Path], int], work: Path, lives: Iterator[float]) -> tuple[int, int]:
    """One run from its beginning to its end: how many of its processes were killed, and the exit code of the last."""
    killed = 0
    while True:
        child, life = start(work), next(lives, None)
        if life is not None:
            time.sleep(life)
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != -signal.SIGKILL:
            return killed, status
        killed += 1


def _emptied(folder: Path) -> Path:
    work = folder / "work"
    work.mkdir(exist_ok=True)
    for path in work.iterdir():
        path.unlink()
    return work


def _fork(run: Run, work: Path) -> int:
    """The run in a fork of this process: its number."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            come_to_end(run, work)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def _interpreter(name: str, work: Path) -> int:
    """The run in a new interpreter: its number."""
    code = f"from benchmarks.soak.runs import RUNS, come_to_end; come_to_end(RUNS[{name!r}], {str(work)!r})"
    return os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)

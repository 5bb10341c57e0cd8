"""Thousands of damaged and forged files, each read in a child process within a gigabyte and some seconds."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from benchmarks.soak.children import in_child
from benchmarks.soak.forging import damaged, forged_checkpoint, forged_npz, forged_set, forged_state
from benchmarks.soak.samples import METHOD, bombs, sound_files, toy_pool
from ddreplay import CondensedMemory, CondensedSet
from ddreplay.datasets import load
from ddreplay.methods import selections
from ddreplay.storage.codecs import CodecUnavailable
from ddreplay.storage.sealed import read_state

__all__ = ["KINDS", "Counts", "Kind", "read_files"]

GIGABYTE = 2**30
PATIENCE = 10
"""How many times `SECONDS` may pass on the clock, where other work keeps a child from the processor."""

SECONDS = 20.0
"""Of the processor, that one file may take; most take milliseconds."""

OURS = (ValueError, TypeError, OSError, CodecUnavailable, FloatingPointError)
BATCH = 200  # files of a child process


@dataclass(frozen=True)
class Kind:
    """A kind of file. read: what a user does with it; raises, or returns what must be finite. forge: makes a wrong one of a sound one.

    sealed: a changed byte must be noticed.
    """

    name: str
    read: Callable[[Path], Any]
    forge: Callable[[bytes, random.Random], bytes]
    sealed: bool


@dataclass
class Counts:
    """What became of the files.

    refused: by an error of the package. read: without an error, with finite images. unnoticed: changed bytes under a checksum that
    were read. foreign: other errors. slow, killed: took more than `SECONDS`, or ended the process. wrote: files where none should be.
    changed: memories that a refused state changed. seconds: of the slowest file. memory: bytes above the start, at most.
    """

    files: int = 0
    refused: int = 0
    read: int = 0
    unnoticed: int = 0
    foreign: int = 0
    slow: int = 0
    killed: int = 0
    wrote: int = 0
    changed: int = 0
    seconds: float = 0.0
    memory: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    @property
    def failures(self) -> int:
        """Everything that must not be."""
        return self.unnoticed + self.foreign + self.slow + self.killed + self.wrote + self.changed

    def note(self, kind: str, outcome: str, seconds: float, memory: int, message: str) -> None:
        """One file."""
        self.files += 1
        setattr(self, outcome, getattr(self, outcome) + 1)
        self.by_kind[f"{kind} {outcome}"] = self.by_kind.get(f"{kind} {outcome}", 0) + 1
        self.seconds, self.memory = max(self.seconds, seconds), max(self.memory, memory)
        if outcome not in ("refused", "read") and len(self.examples) < 50:
            self.examples.append(f"{kind} {outcome}: {message}"[:400])


class MemoryChanged(Exception):
    """A state that was refused has left traces."""


def _read_set(path: Path) -> Any:
    found = CondensedSet.load(path)
    return found.images().x if found.parts else None


def _read_checkpoint(path: Path) -> Any:
    return METHOD(toy_pool(), 2, checkpoint=path).images().x


def _read_memory(path: Path) -> Any:
    memory = CondensedMemory(selections.random(), 2)
    memory.update(toy_pool())
    before = memory.condensed.to_bytes(), memory.budget, list(memory.seconds)
    try:
        memory.load_state_dict(read_state(path.read_bytes(), path.name))
    except BaseException:
        if (memory.condensed.to_bytes(), memory.budget, list(memory.seconds)) != before:
            raise MemoryChanged from None
        raise
    return memory.batch().x if memory.condensed.parts else None


def _read_buffer(path: Path) -> Any:
    from ddreplay.avalanche import CondensedBuffer

    buffer = CondensedBuffer(images_per_class=2, condenser=selections.random())
    buffer.load_state_dict(read_state(path.read_bytes(), path.name))
    return torch.stack([sample[0] for sample in buffer.buffer]) if len(buffer.buffer) else None


def _read_npz(path: Path) -> Any:
    data = load(path)
    return data.train_images


def _read_folder(path: Path) -> Any:
    return load(path.parent.parent).train_images


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("set.safetensors", _read_set, forged_set, True),
        Kind("checkpoint.ck", _read_checkpoint, forged_checkpoint, True),
        Kind("memory.pt", _read_memory, forged_state, False),
        Kind("buffer.pt", _read_buffer, forged_state, False),
        Kind("data.npz", _read_npz, forged_npz, False),
        Kind("picture.png", _read_folder, damaged, False),
    )
}


def read_files(
    folder: Path,
    files: int,
    *,
    seed: int = 0,
    until: float | None = None,
    counts: Counts | None = None,
    with_bombs: bool = True,
) -> Counts:
    """Make and read so many files, and the bombs before them, in children of this process.

    Args:
        until: a reading of ``time.monotonic`` after which no new batch begins.
        counts: what is counted on.
    """
    import_module("ddreplay.avalanche")  # before children begin, who would each import it while they are timed
    folder.mkdir(exist_ok=True)
    counts, sound = Counts() if counts is None else counts, in_child(sound_files)
    queue: list[tuple[str, bytes | int]] = list(bombs(sound)) if with_bombs else []
    queue += [(kind, seed + k) for k, kind in zip(range(files), _turns(), strict=False)]
    while queue and (until is None or time.monotonic() < until):
        done = _batch(folder, queue[:BATCH], sound, counts)
        queue = queue[done:]
    return counts


def _turns() -> Iterator[str]:
    """Sets as often as all others together."""
    others = [name for name in KINDS if name != "set.safetensors"]
    while True:
        for name in others:
            yield "set.safetensors"
            yield name


def _batch(folder: Path, jobs: list[tuple[str, bytes | int]], sound: dict[str, list[bytes]], counts: Counts) -> int:
    """Read them in one child; where one ends it, or takes too long, those after it are left. How many were done."""
    results = folder / "results"
    results.unlink(missing_ok=True)
    results.touch()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _work(folder, jobs, sound, results)
            code = 0
        finally:
            os._exit(code)
    ended, seen, since, spent = False, 0, time.monotonic(), 0.0
    while not ended:
        ended = os.waitpid(child, os.WNOHANG)[0] == child
        found = results.read_bytes().count(b"\n")
        if found > seen:
            seen, since, spent = found, time.monotonic(), _processor_seconds(child)
        busy, waited = _processor_seconds(child) - spent, time.monotonic() - since
        if not ended and (busy > SECONDS or waited > PATIENCE * SECONDS):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            ended = True
            counts.note(jobs[seen][0], "slow", SECONDS, 0, f"job {jobs[seen][1]!r:.60}")
            break
        time.sleep(0.002)
    else:
        seen = results.read_bytes().count(b"\n")
        if seen < len(jobs):
            counts.note(jobs[seen][0], "killed", 0.0, 0, f"job {jobs[seen][1]!r:.60}")
    for line in results.read_text().splitlines()[:seen]:
        counts.note(**json.loads(line))
    return min(len(jobs), seen + 1)


def _processor_seconds(child: int) -> float:
    """What a child has spent so far; 0 where it is over."""
    try:
        words = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _work(folder: Path, jobs: list[tuple[str, bytes | int]], sound: dict[str, list[bytes]], results: Path) -> None:
    """In the child."""
    for name in ("elsewhere", "picture/one", "picture/two"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "picture/two/sound.png").write_bytes(sound["picture.png"][0])
    (folder / "picture/one/sound.png").write_bytes(sound["picture.png"][0])
    os.chdir(folder / "elsewhere")
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + GIGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with open(results, "a", encoding="utf-8") as file:
        for name, job in jobs:
            file.write(json.dumps(_one(folder, KINDS[name], job, sound[name])) + "\n")
            file.flush()


def _one(folder: Path, kind: Kind, job: bytes | int, sound: list[bytes]) -> dict[str, Any]:
    path, changed = folder / kind.name, False
    if kind.name == "picture.png":
        path = folder / "picture/one" / kind.name
    if isinstance(job, bytes):
        content = job
    else:
        draw = random.Random(job)
        content = draw.choice(sound)
        changed = draw.randrange(2) == 0 or kind.forge is damaged
        content = damaged(content, draw) if changed else kind.forge(content, draw)
        changed = changed and content not in sound
    path.write_bytes(content)
    before = set(folder.rglob("*"))
    started, start = time.perf_counter(), _resident()
    outcome, message = "read", ""
    try:
        found = kind.read(path)
        if changed and kind.sealed:
            outcome, message = "unnoticed", f"job {job!r:.60}"
        elif found is not None and not bool(torch.isfinite(found.float()).all()):
            outcome, message = "foreign", f"images are not finite, job {job!r:.60}"
    except MemoryChanged:
        outcome, message = "changed", f"job {job!r:.60}"
    except BaseException as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        ours = isinstance(error, OURS) and f"{os.sep}ddreplay{os.sep}" in at.filename
        outcome = "refused" if ours else "foreign"
        message = f"{type(error).__name__}: {error} in {Path(at.filename).name}:{at.lineno}, job {job!r:.60}"
    seconds, memory = time.perf_counter() - started, _resident() - start
    if set(folder.rglob("*")) - before:
        outcome, message = "wrote", str(set(folder.rglob("*")) - before)
    path.unlink(missing_ok=True)
    return {"kind": kind.name, "outcome": outcome, "seconds": seconds, "memory": max(0, memory), "message": message}


def _resident() -> int:
    """The largest resident size so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

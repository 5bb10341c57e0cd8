"""A result is a record: what ran, on what, with which versions, and what came out for every seed.

recording = begin("gdumb", {"data": "cifar10", "images_per_class": 10})
for seed in range(5):
    recording.add(seed=seed, accuracy=...)
write(recording.finish(nbytes=memory.nbytes), folder / "gdumb.json")
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.backends import cores

__all__ = ["Record", "Recording", "begin", "device_description", "read", "refused", "resume", "write"]

FORMAT = 1


_PACKAGES = {"numpy": "numpy", "avalanche": "avalanche-lib", "ddreplay": "ddreplay"}


# an absolute path, one under the home folder, or one that climbs out of the working directory
_PATH = re.compile(r"""(?<![\w./:~\\])(?:~|[A-Za-z]:|\.\.)?[/\\](?=[^\s/\\])[^\s'",;()\[\]{}<>|]+""")


@dataclass(frozen=True)
class Record:
    """One run of a benchmark, in plain JSON values; paths are reduced to file names wherever they appear.

    Attributes:
        benchmark: its name on the command line.
        protocol: every setting that decides the numbers, the data's normalisation included.
        command: the command line.
        commit: of the repository, with ``-dirty`` where tracked files were changed; None outside a repository.
        versions: of python, torch, numpy, avalanche and ddreplay.
        device: the processor or GPU in words.
        threads: of torch, on the CPU.
        results: a dictionary for every seed (or every measurement).
        seconds: wall time from ``begin`` to ``finish``.
        peak_memory: bytes; the largest resident size of the process up to the end; None where it is unknown.
        peak_cuda_memory: bytes allocated on the GPU at most; None without one.
        nbytes: bytes that the memory stores; None where nothing is stored.
    """

    benchmark: str
    protocol: dict[str, Any]
    command: str
    commit: str | None
    versions: dict[str, str]
    device: str
    threads: int
    results: list[dict[str, Any]]
    seconds: float
    peak_memory: int | None = None
    peak_cuda_memory: int | None = None
    nbytes: int | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        for name in (part.name for part in fields(self)):
            object.__setattr__(self, name, _plain(getattr(self, name), name))

    def values(self, key: str) -> list[Any]:
        """``key`` of every result, in the order of the results.

        Raises:
            KeyError: if a result lacks it.
        """
        missing = [k for k, result in enumerate(self.results) if key not in result]
        if missing:
            raise KeyError(
                f"results {missing} of {self.benchmark!r} have no {key!r}; they have {sorted(self.results[missing[0]])}"
            )
        return [result[key] for result in self.results]


@dataclass
class Recording:
    """A run under way; ``begin`` makes it."""

    benchmark: str
    protocol: dict[str, Any]
    device: torch.device
    started: float
    results: list[dict[str, Any]] = field(default_factory=list)

    def add(self, **result: Any) -> None:
        """The result of one seed: ``add(seed=0, accuracy=0.43)``."""
        self.results.append(result)

    def finish(self, *, nbytes: int | None = None) -> Record:
        """The record up to now; may be called again later, for the record of a longer run."""
        return Record(
            benchmark=self.benchmark,
            protocol=self.protocol,
            command=_command(sys.argv),
            commit=_commit(Path(__file__).resolve().parent),
            versions=_versions(),
            device=device_description(self.device),
            threads=torch.get_num_threads(),
            results=list(self.results),
            seconds=time.perf_counter() - self.started,
            peak_memory=_peak_memory(),
            peak_cuda_memory=torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None,
            nbytes=nbytes,
        )


def begin(benchmark: str, protocol: dict[str, Any], *, device: torch.device | str = "cpu") -> Recording:
    """Start the clock and the GPU's memory peak."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return Recording(benchmark, dict(protocol), device, time.perf_counter())


def resume(
    path: str | Path,
    benchmark: str,
    protocol: dict[str, Any],
    *,
    device: torch.device | str = "cpu",
    growing: Sequence[str] = (),
) -> Recording:
    """A recording that goes on from the record at ``path``, where there is one; its seconds are counted on.

    Args:
        growing: Settings that hold an entry for every row, memory or data set: what both runs have must be alike, and the recording
            has what either has.
    Raises:
        ValueError: if that is the record of a run with other settings.
    """
    recording = begin(benchmark, protocol, device=device)
    if not Path(path).is_file():
        return recording
    earlier, wanted = read(path), _plain(protocol, "protocol")
    changed = [] if earlier.benchmark == benchmark else [f"benchmark {earlier.benchmark!r}, now {benchmark!r}"]
    for name in dict.fromkeys((*wanted, *earlier.protocol)):
        known, now = (of.get(name, "(not said)") for of in (earlier.protocol, wanted))
        if name not in growing:
            changed += [] if known == now else [f"{name} {known!r}, now {now!r}"]
            continue
        known, now = ({} if of == "(not said)" else of for of in (known, now))
        changed += [f"{name} of {n} {known[n]!r}, now {now[n]!r}" for n in now if n in known and known[n] != now[n]]
        recording.protocol[name] = {**known, **now}
    if changed:
        raise refused(path, changed)
    recording.results += earlier.results
    recording.started -= earlier.seconds
    return recording


def refused(path: str | Path, changed: Sequence[str]) -> ValueError:
    """The error of a run that cannot go on from a record, because this has changed."""
    return ValueError(
        f"{Path(path).name} is the record of another run, with other settings: {'; '.join(changed)}; give its settings, or write "
        "another record with --out (or --name, where there is one)"
    )


def write(record: Record, path: str | Path) -> Path:
    """Write the record as JSON; a reader sees the old file or the whole new one. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(record), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def read(path: str | Path) -> Record:
    """A record from its file.

    Raises:
        ValueError: if the file holds no record of this format.
    """
    path = Path(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path.name} is no record of format {FORMAT}; it was written by another version or program")
    known, found = {part.name for part in fields(Record)}, set(content)
    if known != found:
        raise ValueError(
            f"{path.name} is no record: fields missing {sorted(known - found)}, unknown {sorted(found - known)}"
        )
    return Record(**content)


def device_description(device: torch.device | str = "cpu") -> str:
    """The GPU's name, or the processor's and how many cores the process may use."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = re.findall(
            r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        model = names[0].strip() if names else model
    return f"{model}, {cores()} cores"


def _plain(value: Any, where: str) -> Any:
    """JSON values; a number that is not finite becomes the string 'nan', 'inf' or '-inf', which JSON can keep."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Path):
        return value.name
    if isinstance(value, str):
        return _PATH.sub(lambda match: re.split(r"[/\\]", match[0].rstrip("/\\"))[-1], value)
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{k}]") for k, item in enumerate(value)]
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return _plain(value.tolist(), where)
    raise TypeError(
        f"{where} must be a JSON value, a path, an array or a tensor, got {type(value).__name__}: {value!r}"
    )


def _command(argv: list[str]) -> str:
    program = Path(argv[0])
    start = f"python -m {program.parent.name}" if program.name == "__main__.py" else f"python {program.name}"
    return " ".join([start, *(shlex.quote(_argument(text)) for text in argv[1:])])


def _argument(text: str) -> str:
    """Like ``_plain``, for one argument: here a path may hold spaces."""
    option, equals, value = text.partition("=") if text.startswith("-") else ("", "", text)
    if Path(value).is_absolute() or value.startswith(("~", "..")):
        value = Path(value).name
    return option + equals + value


def _commit(folder: Path) -> str | None:
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=folder, capture_output=True, check=False)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("-dirty" if changed.returncode else "")


def _versions() -> dict[str, str]:
    # torch says of itself which build it is (+cpu, +cu132), which its package metadata may leave out
    found = {"python": platform.python_version(), "torch": str(torch.__version__)}
    for name, package in _PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _peak_memory() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak

"""What the command line says while it works, and how it stops."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ddreplay.stopping import StopRequested

if TYPE_CHECKING:
    from ddreplay.condense.condenser import Progress

__all__ = ["Bars", "check_writable", "epochs_bar", "exit_codes", "printable", "report", "say"]

_PHASES = {
    "images": ("choosing how many images", "numbers"),
    "bank": ("networks", "networks"),
    "steps": ("images", "steps"),
    "ranking": ("ranking real images", "epochs"),
}


class Terminated(BaseException):
    """The process was asked to end."""


class Bars:
    """A bar for every phase of a condensation, one under the other, on the standard error stream.

    Phases may take turns: networks of a bank are made when they are first looked at.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self._bars: dict[str, Any] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()

    def __call__(self, progress: Progress) -> None:
        if progress.phase not in self._bars:
            words, unit = _PHASES[progress.phase]
            how: dict[str, Any] = {"disable": self.quiet, "file": sys.stderr, "position": len(self._bars)}
            self._bars[progress.phase] = tqdm(desc=words, unit=f" {unit}", **how)
        bar = self._bars[progress.phase]
        bar.total = progress.total
        bar.update(progress.done - bar.n)


@contextmanager
def epochs_bar(name: str, total: int, *, quiet: bool) -> Iterator[Callable[[], Any]]:
    """A bar with the time left for the training of networks; what it gives is called after every epoch."""
    with tqdm(total=total, desc=f"networks on {name}", unit=" epochs", disable=quiet, file=sys.stderr) as bar:
        yield bar.update


def check_writable(path: Path) -> None:
    """Make the folder of a file that is to be written, and try it.

    Raises:
        OSError: when a file cannot be written there.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} cannot be written: it is a folder; give the name of a file in it")
    if path.exists() and not path.is_file():
        raise OSError(f"{path} cannot be written: it is a pipe, a socket or a device; give a file")
    trial = path.with_name(f".{path.name}.{os.getpid()}.trial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error.strerror}); give a file in a folder of your own") from error


def say(line: str) -> None:
    """A line for people, on the standard error stream."""
    print(f"ddreplay: {printable(line)}", file=sys.stderr)


def printable(text: str) -> str:
    """Text whose control characters, which a terminal would obey, are written as what they are: ``\\x1b``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def report(values: dict[str, Any], as_json: bool, line: str | None = None) -> None:
    """One JSON object, or one line (or a row for every value) for people."""
    if as_json:
        print(json.dumps(values, default=str))
    elif line is not None:
        print(values[line])
    else:
        width = max(map(len, values))
        for name, value in values.items():
            print(f"{printable(name.replace('_', ' ')):<{width}}  {printable(str(value))}")


@contextmanager
def exit_codes() -> Iterator[None]:
    """Misuse ends with one line and code 2; an interruption with 130, a request to end with 143."""
    try:
        with _told_to_end(), _messages():
            yield
    except BrokenPipeError:  # who reads has read enough; nothing is left to be flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, TypeError, OSError, FloatingPointError, ImportError) as error:
        _stop(" ".join(str(error).split()) or type(error).__name__, 2)
    except StopRequested as stopped:
        _stop(f"stopped; the state is in {stopped.path}, and the same command goes on from there", 128 + stopped.signal)
    except KeyboardInterrupt:
        _stop("interrupted; nothing is kept (condense --checkpoint FILE keeps the state)", 128 + signal.SIGINT)
    except Terminated:
        _stop("terminated; nothing is kept (condense --checkpoint FILE keeps the state)", 128 + signal.SIGTERM)


def _stop(line: str, code: int) -> None:
    say(line)
    sys.exit(code)


@contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM as an exception, so that bars are closed and nothing is left half done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def _messages() -> Iterator[None]:
    """What the package logs, as lines on the standard error stream."""
    logger, handler = logging.getLogger("ddreplay"), _Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Lines(logging.Handler):
    """Above the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(f"ddreplay: {printable(record.getMessage())}", file=sys.stderr)

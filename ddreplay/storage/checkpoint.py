"""The state of a run in a file: written whole or not at all, checked when it is read, and never taken for another run's."""

from __future__ import annotations

import hashlib
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from ddreplay.data.pool import ClassPool
from ddreplay.ranks import Ranks
from ddreplay.stopping import StopRequested
from ddreplay.storage.files import one_writer
from ddreplay.storage.sealed import read_sealed, write_sealed

__all__ = ["Checkpoint", "Resumable", "StopRequested", "fingerprint"]

log = logging.getLogger(__name__)

_MAGIC = b"ddreplay checkpoint 2\n"
_STOPS = (signal.SIGINT, signal.SIGTERM)


@runtime_checkable
class Resumable(Protocol):
    """A run whose whole state can be saved and put back."""

    @property
    def step(self) -> int:
        """How many steps it has taken."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class Checkpoint:
    """The state of one run; without a path nothing is kept.

    Attributes:
        every: steps from one writing to the next.
        run: what makes the run this one (method, budget, seed, data), as JSON: a file of another run is refused.
        device: where the state is put.
    """

    path: str | Path | None
    every: int
    run: dict[str, Any]
    device: torch.device | str = "cpu"
    _signal: int | None = field(default=None, init=False)
    _guarding: bool = field(default=False, init=False)
    _saved: dict[str, Any] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"checkpoint_every must be at least 1 step, got {self.every!r}")

    @contextmanager
    def opened(self) -> Iterator[Checkpoint]:
        """Within it no other run writes the file, and what was kept in it is known.

        Raises:
            AlreadyInUse: when another run has it open.
            ValueError: when it is damaged, or another run's.
        """
        if self.path is None:
            yield self
            return
        with one_writer(self.path):
            self._saved = self._read(Path(self.path))
            yield self

    def share(self, ranks: Ranks) -> None:
        """Every process knows what the first has read; only that one has a path."""
        self._saved = ranks.of_first(self._saved)

    @property
    def images_per_class(self) -> int | None:
        """The number of images per class that the run had chosen; None where nothing is kept yet, or it chooses none."""
        return None if self._saved is None else self._saved["images_per_class"] or None

    def restore(self, run: Resumable) -> None:
        """Go on where the kept run was."""
        if self._saved is not None:
            try:
                run.load_state_dict(self._saved["state"])
            except Exception as error:  # each part reads its own, and anything may be wrong in it
                raise ValueError(
                    f"the state in checkpoint {self.path} does not fit the run: {error!r}; delete it to start anew"
                ) from error
            if self._saved["finished"]:
                log.info("checkpoint %s is that of a finished run: nothing is left to do", self.path)

    def due(self, run: Resumable) -> bool:
        """Whether the state is to be written now: after so many steps, or where a stop was asked for."""
        return self.path is not None and (self._signal is not None or run.step % self.every == 0)

    def keep(self, run: Resumable, images_per_class: int = 0, *, finished: bool = False) -> None:
        """Write the state where it is due, or a stop was asked for.

        Args:
            images_per_class: The number that the run has chosen; 0 where it chooses none.
        Raises:
            StopRequested: after writing, when the process was told to stop.
        """
        if self._guarding:
            self._listen()
        if self.path is None or not (finished or self.due(run)):
            return
        saved = {
            "run": repr(self.run),
            "images_per_class": images_per_class,
            "finished": finished,
            "state": run.state_dict(),
        }
        write_sealed(self.path, _MAGIC, saved)
        if self._signal is not None:
            raise StopRequested(self._signal, Path(self.path))

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Within it SIGINT and SIGTERM are answered after the step at hand, when its state is written."""
        if self.path is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _STOPS}
        self._guarding = True
        self._listen()
        try:
            yield
        finally:
            self._guarding = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def _listen(self) -> None:
        """Asked for again and again: a compiler of GPU code that is loaded later (LLVM, under Triton) takes the signals for itself."""
        for number in _STOPS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if self._signal is not None and number == signal.SIGINT:  # asked twice, by a hand: at once
            raise KeyboardInterrupt
        self._signal = number

    def _read(self, path: Path) -> dict[str, Any] | None:
        if not path.exists():
            return None
        saved = read_sealed(path, _MAGIC, "checkpoint", self.device)
        kinds = {"run": str, "images_per_class": int, "finished": bool, "state": dict}
        if set(saved) != set(kinds) or not all(type(saved[name]) is kind for name, kind in kinds.items()):
            raise ValueError(f"checkpoint {path} does not hold {', '.join(kinds)}; delete it to start anew")
        if saved["run"] != repr(self.run):
            raise ValueError(
                f"checkpoint {path} belongs to another run (other settings, seed or data); give another file"
            )
        return saved


def fingerprint(pool: ClassPool) -> str:
    """A digest of all images and labels of a pool, and of how they are normalised."""
    digest = hashlib.sha256(repr((pool.class_ids.tolist(), pool.counts, pool.shape, pool.mean, pool.std)).encode())
    for rows in torch.arange(len(pool), device=pool.device).split(4096):
        digest.update(pool.stored(rows).cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

"""What is raised when the process was told to stop and the state of its run was kept."""

from __future__ import annotations

from pathlib import Path

__all__ = ["StopRequested"]


class StopRequested(KeyboardInterrupt):
    """The process was told to stop (SIGINT, SIGTERM), and the state of its run is in the checkpoint.

    signal: the number of the signal. path: the checkpoint.
    """

    def __init__(self, number: int, path: Path) -> None:
        super().__init__(f"stopped by signal {number}; the state is in {path}")
        self.signal, self.path = number, path

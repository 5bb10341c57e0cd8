"""The state of a run in a file, replaced atomically."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from ddreplay.data.pool import ClassPool


@runtime_checkable
class Resumable(Protocol):
    """A run whose whole state can be saved and put back."""

    pool: ClassPool
    step: int

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class Checkpoint:
    """A file with the whole state of a run, replaced atomically."""

    path: str | Path | None
    every: int
    run: dict[str, Any]

    def keep(self, run: Resumable) -> None:
        if self.path is None or run.step % self.every:
            return
        path = Path(self.path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        torch.save({"run": repr(self.run), "state": run.state_dict()}, temporary)
        os.replace(temporary, path)

    def restore(self, run: Resumable) -> None:
        if self.path is None or not Path(self.path).exists():
            return
        try:
            saved = torch.load(self.path, map_location=run.pool.device, weights_only=True)
        except Exception as error:
            raise ValueError(f"checkpoint {self.path} cannot be read ({error}); delete it to start anew") from error
        if saved["run"] != repr(self.run):
            raise ValueError(
                f"checkpoint {self.path} belongs to another run (method, budget, seed or data); give another file"
            )
        run.load_state_dict(saved["state"])


def fingerprint(pool: ClassPool) -> str:
    x = pool.rows(torch.arange(0, len(pool), max(1, len(pool) // 64), device=pool.device))
    return f"{pool.class_ids.tolist()} {pool.counts} {pool.shape} {float(x.double().sum()):.6f}"

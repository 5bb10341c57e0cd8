"""Randomness has one door: the ``seed`` argument of a condenser, an evaluation or a memory. Nothing is drawn from other generators."""

from __future__ import annotations

import random as of_python  # noqa: TID251  # its state is kept, nothing is drawn from it
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["Random", "global_state", "set_global_state"]

_LARGEST_SEED = 2**62


def generator_on(device: torch.device) -> torch.Generator:
    """A generator whose draws are on this device."""
    return torch.Generator(device=device)


class Random:
    """A seeded source of draws that never touches the caller's global generators.

    Args:
        seed: any integer; the same seed gives the same draws on the same device.
        device: where index and magnitude tensors are drawn (``.device``); decisions of the host use ``.cpu``.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.cpu = torch.Generator().manual_seed(int(seed) % _LARGEST_SEED)
        self.device = generator_on(torch.device(device)).manual_seed(self.seed())

    def seed(self) -> int:
        """A fresh seed, drawn from this source."""
        return int(torch.randint(_LARGEST_SEED, (), generator=self.cpu))

    def integer(self, high: int) -> int:
        """A uniform integer in [0, high)."""
        return int(torch.randint(high, (), generator=self.cpu))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A uniform number in [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self.cpu))

    def child(self) -> Random:
        """An independent source, seeded from this one, on the same device."""
        return Random(self.seed(), self.device.device)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Code that uses the global generators (network initialisation, dropout) runs seeded; the caller's state returns after."""
        on_gpu = self.device.device.type == "cuda"
        devices = [self.device.device] if on_gpu else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed())
            yield

    def state_dict(self) -> dict[str, Any]:
        return {"cpu": self.cpu.get_state(), "device": self.device.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.cpu.set_state(state["cpu"].cpu())
        self.device.set_state(state["device"].cpu())


def global_state() -> dict[str, Any]:
    """Tensors and plain values: the state of the global generators, which Avalanche's data loaders and transforms draw from."""
    _, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002, TID251
    version, internal, gauss = of_python.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": [version, list(internal), gauss],
    }


def set_global_state(state: Mapping[str, Any]) -> None:
    """Put the global generators where they were at `global_state`; CUDA's, where there are as many devices as then."""
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002, TID251
    version, internal, gauss = state["python"]
    of_python.setstate((version, tuple(internal), gauss))

"""Randomness has one door: the ``seed`` argument of a condenser, an evaluation or a memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["Random"]

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

"""Trained networks of a bank in a folder, so that runs on the same images train them once."""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddreplay.backbones import Net
from ddreplay.condense.provenance import describe, versions
from ddreplay.networks import Banked, Context, Networks, Snapshots
from ddreplay.randomness import Random
from ddreplay.storage.checkpoint import fingerprint
from ddreplay.storage.files import write_atomically

__all__ = ["Kept", "Seconds", "digest"]


@dataclass(frozen=True)
class Seconds:
    """What something took: wall time, and processor time of this process, all its threads together."""

    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def now(cls) -> Seconds:
        """Readings of both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)


def digest(value: Any) -> str:
    """A name for a file that follows from JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


class Kept:
    """The networks of a `Banked`, trained once for a pool and kept in a folder: a network source in its place.

    The networks follow from the bank's settings (those that training knows), the pool's images, the augmentation and ``seed`` alone: not
    from the budget, the initial images or what is matched. So all budgets of a benchmark share them; entries (augmentation draws and
    statistics of real images) are made anew by every run. A bank whose networks are not trained, or which is renewed, is left as it is.

    Args:
        source: What networks there are.
        folder: Where they are kept, a file for each pool.
        seed: What they follow from; the same for all budgets.
    Attributes:
        charged: What training them took, whoever did it: the costs of a set that was condensed with them.
        spent: What training or loading them took in this process; nothing before the first run.
    """

    def __init__(self, source: Banked, folder: Path, seed: int) -> None:
        self.source, self.folder, self.seed = source, folder, seed
        self.charged, self.spent = Seconds(), Seconds()

    def __repr__(self) -> str:
        return f"Kept({self.source!r})"

    @property
    def net(self) -> Net | None:
        """What makes the networks."""
        return self.source.net

    def start(self, context: Context) -> Networks:
        """Begin a condensation with the kept networks, which are trained and kept where there are none yet."""
        if self.source.trained == 0 or self.source.refresh is not None or context.pool.classes < 2:
            return self.source.start(context)
        started = Seconds.now()
        path = self.folder / f"{self._key(context)}.pt"
        if not path.is_file():
            self._train(context, path, started)
        networks, took = self._load(context, path)
        self.charged, self.spent = self.charged + took, self.spent + (Seconds.now() - started)
        return Snapshots(networks, images=self.source.images).start(context)

    def _key(self, context: Context) -> str:
        trained = replace(self.source, images=None, refresh=None)
        return digest(
            {
                "bank": describe(trained),
                "pool": fingerprint(context.pool),
                "augment": describe(context.augment),
                "compile": context.compile,
                "seed": self.seed,
                "versions": versions(),
            }
        )

    def _train(self, context: Context, path: Path, started: Seconds) -> None:
        own = replace(context, random=Random(self.seed, context.pool.device), stop=None)
        networks = self.source.build(own).networks()
        took = Seconds.now() - started
        content = io.BytesIO()
        saved = {"networks": [net.state_dict() for net in networks], "wall": took.wall, "cpu": took.cpu}
        torch.save(saved, content)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())

    def _load(self, context: Context, path: Path) -> tuple[list[nn.Module], Seconds]:
        saved = torch.load(path, map_location=context.pool.device, weights_only=True)
        networks = []
        for state in saved["networks"]:
            net = context.network(self.source.net, Random(0, context.pool.device))
            net.load_state_dict(state)
            networks.append(net)
        return networks, Seconds(saved["wall"], saved["cpu"])

"""Segments of expert trajectories: networks trained on real data, kept epoch by epoch."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ddreplay.augment.siamese import Augment, Identity
from ddreplay.backbones import Net
from ddreplay.data.pool import ClassPool
from ddreplay.networks.source import Networks, Setting
from ddreplay.objectives.term import Look, Statistic
from ddreplay.randomness import Random
from ddreplay.training import LabelledImages, Shuffled, by_optimizer, learnable, train_network

__all__ = [
    "ExpertSegments",
]

Weights = tuple[Tensor, ...]
_SAMPLE = 256  # images of the pool that its digest reads


@dataclass(frozen=True)
class ExpertSegments:
    """Shows an expert as it was after t epochs on the pool; the look's target is its weights ``segment`` epochs later (MTT).

    Experts are trained when they are first picked, once, from seeds of their own: the same for every run on a pool. The epochs
    that can be asked for are kept, ``latest_start + segment`` of them; longer training would not be looked at.

    Args:
        net: makes a randomly initialised network; ``None``: the network of the method that it is part of.
        experts: how many.
        latest_start: t is uniform in 0 .. latest_start - 1.
        segment: M, epochs from start to target.
        lr, momentum, batch_size, augment: of the experts' training by SGD; one operation a batch, magnitudes for each image.
        folder: keep trajectories there, a safetensors file for each expert, written whole or not at all, and reuse them; an
            interrupted run goes on with the next expert. The file names hold a digest of pool, network and settings.
            ``None``: in memory, for one run.
        seed: of the experts.
    Raises:
        ValueError: for counts below 1.
    """

    net: Net | None = None
    _: KW_ONLY
    experts: int = 100
    latest_start: int = 20
    segment: int = 2
    lr: float = 0.01
    momentum: float = 0.0
    batch_size: int = 256
    augment: Augment = field(default=Identity())
    folder: str | Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.experts, self.latest_start, self.segment, self.batch_size) < 1:
            raise ValueError(
                "experts, latest_start, segment and batch_size must be at least 1, "
                f"got {self.experts}, {self.latest_start}, {self.segment} and {self.batch_size}"
            )

    def start(self, setting: Setting) -> Networks:
        return _ExpertNetworks(self, setting)


class _ExpertNetworks:
    def __init__(self, source: ExpertSegments, setting: Setting) -> None:
        self.source, self.setting, self.shown = source, setting, 0
        self._kept: dict[int, list[Weights]] = {}
        self._net: nn.Module | None = None
        self._digest = ""

    def show(self) -> tuple[Look, Statistic]:
        random = self.setting.random
        expert, epoch = random.integer(self.source.experts), random.integer(self.source.latest_start)
        start, target = self.weights(expert, epoch), self.weights(expert, epoch + self.source.segment)
        net = self._network()
        with torch.no_grad():
            for weight, value in zip(net.parameters(), start, strict=True):
                weight.copy_(value)
        look = self.setting.look(net, round=self.shown, target=target)
        self.shown += 1
        return look, self.setting.statistic(look)

    def moved(self) -> None:
        """A segment is seen once."""

    def weights(self, expert: int, epoch: int) -> Weights:
        """An expert's weights after an epoch; it is trained if nobody did so before."""
        if self.source.folder is None:
            if expert not in self._kept:
                self._kept[expert] = self._train(expert)
            return self._kept[expert][epoch]
        path = Path(self.source.folder) / f"expert-{self._name()}-{expert:04d}.safetensors"
        if not path.exists():
            _write(path, self._train(expert))
        with safe_open(str(path), framework="pt", device=str(self.setting.pool.device)) as file:
            return tuple(file.get_tensor(f"{epoch}.{k}") for k in range(len(list(self._network().parameters()))))

    def _network(self) -> nn.Module:
        """One module for all weights; they are put into it."""
        if self._net is None:
            self._net = self.setting.network(self.source.net, Random(self.source.seed, self.setting.pool.device))
        return self._net

    def _train(self, expert: int) -> list[Weights]:
        source, pool = self.source, self.setting.pool
        random = Random(_seed(source.seed, expert), pool.device)
        net = self.setting.network(source.net, random)
        trajectory = [_weights(net)]
        with random.scope(), learnable(net):
            train_network(
                net,
                LabelledImages.of_pool(pool),
                Shuffled(source.batch_size),
                by_optimizer(torch.optim.SGD(net.parameters(), lr=source.lr, momentum=source.momentum)),
                random,
                epochs=source.latest_start - 1 + source.segment,
                augment=source.augment,
                on_epoch=lambda _: trajectory.append(_weights(net)),
            )
        return trajectory

    def _name(self) -> str:
        """A digest of everything that a trajectory follows from."""
        if not self._digest:
            s, net = self.source, self._network()
            sizes = [(name, tuple(p.shape)) for name, p in net.named_parameters()]
            settings = (s.latest_start, s.segment, s.lr, s.momentum, s.batch_size, s.augment, s.seed)
            text = f"{s.net!r} {net!r} {sizes} {settings} {_pool_digest(self.setting.pool)}"
            self._digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", text).encode()).hexdigest()[:16]
        return self._digest

    def state_dict(self) -> dict[str, Any]:
        return {"shown": self.shown}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.shown = state["shown"]


def _seed(seed: int, expert: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {expert}".encode()).digest()[:7], "little")


def _weights(net: nn.Module) -> Weights:
    return tuple(p.detach().clone() for p in net.parameters())


def _pool_digest(pool: ClassPool) -> str:
    rows = torch.arange(0, len(pool), max(1, len(pool) // _SAMPLE), device=pool.device)
    digest = hashlib.sha256(pool.rows(rows).cpu().numpy().tobytes())
    return f"{pool.counts} {pool.shape} {digest.hexdigest()}"


def _write(path: Path, trajectory: list[Weights]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"{epoch}.{k}": w.cpu() for epoch, weights in enumerate(trajectory) for k, w in enumerate(weights)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, str(temporary))
    os.replace(temporary, path)

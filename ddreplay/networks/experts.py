"""Segments of expert trajectories: networks trained on real data, kept epoch by epoch."""

from __future__ import annotations

import hashlib
import itertools
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
from ddreplay.networks.source import Context, Networks
from ddreplay.objectives.side import Look
from ddreplay.objectives.term import Statistic
from ddreplay.randomness import Random
from ddreplay.training import ByOptimizer, LabelledImages, Shuffled, learnable, train_network

__all__ = [
    "ExpertSegments",
]

Weights = tuple[Tensor, ...]
_SAMPLE = 256  # images of the pool that its digest reads


@dataclass(frozen=True)
class ExpertSegments:
    """Shows an expert as it was after t epochs on the pool; the look's target is its weights ``segment`` epochs later (MTT).

    Experts are trained when they are first picked, once, from seeds of their own: the same for every run on a pool. The epochs
    that can be asked for are kept, ``latest_start + segment`` of them; longer training would not be looked at. An expert whose
    training is cut short (``Context.stop``) is shown from its beginning to where it came, and not written to ``folder``.

    Args:
        net: Makes a randomly initialised network; ``None``: the network of the method that this is part of.
        experts: The number of experts.
        latest_start: The number of epochs among which t is drawn: it is uniform in 0 .. latest_start - 1.
        segment: The number of epochs from start to target, the paper's M.
        lr: The step size of the experts' training by SGD.
        momentum: The momentum of that training.
        batch_size: The number of images in a training batch; every epoch shows each image of the pool once.
        augment: What training images undergo: one draw per batch, magnitudes for each image.
        folder: Trajectories are kept there, a safetensors file for each expert, written whole or not at all, and reused; an
            interrupted run goes on with the next expert. The file names hold a digest of pool, network and settings.
            ``None``: they are kept in memory, for one run.
        seed: The seed of all experts; expert k is trained from one derived from it.
    Raises:
        ValueError: for counts below 1.
    Reference: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022.
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

    def start(self, context: Context) -> Networks:
        return _ExpertNetworks(self, context)


class _ExpertNetworks:
    def __init__(self, source: ExpertSegments, context: Context) -> None:
        self.source, self.context, self.shown = source, context, 0
        self._kept: dict[int, list[Weights]] = {}
        self._cut: set[int] = set()
        self._made = 0
        self._net: nn.Module | None = None
        self._digest = ""

    def show(self) -> tuple[Look, Statistic]:
        random = self.context.random
        expert, epoch = random.integer(self.source.experts), random.integer(self.source.latest_start)
        start, target = self.segment(expert, epoch)
        net = self._network()
        with torch.no_grad():
            for weight, value in zip(net.parameters(), start, strict=True):
                weight.copy_(value)
        look = self.context.look(net, round=self.shown, target=target)
        self.shown += 1
        return look, self.context.statistic(look)

    def moved(self) -> None:
        """A segment is seen once."""

    def segment(self, expert: int, epoch: int) -> tuple[Weights, Weights]:
        """An expert's weights after an epoch and a segment later; from its beginning on where its training was cut short."""
        start = self.weights(expert, epoch)
        if expert in self._cut:
            epoch, start = 0, self.weights(expert, 0)
        return start, self.weights(expert, epoch + self.source.segment)

    def weights(self, expert: int, epoch: int) -> Weights:
        """An expert's weights after an epoch; it is trained if nobody did so before."""
        if expert in self._kept:
            return self._kept[expert][epoch]
        path = self._path(expert)
        if path is None or not path.exists():
            trajectory, whole = self._train(expert)
            self._tell(expert, whole)
            if path is None or not whole:
                self._kept[expert] = trajectory
                return trajectory[epoch]
            _write(path, trajectory)
        with safe_open(str(path), framework="pt", device=str(self.context.pool.device)) as file:
            return tuple(file.get_tensor(f"{epoch}.{k}") for k in range(len(list(self._network().parameters()))))

    def _path(self, expert: int) -> Path | None:
        folder = self.source.folder
        return None if folder is None else Path(folder) / f"expert-{self._name()}-{expert:04d}.safetensors"

    def _tell(self, expert: int, whole: bool) -> None:
        if not whole:
            self._cut.add(expert)
            return
        self._made += 1
        if self.context.on_network is not None:
            self.context.on_network(self._made, self.source.experts)

    def _network(self) -> nn.Module:
        """One module for all weights; they are put into it."""
        if self._net is None:
            self._net = self.context.network(self.source.net, Random(self.source.seed, self.context.pool.device))
        return self._net

    def _train(self, expert: int) -> tuple[list[Weights], bool]:
        """An expert's weights after every epoch, and whether there was time for all of them; if not, the last ones repeat."""
        source, pool, stop = self.source, self.context.pool, self.context.stop
        epochs, asked = source.latest_start - 1 + source.segment, itertools.count()
        random = Random(_seed(source.seed, expert), pool.device)
        net = self.context.network(source.net, random)
        trajectory = [_weights(net)]
        with random.scope(), learnable(net):
            train_network(
                net,
                LabelledImages.of_pool(pool),
                Shuffled(source.batch_size),
                ByOptimizer(torch.optim.SGD(net.parameters(), lr=source.lr, momentum=source.momentum)),
                random,
                epochs=epochs,
                augment=source.augment,
                compile=self.context.compile,
                on_epoch=lambda _: trajectory.append(_weights(net)),
                # one step is always taken: a segment's length is what distances are measured in
                stop=None if stop is None else lambda: next(asked) > 0 and stop(),
            )
        missing = epochs + 1 - len(trajectory)
        return trajectory + [_weights(net)] * missing, missing == 0

    def _name(self) -> str:
        """A digest of everything that a trajectory follows from."""
        if not self._digest:
            s, net = self.source, self._network()
            sizes = [(name, tuple(p.shape)) for name, p in net.named_parameters()]
            settings = (s.latest_start, s.segment, s.lr, s.momentum, s.batch_size, s.augment, s.seed)
            text = f"{s.net!r} {net!r} {sizes} {settings} {_pool_digest(self.context.pool)}"
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

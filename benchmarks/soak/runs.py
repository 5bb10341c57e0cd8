"""What is killed: condensations, an evaluation and streams, each of which goes on from what its folder holds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.soak.samples import toy_pool
from ddreplay import Budget, ClassPool, CondensedMemory, ConvNet, OnlineMemory, evaluate, methods
from ddreplay.evaluation import PROTOCOLS
from ddreplay.methods import selections
from ddreplay.networks import Banked, ModelQueue
from ddreplay.storage.files import read_whole, write_atomically
from ddreplay.storage.sealed import read_state

__all__ = ["RUNS", "Run", "come_to_end"]

NET = ConvNet(width=8)
QUEUE = ModelQueue(train_steps=1, batch_size=8, push_interval=2, size=3, meter_interval=2)

Run = Callable[[Path], torch.Tensor]
"""Goes on from what the folder holds, and gives the images, or other numbers that must be the same bits."""


def condensing(method: Any, budget: Budget | int) -> Run:
    """A condensation with a checkpoint after every step."""

    def run(folder: Path) -> torch.Tensor:
        images: torch.Tensor = (
            method(toy_pool(), budget, seed=3, checkpoint=folder / "ck", checkpoint_every=1).images().x
        )
        return images

    return run


def evaluation(folder: Path) -> torch.Tensor:
    """Networks trained on a set, whose answers are kept one after the other."""
    pool = toy_pool()
    protocol = PROTOCOLS["dm2023"].scaled(5)
    found = evaluate(selections.random()(pool, 2), pool, NET, protocol=protocol, seeds=6, checkpoint=folder / "ck")
    return torch.tensor(found.confusion)


def stream(condenser: Any, budget: Budget) -> Run:
    """A memory over a stream of updates, whose state is kept after each."""

    def run(folder: Path) -> torch.Tensor:
        memory, pool, path = CondensedMemory(condenser, budget, seed=5), toy_pool(classes=6), folder / "ck"
        if path.exists():
            memory.load_state_dict(read_state(read_whole(path), "the memory"))
        for classes in ([0, 1], [2, 3], [1, 4], [5], [0, 5])[len(memory.seconds) :]:
            memory.update(pool.select(classes))
            _keep(path, memory.state_dict())
        return memory.batch().x

    return run


def online_stream(folder: Path) -> torch.Tensor:
    """A memory for a stream without boundaries, three images at a time."""
    memory, pool, path = OnlineMemory(methods.dm(NET, steps=2), max_bytes=9000, enough=5), toy_pool(), folder / "ck"
    labels = pool.relabel(pool.all_labels())
    if path.exists():
        memory.load_state_dict(read_state(read_whole(path), "the memory"))
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(2)).split(3)
    for rows in order[len(memory.seconds_spent) :]:
        drop = ClassPool(pool.stored(rows), labels[rows], mean=pool.mean, std=pool.std, device="cpu")
        memory.update(drop)
        _keep(path, memory.state_dict())
    return memory.batch().x


def avalanche_stream(folder: Path) -> torch.Tensor:
    """Avalanche's training with a condensed memory, kept after every experience."""
    from avalanche.benchmarks import nc_benchmark
    from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, TaskLabels
    from torch.utils.data import TensorDataset

    from ddreplay.avalanche import CondensedBuffer, load_stream, save_stream
    from strategies.experience_replay import experience_replay

    x, labels = toy_pool(classes=6).all()
    torch.manual_seed(4)
    net = NET((3, 8, 8), 6)
    buffer = CondensedBuffer(images_per_class=2, condenser=methods.dm(NET, steps=2))
    strategy, path = experience_replay(net, buffer, epochs=2, batch_size=4), folder / "ck"
    tasks = [DataAttribute(labels.tolist(), "targets"), TaskLabels([0] * len(x))]
    data = AvalancheDataset([TensorDataset(x, labels)], data_attributes=tasks)
    stream = nc_benchmark(data, data, n_experiences=3, task_labels=False, seed=1).train_stream
    torch.manual_seed(11)
    done = load_stream(path, strategy, stream) if path.exists() else 0
    for experience in stream[done:]:
        strategy.train(experience)
        save_stream(path, strategy)
    weights = [p.detach().flatten() for p in strategy.model.parameters()]
    return torch.cat([*weights, *(sample[0].flatten() for sample in buffer.buffer)])


def _keep(path: Path, state: Any) -> None:
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(path, content.getvalue())


RUNS: dict[str, Run] = {
    "dm, 2 images": condensing(methods.dm(NET, steps=12), 2),
    "dm, 700 bytes": condensing(methods.dm(NET, steps=8, networks=Banked(size=3, trained=2)), Budget.bytes(700)),
    "dc, 2 images": condensing(methods.dc(NET, rounds=4, loops=(2, 1)), 2),
    "idm, 2 images": condensing(methods.idm(NET, steps=8, weight=0.01, networks=QUEUE), 2),
    "dcc, 2000 bytes in all": condensing(methods.dcc(NET, rounds=4, loops=(2, 1)), Budget.total_bytes(2000)),
    "mtt, 2 images": condensing(
        methods.mtt(NET, iterations=6, steps=2, latest_start=1, segment=1, experts=1, lr=1.0, inner_lr=0.01), 2
    ),
    "a stream of herding, 900 bytes a class": stream(selections.herding(NET, epochs=1), Budget.bytes(900)),
    "a stream of dm, 4000 bytes in all": stream(methods.dm(NET, steps=2), Budget.total_bytes(4000)),
    "an evaluation of 6 networks": evaluation,
    "a stream without boundaries, 9000 bytes": online_stream,
    "a stream in Avalanche, 2 images": avalanche_stream,
}
"""Methods over budgets. With budgets in bytes, the number of images is chosen before, and kept."""


def come_to_end(run: Run, folder: str | Path) -> None:
    """A run from where its folder stands to its end, where a digest of its numbers is written."""
    torch.set_num_threads(1)
    digest = hashlib.sha256(run(Path(folder)).contiguous().numpy().tobytes()).hexdigest()
    write_atomically(Path(folder) / "result", digest.encode())

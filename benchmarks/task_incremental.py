"""``python -m benchmarks task-incremental``: a head for every task, task labels, replay of real or condensed images (DCC, 4.3)."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from avalanche.benchmarks import benchmark_from_datasets, with_task_labels
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, TaskLabels
from avalanche.models import MultiTaskModule
from torch import Tensor, nn

from benchmarks.checks import at_least
from benchmarks.memories import memory_condenser, spelled
from benchmarks.report.progress import Progress
from benchmarks.report.records import begin, write
from benchmarks.report.tables import format_bytes, format_summary, paired, settings_note, summary, text_table
from ddreplay import names
from ddreplay.avalanche import CondensedBuffer
from ddreplay.avalanche.datasets import ImageLabelPairs
from ddreplay.backbones import as_factory
from ddreplay.data.pool import Batch, ClassPool
from ddreplay.datasets import load
from ddreplay.randomness import Random
from strategies import experience_replay, finetuning

__all__ = ["MultiHead", "Task", "read_tasks", "task_incremental"]

NO_CLASS = -1e4  # the logit of an output that a task's head does not have


@dataclass(frozen=True)
class Task:
    """uint8 images and labels from 0 on; augmentation: the operations that suit them."""

    name: str
    train: Batch
    test: Batch
    classes: int
    augmentation: str


class MultiHead(MultiTaskModule):  # type: ignore[misc]
    """One body for all tasks and a linear head for each; outputs that a head lacks are ``NO_CLASS``."""

    def __init__(self, body: nn.Module, features: int, classes: Sequence[int]) -> None:
        super().__init__()
        self.body = body
        self.heads = nn.ModuleList(nn.Linear(features, k) for k in classes)
        self.outputs = max(classes)

    def adaptation(self, experience: Any) -> None:
        """Nothing grows: all heads are there from the start."""

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        """Logits [n, classes of the largest task]; ``task_labels`` int64 [n]."""
        features: Tensor = self.body(x)
        out = features.new_full((len(x), self.outputs), NO_CLASS)
        for task in task_labels.unique().tolist():
            rows = (task_labels == task).nonzero().flatten()
            logits = self.heads[task](features[rows])
            out[rows, : logits.shape[1]] = logits
        return out


def task_incremental(
    dataset: str = "digits",
    root: Path | None = None,
    download: bool = False,
    tasks: int | None = None,
    images_per_class: int = 10,
    memories: tuple[str, ...] = (
        "none",
        "ring",
        "dsa(rounds=3, loops=(10, 3), lr=2.0, lr_net=0.05, batch_real=50)",
        "dsac(rounds=3, loops=(10, 3), lr=6.0, lr_net=0.05, batch_real=50)",
    ),
    net: str = "convnet(width=32)",
    epochs: int = 5,
    batch_size: int = 32,
    lr: float = 0.01,
    seeds: int = 3,
    validation: bool = False,
    device: str = "cpu",
    out: Path = Path("results"),
) -> None:
    """Compare memories where tasks come one after the other and their labels are given.

    After every task its classes are stored, and every later training step sees as many stored as new images. Measured after every task:
    the mean accuracy over the tasks seen so far, each with its own head. The paper names no network, epochs or learning rate for
    this experiment; these are ours, and the condensers' settings are small ones.

    Args:
        dataset: digits, an .npz file in MedMNIST's layout, any data set of ddreplay condense, cut into tasks of neighbouring classes;
            or several joined by +, a task each: "cifar10+svhn+gtsrb", "imagenet32:lizard+imagenet32:truck+imagenet32:insect".
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        tasks: in the stream; must divide the number of classes; default 3 where that divides them, else 5.
        images_per_class: stored for every class.
        memories: none, ring (random real images), or any method of ddreplay condense, with options: "dsac(rounds=4)".
        net: the network's body, and the network that condensers look with.
        epochs: on every task.
        batch_size: of new images, and as many of the memory.
        lr: SGD with momentum 0.9 and weight decay 5e-4.
        seeds: memory and network are drawn anew for each.
        validation: test on a fifth of the training images instead of the test images: for choosing settings.
        device: cpu or cuda.
        out: folder for the record.
    """
    given = dict(locals())
    kept = ("images_per_class", "memories", "net", "epochs", "batch_size", "lr", "seeds", "validation")
    at_least(1, seeds=seeds, images_per_class=images_per_class, epochs=epochs, batch_size=batch_size)
    stream, mean, std = read_tasks(dataset, root=root, download=download, tasks=tasks, validation=validation)
    protocol: dict[str, Any] = {
        "dataset": Path(dataset).name,
        "tasks": [t.name for t in stream],
        "normalisation": {"mean": mean, "std": std},
    }
    protocol |= {**{name: given[name] for name in kept}, "scale": "reduced"}
    protocol["condensers"] = {memory: spelled(memory) for memory in memories}
    for memory in (m for m in memories if m != "none"):
        memory_condenser(memory, net, operations(stream))  # wrong ones are refused before any work
    recording = begin("task-incremental", protocol, device=device)
    warnings.filterwarnings("ignore", message="No loggers specified")
    path = out / f"task_incremental_{Path(dataset).stem}{'_validation' if validation else ''}.json"
    settings = Settings(images_per_class, net, epochs, batch_size, lr, device)
    with Progress(seeds * len(memories), "task-incremental", unit="runs") as progress:
        for seed in range(seeds):
            for memory in memories:
                recording.add(**run(settings, stream, memory, seed, mean, std))
                write(recording.finish(), path)
                progress.advance(note=f"{memory.partition('(')[0]}, seed {seed}")
    print(table(recording.results, [t.name for t in stream]))
    print("\n".join(settings_note(protocol["condensers"])))
    print(f"record: {path}")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers besides stream, memory and seed."""

    images_per_class: int
    net: str
    epochs: int
    batch_size: int
    lr: float
    device: str


Constants = tuple[float, ...]


def read_tasks(
    dataset: str,
    *,
    root: Path | None = None,
    download: bool = False,
    tasks: int | None = None,
    validation: bool = False,
) -> tuple[list[Task], Constants, Constants]:
    """The tasks, and the mean and deviation of the first one's training images, with which all are normalised.

    Raises:
        ValueError: when the classes do not divide into ``tasks``, or data sets differ in image shape.
    """
    found = [load(name, root=root, download=download) for name in dataset.split("+")]
    found = [data.for_tuning(fraction=0.2) for data in found] if validation else found
    stream: list[Task] = []
    for data in found:
        count = 1 if len(found) > 1 else tasks or (3 if data.classes % 3 == 0 else 5)
        if data.classes % count:
            raise ValueError(f"{data.classes} classes do not divide into {count} tasks; give another number with tasks")
        size = data.classes // count
        for k in range(count):
            parts = []
            for x, y in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
                rows = (y >= k * size) & (y < (k + 1) * size)
                parts.append(Batch(x[rows], y[rows] - k * size))
            name = data.name if count == 1 else f"{data.name} {k * size} to {(k + 1) * size - 1}"
            stream.append(Task(name, parts[0], parts[1], size, data.augmentation))
    shapes = {tuple(t.train.x.shape[1:]) for t in stream}
    if len(shapes) > 1:
        raise ValueError(f"the tasks' images differ in shape: {sorted(shapes)}; give data sets of one shape")
    first = ClassPool(*stream[0].train, device="cpu")
    return stream, first.mean, first.std


def operations(stream: Sequence[Task]) -> str:
    """The fewest DSA operations that suit a task; the others then bear them too."""
    return min((task.augmentation for task in stream), key=len)


def run(
    settings: Settings, stream: Sequence[Task], memory: str, seed: int, mean: Constants, std: Constants
) -> dict[str, Any]:
    """One network through the stream with one memory."""
    scale, shift = (torch.tensor(v).view(-1, 1, 1) for v in (std, mean))
    train = [_labelled((t.train.x.float() / 255 - shift) / scale, t.train.y, k) for k, t in enumerate(stream)]
    test = [Batch((t.test.x.float() / 255 - shift) / scale, t.test.y) for t in stream]
    buffer = None
    if memory != "none":
        condenser = memory_condenser(memory, settings.net, operations(stream))
        how: dict[str, Any] = {"mean": mean, "std": std, "device": settings.device}
        buffer = CondensedBuffer(images_per_class=settings.images_per_class, condenser=condenser, seed=seed, **how)
    random = Random(seed)
    with random.scope():
        shape = stream[0].train.x.shape
        body: Any = as_factory(names.network(settings.net))((shape[1], shape[2], shape[3]), 1)
        features, body.classifier = body.classifier.in_features, nn.Identity()
        model = MultiHead(body, features, [t.classes for t in stream])
        more: dict[str, Any] = {name: getattr(settings, name) for name in ("lr", "epochs", "batch_size", "device")}
        strategy = finetuning(model, **more) if buffer is None else experience_replay(model, buffer, **more)
        accuracies: list[list[float]] = []
        started = time.perf_counter()
        for experience in with_task_labels(benchmark_from_datasets(train=train)).train_stream:
            strategy.train(experience)
            seen = len(accuracies) + 1
            accuracies.append([_accuracy(model, part, k, settings.device) for k, part in enumerate(test[:seen])])
    condensing = sum(buffer.seconds) if buffer is not None else 0.0
    return {
        "memory": memory,
        "seed": seed,
        "accuracies": accuracies,
        "average": [statistics.fmean(row) for row in accuracies],
        "images": len(buffer.buffer) if buffer is not None else 0,
        "nbytes": buffer.nbytes if buffer is not None else 0,
        "condense_seconds": condensing,
        "train_seconds": time.perf_counter() - started - condensing,
    }


def _labelled(x: Tensor, y: Tensor, task: int) -> AvalancheDataset:
    labels = y.tolist()
    return AvalancheDataset(
        [ImageLabelPairs(x, labels)],
        data_attributes=[DataAttribute(labels, "targets"), TaskLabels([task] * len(labels))],
    )


@torch.no_grad()
def _accuracy(model: nn.Module, batch: Batch, task: int, device: str) -> float:
    """Percent of a task's test images that its head names rightly."""
    model.eval()
    found = []
    for x in batch.x.split(256):
        labels = torch.full((len(x),), task, device=device)
        found.append(model(x.to(device), labels).argmax(1).cpu())
    return 100 * float((torch.cat(found) == batch.y).float().mean())


def table(results: Sequence[dict[str, Any]], tasks: Sequence[str]) -> str:
    """A row a memory: accuracy over seen tasks after each, and of each task at the end; means over seeds with 95 % intervals."""
    memories = list(dict.fromkeys(r["memory"] for r in results))
    header = ["memory", *(f"after {k + 1}" for k in range(len(tasks))), *(f"task {k + 1}" for k in range(len(tasks)))]
    header += ["bytes", "condense s", "train s"]
    rows: list[list[Any]] = []
    for memory in memories:
        own = [r for r in results if r["memory"] == memory]
        columns = [[r["average"][k] for r in own] for k in range(len(tasks))]
        columns += [[r["accuracies"][-1][k] for r in own] for k in range(len(tasks))]
        cells = [format_summary(summary(values), scale=1) for values in columns]
        seconds = [f"{summary([r[key] for r in own]).mean:.0f}" for key in ("condense_seconds", "train_seconds")]
        rows.append([memory.partition("(")[0], *cells, format_bytes(own[0]["nbytes"]), *seconds])
    lines = [text_table(header, rows), f"tasks: {', '.join(tasks)}; mean and 95 % interval over {len(own)} seeds"]
    for other in memories[:-1]:
        last = [[r["average"][-1] for r in results if r["memory"] == m] for m in (memories[-1], other)]
        names = [m.partition("(")[0] for m in (memories[-1], other)]
        lines.append(f"{names[0]} - {names[1]} at the end: {format_summary(paired(*last), scale=1)}, seed by seed")
    return "\n".join(lines)

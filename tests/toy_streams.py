"""Small streams for the tests of everything that works with Avalanche."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from avalanche.benchmarks import benchmark_from_datasets, nc_benchmark
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, TaskLabels
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset
from avalanche.core import SupervisedPlugin
from torch import Tensor, nn
from torch.utils.data import Dataset

MEAN, STD = (0.5,), (0.25,)


class Images(Dataset[tuple[Tensor, int]]):
    """Items (image, label); while ``closed``, touching one is an error."""

    def __init__(self, x: Tensor, y: Sequence[int]) -> None:
        self.x, self.targets, self.closed = x, list(y), False

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.closed:
            raise AssertionError("an experience was touched that is not the current one")
        return self.x[index], self.targets[index]


def noisy(classes: Sequence[int], per_class: int = 10, seed: int = 0) -> Images:
    """8x8 images in network space on the 256 levels of a byte: one pattern a class, and noise."""
    patterns = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    y = torch.tensor(list(classes)).repeat_interleave(per_class)
    noise = torch.rand(len(y), 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    levels = (255 * (0.7 * patterns[y] + 0.3 * noise)).round() / 255
    return Images((levels - MEAN[0]) / STD[0], y.tolist())


def plain(images: Images) -> AvalancheDataset:
    """Without task labels: items (image, label)."""
    return ClassificationDataset([images], data_attributes=[DataAttribute(images.targets, "targets")])


def labelled(images: Images, task: int = 0) -> AvalancheDataset:
    """With task labels: items (image, label, task)."""
    attributes = [DataAttribute(images.targets, "targets"), TaskLabels([task] * len(images))]
    return AvalancheDataset([images], data_attributes=attributes)


def label_free_stream(experiences: Sequence[Sequence[int]], per_class: int = 10) -> Any:
    """A benchmark whose experiences have no task labels."""
    train = [plain(noisy(classes, per_class, seed=k)) for k, classes in enumerate(experiences)]
    test = [plain(noisy(classes, 4, seed=100 + k)) for k, classes in enumerate(experiences)]
    return benchmark_from_datasets(train=train, test=test)


def task_labelled_stream(n_experiences: int = 3, classes: int = 6, per_class: int = 10, **how: Any) -> Any:
    """Avalanche's own class-incremental benchmark; ``task_labels=True`` makes it task-incremental."""
    train, test = noisy(range(classes), per_class), noisy(range(classes), 4, seed=100)
    return nc_benchmark(train, test, n_experiences=n_experiences, **{"task_labels": False, "seed": 1, **how})


def linear(classes: int = 6) -> nn.Module:
    """The smallest network there is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))


class Seen(SupervisedPlugin):
    """Notes the labels and images of every training step, experience by experience."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[list[list[int]]] = []
        self.images: list[list[Tensor]] = []

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.labels.append([])
        self.images.append([])

    def before_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.labels[-1].append(strategy.mb_y.tolist())
        self.images[-1].append(strategy.mb_x.clone())

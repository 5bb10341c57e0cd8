"""Class-incremental streams out of image data, and what is measured on them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ddreplay import ClassPool
from ddreplay.data.pool import pick_device
from ddreplay.datasets import ImageData
from ddreplay.evaluation import accuracy
from ddreplay.randomness import Random

__all__ = ["Stream", "average_accuracy", "backward_transfer", "class_incremental_stream", "forgetting"]

Accuracies = Sequence[Sequence[float] | None]
"""Row i: after experience i, or None where nothing was measured; column j: accuracy in percent on the test images of experience j."""


@dataclass(frozen=True)
class Stream:
    """Experiences of disjoint classes.

    order: the classes of each experience. train: Avalanche's stream. test: one pool per experience.
    """

    order: list[list[int]]
    train: Any
    test: list[ClassPool]
    classes: int

    def measure(self, net: nn.Module) -> list[float]:
        """Accuracy on every experience's test images, seen or not; outputs are class ids, none masked."""
        return [accuracy(net, pool, pool.class_ids.tolist()) for pool in self.test]


def class_incremental_stream(
    data: ImageData,
    experiences: int,
    seed: int,
    *,
    device: str = "auto",
    per_class: int | None = None,
    order: Literal["drawn", "fixed"] = "drawn",
) -> Stream:
    """A stream whose class order is drawn from ``seed``, or fixed.

    Args:
        experiences: must divide the number of classes.
        order: ``"fixed"``: classes come in the order of their labels, and only the choice of images follows from ``seed``.
        per_class: at most this many training images of every class, drawn at random.
    Raises:
        ValueError: when the classes do not divide into ``experiences``.
    """
    from avalanche.benchmarks import benchmark_from_datasets

    if experiences < 1 or data.classes % experiences:
        raise ValueError(f"{data.classes} classes do not divide into {experiences} experiences")
    random = Random(seed)
    permutation = torch.randperm(data.classes, generator=random.cpu).tolist()
    size = data.classes // experiences
    classes_in_order = permutation if order == "drawn" else list(range(data.classes))
    divided = [classes_in_order[k : k + size] for k in range(0, data.classes, size)]
    place = pick_device(device)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (data.mean, data.std))
    train = []
    for classes in divided:
        rows = _rows(data.train_labels, classes, per_class, random)
        x = (data.train_images[rows].float() / 255 - mean) / std
        train.append(_dataset(x, data.train_labels[rows]))
    test = [_test_pool(data, classes, place) for classes in divided]
    return Stream(divided, benchmark_from_datasets(train=train).train_stream, test, data.classes)


def _rows(labels: Tensor, classes: Sequence[int], per_class: int | None, random: Random) -> Tensor:
    found = []
    for c in classes:
        rows = (labels == c).nonzero().flatten()
        found.append(rows[torch.randperm(len(rows), generator=random.cpu)[: per_class or len(rows)]])
    return torch.cat(found)


class _Pairs(Dataset[tuple[Tensor, int]]):
    """Items (image, label) of tensors."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.targets = x, y.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], self.targets[index]


def _dataset(x: Tensor, y: Tensor) -> Any:
    """With one task label for all, which some strategies ask for (LwF)."""
    from avalanche.benchmarks.utils import (
        ConstantSequence,
        DataAttribute,
        TaskAwareSupervisedClassificationDataset,
        TaskLabels,
    )

    pairs = _Pairs(x, y)
    attributes = [DataAttribute(pairs.targets, "targets"), TaskLabels(ConstantSequence(0, len(pairs)))]
    return TaskAwareSupervisedClassificationDataset([pairs], data_attributes=attributes)


def _test_pool(data: ImageData, classes: Sequence[int], device: torch.device) -> ClassPool:
    rows = torch.isin(data.test_labels, torch.tensor(list(classes)))
    names = dict(enumerate(data.class_names))
    return ClassPool(
        data.test_images[rows], data.test_labels[rows], mean=data.mean, std=data.std, class_names=names, device=device
    )


def average_accuracy(found: Accuracies, after: int | None = None) -> float:
    """Mean accuracy over the experiences seen, after the last one or after number ``after``.

    Raises:
        ValueError: where nothing was measured then.
    """
    last = len(found) - 1 if after is None else after
    row = found[last]
    if row is None:
        raise ValueError(f"nothing was measured after experience {last}")
    return statistics.fmean(row[: last + 1])


def forgetting(found: Accuracies) -> float | None:
    """Mean over earlier experiences of the best accuracy there was less the last one (Chaudhry et al., ECCV 2018).

    None where accuracies were not measured after every experience.
    """
    rows = [row for row in found if row is not None]
    last = len(found) - 1
    if len(rows) <= last:
        return None
    if last == 0:
        return 0.0
    return statistics.fmean(max(rows[i][j] for i in range(j, last)) - rows[last][j] for j in range(last))


def backward_transfer(found: Accuracies) -> float | None:
    """Mean over earlier experiences of the last accuracy less the one right after learning (Lopez-Paz and Ranzato, NeurIPS 2017).

    None where accuracies were not measured after every experience.
    """
    rows = [row for row in found if row is not None]
    last = len(found) - 1
    if len(rows) <= last:
        return None
    if last == 0:
        return 0.0
    return statistics.fmean(rows[last][j] - rows[j][j] for j in range(last))

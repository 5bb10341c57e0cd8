"""From an experience's dataset to tensors, and from a memory's tensors to a dataset of the same structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from avalanche.benchmarks.utils import (
    AvalancheDataset,
    ConstantSequence,
    DataAttribute,
    TaskAwareSupervisedClassificationDataset,
    TaskLabels,
    TransformGroups,
)
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset
from torch import Tensor
from torch.utils.data import Dataset

from ddreplay.randomness import Random

__all__ = ["ImageLabelPairs", "Samples", "join", "memory_dataset", "read"]

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Samples:
    """What a dataset holds, in the networks' input space.

    x: float [n, ...]. y, task: int64 [n]; task is 0 where there are no task labels. task_aware: samples are (x, y, task).
    tensor_labels: a sample's label is a tensor, not an int; the memory's must be alike, since both meet in one batch.
    """

    x: Tensor
    y: Tensor
    task: Tensor
    task_aware: bool
    tensor_labels: bool = False

    def check(self) -> None:
        """Refuse samples that are none, such as a file may hold.

        Raises:
            TypeError, ValueError: unless x is finite floats, and y and task are integers, as many.
        """
        for labels in (self.y, self.task):
            if labels.dtype != torch.int64 or labels.shape != self.x.shape[:1]:
                raise ValueError(
                    f"labels and tasks must be int64 [{len(self.x)}], got {labels.dtype} {list(labels.shape)}"
                )
        if not self.x.is_floating_point() or not bool(torch.isfinite(self.x).all()):
            raise ValueError("samples must be finite floats")

    def groups(self) -> set[tuple[int, int]]:
        """All pairs (task, class)."""
        return set(zip(self.task.tolist(), self.y.tolist(), strict=True))

    @property
    def nbytes(self) -> int:
        return self.x.nbytes + self.y.nbytes + self.task.nbytes


def read(dataset: Any, task_labels: str = "auto") -> Samples:
    """All samples of a dataset that is not empty, through its evaluation transforms.

    Args:
        dataset: of Avalanche, or any map-style one with items (tensor, label), which counts as task-aware, with task 0.
        task_labels: ``"auto"`` as the dataset has it, ``"always"`` (0 where there are none) or ``"never"``.
    Raises:
        ValueError: when a sample is neither (float tensor, label) nor (float tensor, label, task), or shapes differ.
    """
    of_avalanche = isinstance(dataset, AvalancheDataset)
    if of_avalanche:
        dataset = dataset.eval()
    with Random(0).scope():  # an evaluation transform that draws must not move the caller's generator
        items = [dataset[k] for k in range(len(dataset))]
    first = items[0]
    if len(first) not in (2, 3):
        raise ValueError(f"samples must be (image, label) or (image, label, task), got {len(first)} parts")
    if not isinstance(first[0], Tensor) or not first[0].is_floating_point():
        kind = f"a {first[0].dtype} tensor" if isinstance(first[0], Tensor) else f"a {type(first[0]).__name__}"
        raise ValueError(f"evaluation transforms must give float tensors, got {kind}; add ToTensor()")
    shapes = {tuple(item[0].shape) for item in items}
    if len(shapes) > 1:
        raise ValueError(f"images differ in shape ({sorted(shapes)[:3]} ...): resize or crop them to one")
    use_tasks = len(first) == 3 and task_labels != "never"
    return Samples(
        x=torch.stack([item[0].detach().cpu() for item in items]),
        y=torch.tensor([int(item[1]) for item in items]),
        task=torch.tensor([int(item[2]) if use_tasks else 0 for item in items]),
        task_aware=use_tasks or task_labels == "always" or (task_labels == "auto" and not of_avalanche),
        tensor_labels=isinstance(first[1], Tensor),
    )


def join(parts: Sequence[Samples]) -> Samples:
    """All samples, in order; the structure of the newest."""
    return Samples(
        torch.cat([part.x for part in parts]),
        torch.cat([part.y for part in parts]),
        torch.cat([part.task for part in parts]),
        parts[-1].task_aware,
        parts[-1].tensor_labels,
    )


class ImageLabelPairs(Dataset[tuple[Tensor, Any]]):
    """Items (image, label) with the label as a Python integer, as data sets of torchvision have them, or as a tensor."""

    def __init__(self, x: Tensor, y: Sequence[int], tensor_labels: bool = False) -> None:
        self.x, self.targets, self.tensor_labels = x, list(y), tensor_labels

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        label = self.targets[index]
        return self.x[index], torch.tensor(label) if self.tensor_labels else label


def memory_dataset(
    x: Tensor,
    y: Sequence[int],
    task: Sequence[int] | None,
    replay_transform: Transform | None = None,
    *,
    tensor_labels: bool = False,
) -> AvalancheDataset:
    """Stored images as a dataset of Avalanche, which nothing normalises or augments again.

    Args:
        x: on the CPU, without gradients, and no view of a larger tensor, which a pickle would hold whole.
        task: a label for every image: items are (image, label, task); ``None``: (image, label).
        replay_transform: applied to images in the train group only.
        tensor_labels: labels are tensors, not ints.
    """
    attributes: list[Any] = [DataAttribute(list(y), "targets")]
    if task is not None:
        # one constant joins with Avalanche's own constants; a list does not
        constant = len(set(task)) <= 1
        attributes.append(TaskLabels(ConstantSequence(task[0] if task else 0, len(task)) if constant else list(task)))
    kind = ClassificationDataset if task is None else TaskAwareSupervisedClassificationDataset
    groups = None if replay_transform is None else TransformGroups({"train": replay_transform, "eval": None})
    return kind([ImageLabelPairs(x, y, tensor_labels)], data_attributes=attributes, transform_groups=groups)

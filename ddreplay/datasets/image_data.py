"""What a reader returns: uint8 images and labels in splits, with names and normalisation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from ddreplay.augment import NATURAL
from ddreplay.data.pool import ClassPool
from ddreplay.randomness import Random

__all__ = ["ImageData", "Images", "LabelledImages", "Splits", "from_arrays", "validation_split"]


class Images(NamedTuple):
    """uint8 images [n, c, h, w] and their labels, int64 [n]."""

    x: UInt8[Tensor, "n c h w"]
    y: Int64[Tensor, " n"]


class Splits(NamedTuple):
    """What a reader finds in its files, before the normalisation is chosen."""

    train: Images
    test: Images
    class_names: tuple[str, ...]
    val: Images | None = None
    notes: tuple[str, ...] = ()


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Items (image, label) in memory. targets: all labels, as data sets of torchvision have them."""

    def __init__(self, x: Float[Tensor, "n c h w"], targets: list[int]) -> None:
        self.x, self.targets = x, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], self.targets[index]


@dataclass(frozen=True)
class ImageData:
    """A data set in memory: uint8 images as they are stored, never normalised.

    Attributes:
        name: the data set's name, or the file's or folder's name without its path.
        class_names: the name of label k at position k.
        mean, std: normalisation of pixels in [0, 1], one number per channel.
        normalization: which constants ``mean`` and ``std`` are.
        val_images, val_labels: the official validation split, where the files hold one.
        augmentation: the DSA operations that keep what these images are: without mirroring where they are digits or signs.
        notes: what the reader held out, and what it left out, in words.
    """

    train_images: UInt8[Tensor, "train c h w"]
    train_labels: Int64[Tensor, " train"]
    test_images: UInt8[Tensor, "test c h w"]
    test_labels: Int64[Tensor, " test"]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    normalization: str
    val_images: UInt8[Tensor, "val c h w"] | None = None
    val_labels: Int64[Tensor, " val"] | None = None
    augmentation: str = NATURAL
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        _, c, h, w = self.train_images.shape
        return c, h, w

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def pool(self, split: Literal["train", "test"] = "train", *, device: torch.device | str = "auto") -> ClassPool:
        """One split as a pool indexed by class; both splits are normalised with the same constants."""
        if split not in ("train", "test"):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        images, labels = (
            (self.train_images, self.train_labels) if split == "train" else (self.test_images, self.test_labels)
        )
        names = dict(enumerate(self.class_names))
        how: dict[str, Any] = {"mean": self.mean, "std": self.std, "augmentation": self.augmentation}
        return ClassPool(images, labels, class_names=names, device=device, **how)

    def dataset(self, split: Literal["train", "test"] = "train") -> LabelledImages:
        """One split as a map-style data set of (normalised float image, int label), which Avalanche and data loaders take."""
        batch = self.pool(split, device="cpu").all()
        return LabelledImages(batch.x, self.pool(split, device="cpu").relabel(batch.y).tolist())

    def for_tuning(self, *, fraction: float = 0.1, seed: int = 0) -> ImageData:
        """The data to choose hyper-parameters on: the test split is gone.

        In its place stand the official validation images, or else a stratified ``fraction`` of the train images, which
        leaves the train split. Normalisation constants stay as they are.
        """
        if self.val_images is not None and self.val_labels is not None:
            return replace(
                self, test_images=self.val_images, test_labels=self.val_labels, val_images=None, val_labels=None
            )
        kept, held = validation_split(self.train_labels, fraction=fraction, seed=seed)
        return replace(
            self,
            train_images=self.train_images[kept],
            train_labels=self.train_labels[kept],
            test_images=self.train_images[held],
            test_labels=self.train_labels[held],
        )


def validation_split(
    labels: Int64[Tensor, " n"], *, fraction: float, seed: int
) -> tuple[Int64[Tensor, " kept"], Int64[Tensor, " held"]]:
    """A stratified split: positions kept and positions held out, both ascending.

    Of a class of n images, ``fraction * n`` (rounded, at least one, never all) are held out; a class of one image keeps
    it.

    Args:
        fraction: of every class, between 0 and 1, both excluded.
        seed: the same labels, fraction and seed give the same split.
    Raises:
        ValueError: if ``fraction`` is out of range or there are no labels.

    >>> kept, held = validation_split(torch.tensor([0, 0, 0, 0, 1, 1]), fraction=0.25, seed=0)
    >>> len(kept), len(held)
    (4, 2)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, both excluded, got {fraction}")
    if len(labels) == 0:
        raise ValueError("labels are empty: there is nothing to split")
    random = Random(seed)
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels).tolist():
        members = (labels == label).nonzero().flatten().cpu()
        n = min(max(int(fraction * len(members) + 0.5), 1), len(members) - 1)
        held_out[members[torch.randperm(len(members), generator=random.cpu)[:n]]] = True
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()


def from_arrays(images: np.ndarray, labels: np.ndarray) -> Images:
    """uint8 arrays [n, h, w] or [n, h, w, c] and integer labels -> tensors, channels first."""
    x = torch.from_numpy(np.ascontiguousarray(images))
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()
    return Images(x, torch.from_numpy(np.asarray(labels).astype(np.int64)))

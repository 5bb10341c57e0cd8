"""Data sets that come with scikit-learn or through torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddreplay.datasets.image_data import Images, Splits, from_arrays, validation_split

__all__ = ["read_cifar", "read_digits", "read_gtsrb", "read_mnist", "read_svhn"]

_DIGITS = tuple(str(k) for k in range(10))


def read_digits() -> Splits:
    """scikit-learn's digits: 8 x 8, one channel. 30 % of every class are the test split, drawn with seed 0."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # 17 levels to 17 distinct levels: lossless
    x, y = from_arrays(pixels, bunch.target)
    train, test = validation_split(y, fraction=0.3, seed=0)
    return Splits(Images(x[train], y[train]), Images(x[test], y[test]), _DIGITS)


def read_mnist(name: str, root: Path, download: bool) -> Splits:
    """MNIST and Fashion-MNIST from their idx files: ``root/MNIST/raw``, ``root/FashionMNIST/raw``."""
    from torchvision.datasets import MNIST, FashionMNIST

    kind = MNIST if name == "mnist" else FashionMNIST
    train, test = (_open(kind, name, root, train=train, download=download) for train in (True, False))
    names = _DIGITS if name == "mnist" else tuple(kind.classes)
    parts = [Images(part.data[:, None].contiguous(), part.targets.long()) for part in (train, test)]
    return Splits(parts[0], parts[1], names)


def read_cifar(name: str, root: Path, download: bool) -> Splits:
    """CIFAR-10 and CIFAR-100 (fine labels) from their python batches."""
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = CIFAR10 if name == "cifar10" else CIFAR100
    train, test = (_open(kind, name, root, train=train, download=download) for train in (True, False))
    parts = [from_arrays(part.data, np.array(part.targets)) for part in (train, test)]
    return Splits(parts[0], parts[1], tuple(train.classes))


def read_svhn(name: str, root: Path, download: bool) -> Splits:
    """SVHN's cropped digits, train and test, from their .mat files; the extra split is not read."""
    from torchvision.datasets import SVHN

    train, test = (_open(SVHN, name, root, split=split, download=download) for split in ("train", "test"))
    parts = [Images(torch.from_numpy(part.data.copy()), torch.from_numpy(part.labels)) for part in (train, test)]
    return Splits(parts[0], parts[1], _DIGITS)


def read_gtsrb(root: Path, download: bool, *, size: int = 32) -> Splits:
    """GTSRB's traffic signs, resized to ``size`` pixels a side (bilinear); classes are named by number."""
    from torchvision.datasets import GTSRB

    train, test = (_open(GTSRB, "gtsrb", root, split=split, download=download) for split in ("train", "test"))
    return Splits(_resized(train, size), _resized(test, size), tuple(str(k) for k in range(43)))


def _resized(dataset: Any, size: int) -> Images:
    from PIL.Image import Resampling

    images, labels = [], []
    for index in range(len(dataset)):
        image, label = dataset[index]
        images.append(np.asarray(image.resize((size, size), Resampling.BILINEAR)))
        labels.append(label)
    return from_arrays(np.stack(images), np.array(labels))


def _open(kind: Any, name: str, root: Path, *, download: bool, **which: Any) -> Any:
    if download:
        root.mkdir(parents=True, exist_ok=True)
    try:
        return kind(root, download=download, **which)
    except (RuntimeError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f"{name} was not read from root={str(root)!r} ({error}); give root= of its official files, or download=True"
        ) from error

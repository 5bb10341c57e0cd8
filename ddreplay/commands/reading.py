"""What the commands read: data sets, in words and as pools."""

from __future__ import annotations

from typing import Literal

from ddreplay.commands.words import Reading
from ddreplay.data import ClassPool
from ddreplay.datasets import ImageData, load
from ddreplay.datasets.load import has_any_size
from ddreplay.storage import CondensedSet

__all__ = ["about_data", "read_as_condensed", "real_pool"]


def read_as_condensed(source: str, condensed: CondensedSet, reading: Reading) -> ImageData:
    """Data as a set's own were read: what is not given is what the set was condensed with."""
    before = condensed.provenance.get("data")
    before = before if isinstance(before, dict) else {}
    names = ("size", "resize", "test_fraction", "augmentation")
    read = {**{k: before[k] for k in names if before.get(k) is not None}, **reading.said}
    if not has_any_size(source) and reading.size is None:
        read.pop("size", None)
    return load(source, **reading.found, **read)


def about_data(data: ImageData, split: Literal["train", "test"]) -> str:
    """What was read, in one line."""
    images = data.train_images if split == "train" else data.test_images
    c, h, w = data.shape
    shown = ", ".join(data.class_names[:8]) + (", ..." if data.classes > 8 else "")
    read = f"{len(images)} images to {'condense' if split == 'train' else 'test on'}, {c} x {h} x {w}, {data.classes} classes ({shown})"
    return "; ".join([read, *data.notes])


def real_pool(data: ImageData, condensed: CondensedSet, split: Literal["train", "test"], device: str) -> ClassPool:
    """A split as a pool, normalised with a set's own constants."""
    part = condensed.parts[0]
    images = (data.train_images, data.train_labels) if split == "train" else (data.test_images, data.test_labels)
    names = dict(enumerate(data.class_names))
    return ClassPool(*images, mean=part.mean, std=part.std, class_names=names, device=device)

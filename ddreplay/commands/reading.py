"""What the commands read: data sets, in words and as pools."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ddreplay.data import ClassPool
from ddreplay.datasets import ImageData, load
from ddreplay.storage import CondensedSet

__all__ = ["about_data", "read_as_condensed", "real_pool"]


def read_as_condensed(
    source: str,
    condensed: CondensedSet,
    *,
    root: Path | None = None,
    download: bool = False,
    size: int | None = None,
    **given: Any,
) -> ImageData:
    """Data as a set's own were read: what is not given is what the set was condensed with.

    Args:
        given: ``resize``, ``test_fraction``, ``augmentation``, as `load` takes them.
    """
    before = condensed.provenance.get("data")
    before = before if isinstance(before, dict) else {}
    read: dict[str, Any] = {k: before.get(k) if v is None else v for k, v in {"size": size, **given}.items()}
    if not Path(source).is_dir() and source != "gtsrb":
        read["size"] = size
    return load(source, root=root, download=download, **{k: v for k, v in read.items() if v is not None})


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

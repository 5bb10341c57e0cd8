"""Data sets of Hugging Face's library, read into memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ddreplay.augment import NATURAL, Siamese
from ddreplay.datasets.files import MAX_CLASSES, Fit, Resize, upright
from ddreplay.datasets.image_data import ImageData, Images, from_arrays, validation_split
from ddreplay.datasets.normalization import channel_moments

__all__ = ["from_hugging_face"]


def from_hugging_face(
    found: Any,
    *,
    image: str = "image",
    label: str = "label",
    size: int | None = None,
    resize: Resize = "crop",
    test_fraction: float = 0.3,
    split_seed: int = 0,
    name: str = "hugging-face",
    augmentation: str = NATURAL,
) -> ImageData:
    """A ``datasets.Dataset`` or ``DatasetDict`` of images and labels -> image data that condense and evaluate take.

    Of a dictionary ``train`` is taken, and ``test`` or else ``validation`` to test on; where there is neither, a share of every class
    is held out of ``train``. ``validation`` beside ``test`` holds the validation images. Images are gray where all are, else RGB. The
    pictures are decoded by ``datasets`` itself (``ddreplay[huggingface]``).

    Args:
        image, label: the columns. Labels are integers from 0; where they are of ``ClassLabel``, its names are the classes'.
        size, resize: as in `load`, for images of different sizes.
        test_fraction, split_seed: the stratified test split where there is none.
        name: of the data, for provenance.
    Raises:
        ValueError: when a split or a column is missing, a label is no integer from 0, or images differ in size and no ``size`` is
            given.
    """
    Siamese(augmentation)  # refuses what is no operation
    given = dict(found) if isinstance(found, Mapping) else {"train": found}
    if "train" not in given:
        raise ValueError(f"the data set must have a split train, got {', '.join(map(str, given)) or 'none'}")
    wanted = [split for split in ("train", "test", "validation") if split in given]
    pictures = {split: _pictures(given[split], split, (image, label), Fit(size, resize)) for split in wanted}
    colour = any(picture.ndim == 3 for images, _ in pictures.values() for picture in images)
    splits = {split: _stacked(images, labels, colour) for split, (images, labels) in pictures.items()}
    notes: tuple[str, ...] = ()
    if len(splits) == 1:
        x, y = splits["train"]
        kept, held = validation_split(y, fraction=test_fraction, seed=split_seed)
        splits = {"train": Images(x[kept], y[kept]), "test": Images(x[held], y[held])}
        drawn = f"{test_fraction:.0%} of every class drawn with seed {split_seed}"
        notes = (f"{len(held)} images, {drawn}, are held out for testing",)
    test = splits.get("test") or splits["validation"]
    val = splits.get("validation") if "test" in splits else None
    constants = channel_moments(splits["train"].x)
    return ImageData(
        *splits["train"],
        *test,
        _class_names(given["train"], label, [labels for _, labels in pictures.values()]),
        constants.mean,
        constants.std,
        name,
        constants.name,
        val_images=None if val is None else val.x,
        val_labels=None if val is None else val.y,
        augmentation=augmentation,
        notes=notes,
    )


def _pictures(split: Any, where: str, columns: tuple[str, str], fit: Fit) -> tuple[list[np.ndarray], list[int]]:
    """uint8 [h, w] or [h, w, 3] for every row, all of one size, and its label."""
    missing = [name for name in columns if name not in split.column_names]
    if missing:
        raise ValueError(f"split {where} has no column {missing[0]!r}; it has {', '.join(split.column_names)}")
    if not len(split):
        raise ValueError(f"split {where} has no rows")
    images, labels = [], []
    for k, row in enumerate(split):
        value = row[columns[1]]
        if type(value) is not int or not 0 <= value < MAX_CLASSES:
            raise ValueError(
                f"label {k} of split {where} must be an integer from 0 to {MAX_CLASSES - 1}, got {value!r}"
            )
        images.append(np.array(fit(upright(row[columns[0]]))))
        labels.append(value)
        if images[k].shape[:2] != images[0].shape[:2]:
            raise ValueError(f"images of split {where} differ in size; give size=64, or another, to make them one size")
    return images, labels


def _stacked(images: list[np.ndarray], labels: list[int], colour: bool) -> Images:
    if colour:
        images = [picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2) for picture in images]
    return from_arrays(np.stack(images), np.array(labels))


def _class_names(split: Any, label: str, labels: list[list[int]]) -> tuple[str, ...]:
    """Those of the column, else the numbers."""
    names = getattr(split.features[label], "names", None)
    return tuple(names or map(str, range(1 + max(map(max, labels)))))

"""Images from files of one's own: an .npz in the MedMNIST layout, or a folder of class folders."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from ddreplay.datasets.image_data import Images, Splits, from_arrays, validation_split

__all__ = ["Fit", "Resize", "open_npz", "read_array", "read_folder", "read_npz"]

Resize = Literal["crop", "squash"]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm"}
_GRAY = {"1", "L", "LA"}
_COLOUR = {"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"}


def read_npz(path: Path) -> Splits:
    """A file in the MedMNIST layout.

    ``train_images``, ``test_images`` (optional ``val_images``): uint8 [n, h, w] or [n, h, w, c]; ``train_labels``, ...:
    integers [n] or [n, 1], from 0; optional ``class_names``. Nothing is ever unpickled.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the key that is missing or of the wrong kind.
    """
    archive = open_npz(path)
    with archive:
        train, test = (_split(archive, path, split) for split in ("train", "test"))
        val = _split(archive, path, "val") if "val_images" in archive.files else None
        names = read_array(archive, path, "class_names") if "class_names" in archive.files else None
    parts = [train, test, *([] if val is None else [val])]
    if len({part.x.shape[1:] for part in parts}) > 1:
        raise ValueError(
            f"{path.name}: the splits differ in image shape: {[tuple(part.x.shape[1:]) for part in parts]}"
        )
    classes = 1 + max(int(part.y.max()) for part in parts)
    if names is None:
        return Splits(train, test, tuple(str(k) for k in range(classes)), val)
    if names.ndim != 1 or len(names) < classes:
        raise ValueError(f"{path.name}: class_names has shape {names.shape} but labels run to {classes - 1}")
    return Splits(train, test, tuple(str(name) for name in names), val)


def open_npz(path: Path) -> Any:
    """The archive, opened without unpickling; errors name the file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path.name} is not an .npz archive; write it with numpy.savez")
    return np.load(path, allow_pickle=False)


def read_array(archive: Any, path: Path, key: str) -> np.ndarray:
    """One array of an archive; errors name the file and the key."""
    if key not in archive.files:
        raise ValueError(f"{path.name} has no {key!r}; it holds {sorted(archive.files)}")
    try:
        array = archive[key]
    except ValueError as error:
        raise ValueError(
            f"{path.name}: {key!r} could not be read ({error}); pickled objects are refused, save plain arrays"
        ) from error
    return np.asarray(array)


def _split(archive: Any, path: Path, split: str) -> Images:
    images, labels = (read_array(archive, path, f"{split}_{what}") for what in ("images", "labels"))
    where = f"{path.name}: {split}_images"
    if images.dtype != np.uint8:
        raise ValueError(f"{where} must be uint8, got {images.dtype}; scale pixels to 0..255 and round them")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(f"{where} must be [n, h, w] or [n, h, w, c] and not empty, got shape {images.shape}")
    if images.ndim == 4 and images.shape[3] > 4 and images.shape[1] in (1, 3):
        raise ValueError(
            f"{where} has shape {images.shape}, channels first; the layout is [n, h, w, c]: transpose(0, 2, 3, 1)"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    where = f"{path.name}: {split}_labels"
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{where} must be integers, got {labels.dtype}")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{where} must be [n] or [n, 1] with n = {len(images)}, one label an image, got {labels.shape}"
        )
    if labels.min() < 0:
        raise ValueError(f"{where} must count from 0, got {labels.min()}")
    return from_arrays(images, labels)


@dataclass(frozen=True)
class Fit:
    """How images of any size become images of one.

    size: pixels a side; ``None``: images stay as they are, and must be of one size.
    resize: ``"crop"``: the shorter side is resized and the centre is cut out; ``"squash"``: both sides are resized.
    """

    size: int | None = None
    resize: Resize = "crop"

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be at least 1 pixel a side, got {self.size}")
        if self.resize not in get_args(Resize):
            raise ValueError(f"resize must be crop or squash, got {self.resize!r}")

    def __call__(self, image: Any) -> Any:
        """A picture of Pillow -> one of the size asked for."""
        from PIL import Image, ImageOps

        if self.size is None or image.size == (self.size, self.size):
            return image
        if self.resize == "crop":
            return ImageOps.fit(image, (self.size, self.size), Image.Resampling.BILINEAR)
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR)


def read_folder(folder: Path, fit: Fit = Fit(), *, test_fraction: float = 0.3, split_seed: int = 0) -> Splits:
    """A folder with one folder per class, or with train/ and test/ (or val/) that have them; labels follow sorted names.

    Images are gray where every file is, else RGB (alpha is dropped); photos are turned as their camera says. They must be of one size
    unless ``fit`` makes them so. Beside train/ and test/, val/ holds validation images; beside train/ alone it is the test split.
    Where there are none of these, a stratified ``test_fraction`` is held out, drawn with ``split_seed``.

    Raises:
        ValueError: naming the file that cannot be read, differs in size, or is out of place.
    """
    parts = {part.name for part in _folders(folder)} & {"train", "test", "val"}
    if not parts:
        return _split_up(folder, fit, test_fraction, split_seed)
    test = "test" if "test" in parts else "val"
    if not {"train", test} <= parts:
        raise ValueError(
            f"{folder.name} has {sorted(parts)} but needs train and test (or train and val); rename them, or remove the level"
        )
    order = ["train", test, *(["val"] if {"test", "val"} <= parts else [])]
    names = _class_names(folder / "train")
    listed = [_listing(folder / part, names) for part in order]
    images = _decode([path for found in listed for path in found.files], fit)
    splits: dict[str, Images] = {}
    for part, found in zip(order, listed, strict=True):
        splits[part] = from_arrays(images[: len(found.files)], np.array(found.labels))
        images = images[len(found.files) :]
    notes = (f"{len(listed[1].files)} images of {test}/ are for testing", *_left_out(listed))
    return Splits(splits["train"], splits[test], names, splits.get("val") if test == "test" else None, notes)


def _split_up(folder: Path, fit: Fit, fraction: float, seed: int) -> Splits:
    names = _class_names(folder)
    found = _listing(folder, names)
    train, test = validation_split(torch.tensor(found.labels), fraction=fraction, seed=seed)
    if len(test) == 0:
        raise ValueError(f"no class of {folder.name} has two images: nothing is left to test on")
    x, y = from_arrays(_decode(found.files, fit), np.array(found.labels))
    held = f"{len(test)} images, {fraction:.0%} of every class drawn with seed {seed}, are held out for testing"
    return Splits(Images(x[train], y[train]), Images(x[test], y[test]), names, notes=(held, *_left_out([found])))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _folders(folder))
    if not names:
        raise ValueError(f"{folder.name} holds no class folders; put the images of every class in a folder of its own")
    return names


@dataclass
class _Found:
    """Image files with their labels, and what else lay beside them."""

    files: list[Path]
    labels: list[int]
    others: list[Path]


def _listing(folder: Path, names: tuple[str, ...]) -> _Found:
    found = _Found([], [], [path for path in _visible(folder) if not path.is_dir()])
    for sub in _folders(folder):
        if sub.name not in names:
            raise ValueError(f"class {sub.name!r} is in {folder.name} but not in train")
        inside = _visible(sub)
        images = [path for path in inside if path.suffix.lower() in _SUFFIXES and not path.is_dir()]
        if not images:
            raise ValueError(
                f"class folder {sub.name!r} in {folder.name} holds no images ({', '.join(sorted(_SUFFIXES))})"
            )
        found.files += images
        found.labels += [names.index(sub.name)] * len(images)
        found.others += [path for path in inside if path not in set(images)]
    if not found.files:
        raise ValueError(f"{folder.name} holds no class folders")
    return found


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _left_out(listed: Sequence[_Found]) -> tuple[str, ...]:
    """A sentence on what was not read, if anything was not."""
    others = [path for found in listed for path in found.others]
    kinds = Counter("folders" if path.is_dir() else path.suffix.lower() or "no suffix" for path in others)
    if not kinds:
        return ()
    kept = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
    return (f"{len(others)} of other kinds were left out ({kept}); read are {' '.join(sorted(_SUFFIXES))}",)


def _decode(files: Sequence[Path], fit: Fit) -> np.ndarray:
    """uint8 [n, h, w] where every file is gray, else [n, h, w, 3]."""
    images = [_decode_one(path, fit) for path in files]
    for path, image in zip(files, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            (h, w), (first_h, first_w) = image.shape[:2], images[0].shape[:2]
            raise ValueError(
                f"{_shown(path)} is {w} x {h} pixels but {_shown(files[0])} is {first_w} x {first_h}; "
                "give size=64 (--size 64), or another, to make them one size"
            )
    if all(image.ndim == 2 for image in images):
        return np.stack(images)
    return np.stack([image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2) for image in images])


def _shown(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _decode_one(path: Path, fit: Fit) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image.load()
            if image.mode not in _GRAY | _COLOUR:
                raise ValueError(f"{_shown(path)} has pixels of mode {image.mode!r}; save it with 8 bits a channel")
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("P", "PA"):
                plain = upright.convert("RGBA").convert("RGB")
            else:
                plain = upright.convert("L" if upright.mode in _GRAY else "RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{_shown(path)} is no readable image: {error}") from error
    return np.array(fit(plain))

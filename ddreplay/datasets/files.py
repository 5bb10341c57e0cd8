"""Images from files of one's own: an .npz in the MedMNIST layout, or a folder of class folders."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from ddreplay.datasets.image_data import Images, Splits, from_arrays, validation_split

__all__ = ["Fit", "Npz", "Resize", "open_npz", "read_array", "read_folder", "read_npz", "upright"]

Resize = Literal["crop", "squash"]

MAX_CLASSES = 2**16
"""Labels count the classes from 0, and every class gets a name."""

_ALWAYS_ALLOWED = 2**28  # bytes that the arrays of any archive may take
_LARGEST_RATIO = 100  # times the archive, where that is more; images of digits deflate to a tenth
_LARGEST_PICTURE = 2**26  # pixels of one file
_LARGEST_SIZE = 2**12  # pixels a side that images are made to have

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "AVIF", "TIFF", "PPM")
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
    if names.ndim != 1 or not classes <= len(names) <= MAX_CLASSES:
        raise ValueError(
            f"{path.name}: class_names has shape {names.shape} but labels run to {classes - 1}, and there may be {MAX_CLASSES}"
        )
    return Splits(train, test, tuple(str(name) for name in names), val)


def open_npz(path: Path) -> Npz:
    """The archive, opened without unpickling; errors name the file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path.name} is not an .npz archive; write it with numpy.savez")
    return Npz(path)


class Npz:
    """Arrays of an archive, whose declared shapes and sizes are known before anything is inflated.

    files: their names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._errors("the archive"):
            self._archive = zipfile.ZipFile(path)
            names = [name for name in self._archive.namelist() if name.endswith(".npy")]
        self.files = [name.removesuffix(".npy") for name in names]
        self._left = max(_ALWAYS_ALLOWED, _LARGEST_RATIO * path.stat().st_size)

    def __enter__(self) -> Npz:
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()

    def declared(self, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and type of an array, by its header."""
        return self._declared(key)[:2]

    def read(self, key: str) -> np.ndarray:
        """One array. Raises ValueError where it is damaged, of Python objects, or larger than such a file may ask for."""
        shape, dtype, start = self._declared(key)
        size = dtype.itemsize * math.prod(shape)
        if size > self._left:
            raise ValueError(
                f"{self.path.name}: {key!r} declares {size} bytes, more than {_LARGEST_RATIO} times the file and than "
                f"{_ALWAYS_ALLOWED} bytes for all of its arrays; if that is meant, write it with numpy.savez, uncompressed"
            )
        self._left -= size
        with self._errors(key):
            if self._archive.getinfo(f"{key}.npy").file_size != start + size:
                raise ValueError(
                    f"{shape} of {dtype} are {start + size} bytes with the header, and the archive has another number"
                )
            with self._archive.open(f"{key}.npy") as member:
                return np.asarray(np.lib.format.read_array(member, allow_pickle=False))

    def _declared(self, key: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
        if key not in self.files:
            raise ValueError(f"{self.path.name} has no {key!r}; it holds {sorted(self.files)}")
        with self._errors(key), self._archive.open(f"{key}.npy") as member:
            version = np.lib.format.read_magic(member)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = header[min(version, (2, 0))](member)
            if dtype.hasobject:
                raise ValueError("it holds Python objects")
            return tuple(shape), dtype, member.tell()

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # zipfile, its codecs and numpy raise nearly anything on a damaged archive
            raise ValueError(
                f"{self.path.name}: {key!r} could not be read ({error!r}); pickled objects are refused, save plain arrays"
            ) from error


def read_array(archive: Npz, path: Path, key: str) -> np.ndarray:
    """One array of an archive; errors name the file and the key."""
    return archive.read(key)


def _split(archive: Npz, path: Path, split: str) -> Images:
    """Labels first: what they and the headers say of the images is known before any is inflated."""
    shape, dtype = archive.declared(f"{split}_images")
    where = f"{path.name}: {split}_images"
    if dtype != np.uint8:
        raise ValueError(f"{where} must be uint8, got {dtype}; scale pixels to 0..255 and round them")
    if len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(f"{where} must be [n, h, w] or [n, h, w, c] and not empty, got shape {shape}")
    if len(shape) == 4 and shape[3] > 4 and shape[1] in (1, 3):
        raise ValueError(
            f"{where} has shape {shape}, channels first; the layout is [n, h, w, c]: transpose(0, 2, 3, 1)"
        )
    where, declared = f"{path.name}: {split}_labels", archive.declared(f"{split}_labels")
    if not np.issubdtype(declared[1], np.integer):
        raise ValueError(f"{where} must be integers, got {declared[1]}")
    if declared[0] not in (shape[:1], (*shape[:1], 1)):
        raise ValueError(f"{where} must be [n] or [n, 1] with n = {shape[0]}, one label an image, got {declared[0]}")
    labels = archive.read(f"{split}_labels").reshape(-1)
    if labels.min() < 0:
        raise ValueError(f"{where} must count from 0, got {labels.min()}")
    if labels.max() >= MAX_CLASSES:
        raise ValueError(f"{where} must be below {MAX_CLASSES}, got {labels.max()}; number the classes 0, 1, 2, ...")
    return from_arrays(archive.read(f"{split}_images"), labels)


@dataclass(frozen=True)
class Fit:
    """How images of any size become images of one.

    size: pixels a side; ``None``: images stay as they are, and must be of one size.
    resize: ``"crop"``: the shorter side is resized and the centre is cut out; ``"squash"``: both sides are resized.
    """

    size: int | None = None
    resize: Resize = "crop"

    def __post_init__(self) -> None:
        if self.size is not None and (type(self.size) is not int or not 1 <= self.size <= _LARGEST_SIZE):
            raise ValueError(f"size must be a whole number in 1..{_LARGEST_SIZE} pixels a side, got {self.size!r}")
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


def read_folder(
    folder: Path,
    fit: Fit = Fit(),
    *,
    test_fraction: float = 0.3,
    split_seed: int = 0,
    classes: Sequence[str] | None = None,
) -> Splits:
    """A folder with one folder per class, or with train/ and test/ (or val/) that have them; labels follow sorted names.

    Images are gray where every file is, else RGB (alpha is dropped); photos are turned as their camera says. They must be of one size
    unless ``fit`` makes them so. Beside train/ and test/, val/ holds validation images; beside train/ alone it is the test split.
    Where there are none of these, a stratified ``test_fraction`` is held out, drawn with ``split_seed``.

    Args:
        classes: names of the class folders to read, in the order of their labels; ``None``: all.
    Raises:
        ValueError: naming the file that cannot be read, differs in size, or is out of place, or the class that has no folder.
    """
    parts = {part.name for part in _folders(folder)} & {"train", "test", "val"}
    if not parts:
        return _split_up(folder, fit, test_fraction, split_seed, classes)
    test = "test" if "test" in parts else "val"
    if not {"train", test} <= parts:
        raise ValueError(
            f"{folder.name} has {sorted(parts)} but needs train and test (or train and val); rename them, or remove the level"
        )
    order = ["train", test, *(["val"] if {"test", "val"} <= parts else [])]
    names = _class_names(folder / "train", classes)
    listed = [_listing(folder / part, names, classes) for part in order]
    images = _decode([path for found in listed for path in found.files], fit)
    splits: dict[str, Images] = {}
    for part, found in zip(order, listed, strict=True):
        splits[part] = from_arrays(images[: len(found.files)], np.array(found.labels))
        images = images[len(found.files) :]
    notes = (f"{len(listed[1].files)} images of {test}/ are for testing", *_left_out(listed))
    return Splits(splits["train"], splits[test], names, splits.get("val") if test == "test" else None, notes)


def _split_up(folder: Path, fit: Fit, fraction: float, seed: int, classes: Sequence[str] | None) -> Splits:
    names = _class_names(folder, classes)
    found = _listing(folder, names, classes)
    train, test = validation_split(torch.tensor(found.labels), fraction=fraction, seed=seed)
    if len(test) == 0:
        raise ValueError(f"no class of {folder.name} has two images: nothing is left to test on")
    x, y = from_arrays(_decode(found.files, fit), np.array(found.labels))
    held = f"{len(test)} images, {fraction:.0%} of every class drawn with seed {seed}, are held out for testing"
    return Splits(Images(x[train], y[train]), Images(x[test], y[test]), names, notes=(held, *_left_out([found])))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _class_names(folder: Path, classes: Sequence[str] | None = None) -> tuple[str, ...]:
    names = tuple(path.name for path in _folders(folder))
    if not names:
        raise ValueError(f"{folder.name} holds no class folders; put the images of every class in a folder of its own")
    if classes is None:
        return names
    missing = [name for name in classes if name not in names]
    if missing or not classes or len(set(classes)) < len(classes):
        raise ValueError(
            f"classes must be folders of {folder.name}, each named once; it has {len(names)} and not {missing}, got {list(classes)}"
        )
    return tuple(classes)


@dataclass
class _Found:
    """Image files with their labels, and what else lay beside them."""

    files: list[Path]
    labels: list[int]
    others: list[Path]


def _listing(folder: Path, names: tuple[str, ...], classes: Sequence[str] | None) -> _Found:
    found = _Found([], [], [path for path in _visible(folder) if not path.is_dir()])
    for sub in _folders(folder):
        if classes is not None and sub.name not in classes:
            continue
        if sub.name not in names:
            raise ValueError(f"class {sub.name!r} is in {folder.name} but not in train")
        inside = _visible(sub)
        images = [path for path in inside if path.suffix.lower() in _SUFFIXES and not path.is_dir()]
        for path in images:
            if not path.is_file():
                raise ValueError(f"{_shown(path)} is no file but a pipe, a device or a broken link; remove it")
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
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as image:
            _check_picture(image, path)
            image.load()
            turned = upright(image)
    except (_Refused, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on a damaged file
        raise ValueError(f"{_shown(path)} is no readable image: {error}") from error
    return np.array(fit(turned))


class _Refused(ValueError):
    """A picture that could be read, but is not one of those that are taken."""


def _check_picture(image: Any, path: Path) -> None:
    """What it declares, before it is decoded."""
    w, h = image.size
    if w * h > _LARGEST_PICTURE:
        raise _Refused(f"{_shown(path)} has {w} x {h} pixels, more than {_LARGEST_PICTURE}; make it smaller")
    if image.mode not in _GRAY | _COLOUR:
        raise _Refused(f"{_shown(path)} has pixels of mode {image.mode!r}; save it with 8 bits a channel")


def upright(image: Any) -> Any:
    """A picture of Pillow -> the same in gray or RGB, turned as the camera says."""
    from PIL import ImageOps

    turned = ImageOps.exif_transpose(image)
    if turned.mode in ("P", "PA"):
        return turned.convert("RGBA").convert("RGB")
    return turned.convert("L" if turned.mode in _GRAY else "RGB")

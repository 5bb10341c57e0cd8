"""One door to image data: a name, an .npz file or a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ddreplay.augment import DIGITS, NATURAL, Siamese
from ddreplay.datasets.files import Fit, Resize, read_folder, read_npz
from ddreplay.datasets.image_data import ImageData, Splits
from ddreplay.datasets.imagenet import SUBSETS, read_imagenet
from ddreplay.datasets.imagenet32 import GROUPS, read_imagenet32
from ddreplay.datasets.normalization import Normalization, channel_moments, normalization
from ddreplay.datasets.official import read_cifar, read_digits, read_gtsrb, read_mnist, read_svhn

__all__ = ["NAMES", "has_any_size", "load"]

_OFFICIAL: dict[str, Callable[[str, Path, bool], Splits]] = {
    "mnist": read_mnist,
    "fashion-mnist": read_mnist,
    "cifar10": read_cifar,
    "cifar100": read_cifar,
    "svhn": read_svhn,
}

_UNMIRRORED = ("digits", "mnist", "svhn", "gtsrb")  # a mirrored digit or sign is another one, or none

NAMES: tuple[str, ...] = (
    "digits",
    *_OFFICIAL,
    "gtsrb",
    "imagenet32",
    *(f"imagenet32:{group}" for group in GROUPS),
    *(f"imagenet:{subset}" for subset in SUBSETS),
)


def load(
    name_or_path: str | Path,
    *,
    root: str | Path | None = None,
    download: bool = False,
    normalization: str = "own",
    size: int | None = None,
    resize: Resize = "crop",
    test_fraction: float = 0.3,
    split_seed: int = 0,
    augmentation: str | None = None,
) -> ImageData:
    """Read a data set into memory.

    | name_or_path | what |
    |---|---|
    | ``digits`` | scikit-learn's 1,797 digits, 8 x 8, no files needed; values 0..16 stored as round(v * 255 / 16); 30 % of every class are the test split, drawn with seed 0 |
    | ``mnist``, ``fashion-mnist``, ``cifar10``, ``cifar100``, ``svhn`` | official splits, read by torchvision from ``root`` |
    | ``gtsrb`` | the same, resized to ``size`` (default 32), bilinear |
    | ``imagenet32:lizard`` (automobile, terrier, fish, lizard, truck, insect) | a fine-grained group of ImageNet32; ``root`` holds the official .npz batches and map_clsloc.txt |
    | ``imagenet32`` | all 1,000 classes, 3.9 GB in memory |
    | ``imagenet:woof`` (nette, woof, fruit, meow, squawk, yellow) | ten classes of ImageNet, cut and resized to ``size`` (default 128); ``root`` holds train/ and val/ with a folder for every class, named by its WordNet id, as ImageNette and ImageWoof come |
    | ``imagenet:n02086240,n02087394`` | those classes |
    | a path ending in ``.npz`` | MedMNIST layout: train_images, train_labels, test_images, test_labels, optional val_* and class_names |
    | a folder | one folder per class, inside train/ and test/ (and val/), or train/ and val/, where they exist, else split by ``test_fraction`` |

    Args:
        root: where the official files are or go; default ``data``, relative to the working directory.
        download: fetch missing official files (mnist, fashion-mnist, cifar10, cifar100, svhn, gtsrb).
        normalization: ``"own"``: the published constants of a named data set, else computed from the train split (files,
            folders, digits, gtsrb, imagenet32); ``"train"``: always computed from the train split; ``"cifar10"`` or
            ``"cifar100:dcc"``: those that the function ``normalization`` knows for this data set (and source).
        size: pixels a side to resize the images of a folder, of ImageNet or of GTSRB to, bilinear.
        resize: how the images of a folder or of ImageNet become square: ``"crop"`` resizes the shorter side and cuts out the centre, ``"squash"``
            resizes both. GTSRB is squashed, as everywhere.
        test_fraction, split_seed: the stratified test split of a folder that has none.
        augmentation: the DSA operations that keep what the images are; ``None``: all, but for digits, mnist, svhn and gtsrb (or files
            and folders called so), which are not mirrored. Folders of letters or signs want ``ddreplay.augment.DIGITS``.
    Raises:
        FileNotFoundError: if files are missing.
        ValueError: if a name is unknown or a file holds something else than it should.
    """  # noqa: E501
    name = str(name_or_path)
    folder = _is_folder(name)
    if size is not None and not has_any_size(name):
        raise ValueError(
            f"size is for folders of images, imagenet and gtsrb, got {size} for {name!r}, whose images have one"
        )
    own = name if name in _OFFICIAL else "imagenet" if name.startswith("imagenet:") else "train"
    where = Path("data" if root is None else root)
    if name == "digits":
        splits = read_digits()
    elif name == "gtsrb":
        splits = read_gtsrb(where, download, size=size or 32)
    elif name in _OFFICIAL:
        splits = _OFFICIAL[name](name, where, download)
    elif name == "imagenet32" or name.startswith("imagenet32:"):
        splits = read_imagenet32(where, group=name.partition(":")[2] or None)
    elif name.startswith("imagenet:"):
        splits = read_imagenet(where, name.partition(":")[2], Fit(128 if size is None else size, resize))
    elif name.endswith(".npz"):
        splits, name = read_npz(Path(name)), Path(name).stem
    elif folder:
        splits = read_folder(Path(name), Fit(size, resize), test_fraction=test_fraction, split_seed=split_seed)
        name = Path(name).resolve().name
    else:
        raise ValueError(f"{name!r} is neither a known name {NAMES} nor an .npz file nor an existing folder")
    constants = _constants(name, splits, own if normalization == "own" else normalization)
    if augmentation is None:
        augmentation = DIGITS if name in _UNMIRRORED else NATURAL
    Siamese(augmentation)  # refuses what is no operation
    return replace(_image_data(name, splits, constants), augmentation=augmentation)


def has_any_size(name: str) -> bool:
    """Whether images of this name or path come in sizes of their own, and are resized to one that is asked for."""
    return name == "gtsrb" or name.startswith("imagenet:") or _is_folder(name)


def _is_folder(name: str) -> bool:
    return name not in NAMES and Path(name).is_dir()


def _constants(name: str, splits: Splits, wanted: str) -> Normalization:
    if wanted == "train":
        return channel_moments(splits.train.x)
    dataset, _, source = wanted.partition(":")
    constants = normalization(dataset, source or "own")
    if len(constants.mean) != splits.train.x.shape[1]:
        raise ValueError(
            f"normalization {wanted!r} has {len(constants.mean)} channels but the images of {name!r} have "
            f"{splits.train.x.shape[1]}; use normalization='train'"
        )
    return constants


def _image_data(name: str, splits: Splits, constants: Normalization) -> ImageData:
    return ImageData(
        train_images=splits.train.x,
        train_labels=splits.train.y,
        test_images=splits.test.x,
        test_labels=splits.test.y,
        class_names=splits.class_names,
        mean=constants.mean,
        std=constants.std,
        name=name,
        normalization=constants.name,
        val_images=None if splits.val is None else splits.val.x,
        val_labels=None if splits.val is None else splits.val.y,
        notes=splits.notes,
    )

"""ImageNet32 and its fine-grained groups, from the official .npz batches.

The class of label k is the one numbered k in ``map_clsloc.txt`` (lines such as ``n02119789 1 kit_fox``), which is not
the alphabetical order of WordNet ids. The file comes with the ImageNet development kit and must lie beside the batches.

Reference: Chrabaszcz, Loshchilov and Hutter, "A Downsampled Variant of ImageNet as an Alternative to the CIFAR
datasets", 2017; groups: Lee et al., "Dataset Condensation with Contrastive Signals", ICML 2022, Table 6.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from ddreplay.datasets.files import open_npz, read_array
from ddreplay.datasets.image_data import Images, Splits

__all__ = ["GROUPS", "read_imagenet32"]

GROUPS: dict[str, tuple[str, ...]] = {
    "automobile": (
        "beach wagon", "convertible", "sports car", "ambulance", "jeep", "limousine", "racer", "cab", "Model T",
    ),
    "terrier": (
        "Lakeland terrier", "Scotch terrier", "cairn", "Airedale", "Tibetan terrier", "Yorkshire terrier",
        "Norfolk terrier", "Staffordshire bullterrier", "Sealyham terrier", "standard schnauzer", "Norwich terrier",
        "Bedlington terrier", "Lhasa", "Irish terrier", "silky terrier", "Dandie Dinmont", "Boston bull",
        "Border terrier", "soft-coated wheaten terrier", "Australian terrier", "American Staffordshire terrier",
        "West Highland white terrier", "giant schnauzer", "miniature schnauzer", "Kerry blue terrier",
        "wire-haired fox terrier",
    ),
    "fish": (
        "tench", "stingray", "tiger shark", "barracouta", "coho", "gar", "electric ray", "great white shark",
        "sturgeon", "puffer", "anemone fish", "goldfish", "eel", "rock beauty", "lionfish", "hammerhead",
    ),
    "lizard": (
        "agama", "banded gecko", "Komodo dragon", "frilled lizard", "African chameleon", "American chameleon",
        "green lizard", "whiptail", "common iguana", "alligator lizard", "Gila monster",
    ),
    "truck": (
        "pickup", "police van", "trailer truck", "minivan", "moving van", "tow truck", "fire engine", "garbage truck",
        "tractor",
    ),
    "insect": (
        "cricket", "ant", "leafhopper", "walking stick", "grasshopper", "dung beetle", "tiger beetle", "lacewing",
        "rhinoceros beetle", "ringlet", "long-horned beetle", "ladybug", "ground beetle", "cicada",
        "cabbage butterfly", "leaf beetle", "lycaenid", "bee", "monarch", "damselfly", "admiral", "sulphur butterfly",
        "dragonfly", "fly", "weevil", "cockroach", "mantis",
    ),
}  # fmt: skip


def read_imagenet32(root: Path, *, group: str | None = None) -> Splits:
    """All classes, or one group's relabelled 0..k-1 in the order of ImageNet32's own labels; test = ImageNet's val.

    Args:
        root: folder of ``train_data_batch_*.npz``, ``val_data.npz`` (``data`` uint8 [n, 3072], ``labels`` 1..1000) and
            ``map_clsloc.txt``.
        group: a key of ``GROUPS``.
    Raises:
        FileNotFoundError: naming the file that is missing.
        ValueError: if the group is unknown, a class is not in map_clsloc.txt, or a batch holds something else.
    """
    names = _class_names(root / "map_clsloc.txt")
    wanted = sorted(names) if group is None else _label_ids(names, group)
    batches = sorted(root.glob("train_data_batch_*.npz"), key=_batch_number)
    if not batches:
        raise FileNotFoundError(
            f"there are no train_data_batch_*.npz in {str(root)!r}: give root= of the ImageNet32 batches"
        )
    train = _read(batches, wanted)
    test = _read([root / "val_data.npz"], wanted)
    return Splits(train, test, tuple(names[k] for k in wanted))


def _class_names(path: Path) -> dict[int, str]:
    """ImageNet32's label -> class name, underscores as spaces."""
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path.name} in {str(path.parent)!r}; it names ImageNet32's labels (lines such as "
            "'n02119789 1 kit_fox') and comes with the ImageNet development kit: put it beside the batches"
        )
    names: dict[int, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3 or not fields[1].isdigit() or int(fields[1]) in names:
            raise ValueError(
                f"{path.name} line {number}: expected 'n02119789 1 kit_fox', each label once, got {line!r}"
            )
        names[int(fields[1])] = fields[2].replace("_", " ")
    return names


def _label_ids(names: dict[int, str], group: str) -> list[int]:
    if group not in GROUPS:
        raise ValueError(f"group must be one of {sorted(GROUPS)}, got {group!r}")
    ids: dict[str, list[int]] = {}
    for k, name in names.items():
        ids.setdefault(name.casefold(), []).append(k)
    found = {name: ids.get(name.casefold(), []) for name in GROUPS[group]}
    wrong = {name: labels for name, labels in found.items() if len(labels) != 1}
    if wrong:
        raise ValueError(f"every class of {group!r} must be in map_clsloc.txt once; labels found: {wrong}")
    return sorted(labels[0] for labels in found.values())


def _batch_number(path: Path) -> tuple[int, str]:
    digits = re.search(r"(\d+)$", path.stem)
    return (int(digits[1]) if digits else 0, path.stem)


def _read(paths: list[Path], wanted: list[int]) -> Images:
    position = np.full(max(wanted) + 1, -1, dtype=np.int64)
    position[wanted] = np.arange(len(wanted))
    pixels, labels = [], []
    for path in paths:
        with open_npz(path) as archive:
            ids = read_array(archive, path, "labels")
            if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer) or (len(ids) and ids.min() < 1):
                raise ValueError(f"{path.name}: labels must be integers [n] from 1, got {ids.dtype} {ids.shape}")
            ids = ids.astype(np.int64)
            rows = np.isin(ids, wanted)
            data = read_array(archive, path, "data")
        if data.dtype != np.uint8 or data.shape != (len(ids), 3 * 32 * 32):
            raise ValueError(f"{path.name}: data must be uint8 [{len(ids)}, 3072], got {data.dtype} {data.shape}")
        pixels.append(data[rows])
        labels.append(position[ids[rows]])
    x = np.concatenate(pixels).reshape(-1, 3, 32, 32)
    if len(x) == 0:
        raise ValueError(f"{', '.join(path.name for path in paths)} holds no image of the classes asked for")
    return Images(torch.from_numpy(x), torch.from_numpy(np.concatenate(labels)))

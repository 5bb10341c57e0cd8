"""Sets for Hugging Face's library and for WebDataset: every image and class comes back."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from ddreplay import ClassPool, CondensedSet
from ddreplay.data.space import to_pixels
from ddreplay.datasets import from_hugging_face
from ddreplay.methods import selections
from ddreplay.storage.hugging_face import to_hugging_face, write_parquet, write_webdataset


@pytest.fixture(name="condensed", params=[1, 3])
def _condensed(request: pytest.FixtureRequest) -> CondensedSet:
    """Two images of each of three classes, whose ids are not sorted and two of whose names are the same."""
    c = request.param
    x = torch.randint(256, (12, c, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    names = {7: "fox", 2: "cat", 30: "fox"}
    pool = ClassPool(
        x, torch.tensor([7, 2, 30]).repeat(4), class_names=names, mean=(0.4,) * c, std=(0.2,) * c, device="cpu"
    )
    return selections.random()(pool, 2)


def pixels_of(condensed: CondensedSet) -> list[tuple[int, torch.Tensor]]:
    found = []
    for part in condensed.parts:
        for class_id, images in zip(part.class_ids, part.images, strict=True):
            found += [(class_id, x.mul(255).round().byte()) for x in to_pixels(images, part.mean, part.std)]
    return found


def test_a_shard_holds_every_image_with_its_class(condensed: CondensedSet, tmp_path: Path) -> None:
    path = write_webdataset(condensed, tmp_path / "train-000000.tar")
    expected = pixels_of(condensed)
    with tarfile.open(path) as shard:
        names = shard.getnames()
        content = {name: shard.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    assert names == [f"{k:06d}.{kind}" for k in range(6) for kind in ("png", "cls", "json")]
    for k, (class_id, own) in enumerate(expected):
        with Image.open(io.BytesIO(content[f"{k:06d}.png"])) as picture:
            assert torch.equal(pil_to_tensor(picture), own)
        assert int(content[f"{k:06d}.cls"]) == class_id
        about = json.loads(content[f"{k:06d}.json"])
        assert about == {"class_id": class_id, "class_name": "cat" if class_id == 2 else "fox"}
    assert path.read_bytes() == write_webdataset(condensed, tmp_path / "again.tar").read_bytes()


def test_webdataset_reads_a_shard(condensed: CondensedSet, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    path = write_webdataset(condensed, tmp_path / "train-000000.tar")
    read = list(webdataset.WebDataset(str(path), shardshuffle=False).decode("pil").to_tuple("png", "cls"))
    assert [label for _, label in read] == [class_id for class_id, _ in pixels_of(condensed)]


def test_a_data_set_goes_there_and_back(condensed: CondensedSet, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", minversion="3.0")
    made = to_hugging_face(condensed)
    assert made.features["label"].names == ["cat (2)", "fox (7)", "fox (30)"]
    path = write_parquet(condensed, tmp_path / "train.parquet")
    read = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert read.features == made.features
    for row, (class_id, own) in zip(read, pixels_of(condensed), strict=True):
        assert row["class_id"] == class_id
        assert torch.equal(pil_to_tensor(row["image"]), own)
    data = from_hugging_face(datasets.DatasetDict({"train": read, "test": read}), name="mine")
    assert (data.name, data.class_names, data.shape) == ("mine", ("cat (2)", "fox (7)", "fox (30)"), condensed.shape)
    assert torch.equal(data.train_images, torch.stack([x for _, x in pixels_of(condensed)]))
    assert data.pool("test", device="cpu").counts == (2, 2, 2)


def test_without_the_library_it_says_what_to_install(
    condensed: CondensedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", ModuleType("datasets"))  # as a folder of that name would be
    with pytest.raises(ImportError, match=r"pip install 'ddreplay\[huggingface\]'"):
        write_parquet(condensed, tmp_path / "train.parquet")
    assert list(tmp_path.iterdir()) == []


class Rows:
    """What is used of a ``datasets.Dataset``: rows, names of columns, features."""

    def __init__(self, images: list[Image.Image], labels: list[Any]) -> None:
        self.rows = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
        self.column_names, self.features = ["image", "label"], {"image": None, "label": None}

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Any:
        return iter(self.rows)


def gray(value: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("L", size, value)


def test_without_a_test_split_a_share_of_every_class_is_held_out() -> None:
    data = from_hugging_face(Rows([gray(10 * k) for k in range(20)], [k % 2 for k in range(20)]), test_fraction=0.2)
    assert (len(data.train_labels), len(data.test_labels)) == (16, 4)
    assert data.test_labels.bincount().tolist() == [2, 2]
    assert data.class_names == ("0", "1")
    assert data.notes == ("4 images, 20% of every class drawn with seed 0, are held out for testing",)
    both = torch.cat([data.train_images, data.test_images])[:, 0, 0, 0]
    assert sorted(both.tolist()) == [10 * k for k in range(20)]


def test_one_colour_picture_makes_all_of_them_colour_ones() -> None:
    train, test = Rows([gray(1), gray(2)], [0, 1]), Rows([Image.new("RGB", (8, 8), (1, 2, 3)), gray(4)], [0, 1])
    data = from_hugging_face({"train": train, "validation": test})
    assert data.shape == (3, 8, 8)
    assert data.test_images[0, :, 0, 0].tolist() == [1, 2, 3]
    assert data.train_images[1, :, 0, 0].tolist() == [2, 2, 2]
    assert data.val_images is None


@pytest.mark.parametrize(
    ("given", "how", "words"),
    [
        ({"test": Rows([gray(1)], [0])}, {}, "must have a split train, got test"),
        (Rows([gray(1)], [0]), {"label": "fine_label"}, "has no column 'fine_label'; it has image, label"),
        (Rows([gray(1), gray(1, (9, 8))], [0, 0]), {}, "differ in size; give size=64"),
        (Rows([gray(1)], [-1]), {}, "label 0 of split train must be an integer from 0"),
        (Rows([gray(1)], ["cat"]), {}, "must be an integer from 0 to 65535, got 'cat'"),
        (Rows([], []), {}, "split train has no rows"),
        (Rows([gray(1)], [0]), {"augmentation": "mirror"}, "mirror"),
    ],
)
def test_what_is_wrong_is_named(given: Any, how: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_hugging_face(given, **how)


def test_photos_of_different_sizes_get_one() -> None:
    data = from_hugging_face(Rows([gray(9), gray(9, (12, 20)), gray(9), gray(7)], [0, 0, 1, 1]), size=6)
    assert data.shape == (1, 6, 6)

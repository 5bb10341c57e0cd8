"""Official files through torchvision: tiny files in the official formats are read back.

Where torchvision compares checksums, the checksums it expects are replaced by those of the tiny files.
"""

import gzip
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pixel_noise import noise

from ddreplay.datasets import load, normalization


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_mnist_files(tmp_path, name, folder):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    images, labels = noise(5, 28, 28), np.array([3, 1, 4, 1, 5], dtype=np.uint8)
    for part in ("train", "t10k"):
        header = b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in images.shape)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\x00\x00\x08\x01" + (5).to_bytes(4, "big") + labels.tobytes())
        for file in ("images-idx3", "labels-idx1"):
            packed = gzip.compress((raw / f"{part}-{file}-ubyte").read_bytes())
            (raw / f"{part}-{file}-ubyte.gz").write_bytes(packed)
    data = load(name, root=tmp_path)
    assert np.array_equal(data.test_images[:, 0].numpy(), images)
    assert data.train_labels.tolist() == labels.tolist()
    assert len(data.class_names) == 10
    assert data.normalization == name


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_files(tmp_path, monkeypatch, name):
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = CIFAR10 if name == "cifar10" else CIFAR100
    key = "labels" if name == "cifar10" else "fine_labels"
    base = tmp_path / kind.base_folder
    base.mkdir()
    pixels = noise(4, 3072)
    for listing in ("train_list", "test_list"):
        files = [file for file, _ in getattr(kind, listing)]
        for file in files:
            (base / file).write_bytes(pickle.dumps({"data": pixels, key: [0, 1, 2, 1], "coarse_labels": [0] * 4}))
        monkeypatch.setattr(kind, listing, [[file, md5(base / file)] for file in files])
    meta = base / kind.meta["filename"]
    meta.write_bytes(pickle.dumps({kind.meta["key"]: ["a", "b", "c"]}))
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": md5(meta)})
    data = load(name, root=tmp_path, normalization="cifar100:dcc")
    assert np.array_equal(data.test_images.flatten(1).numpy(), pixels)
    assert data.test_labels.tolist() == [0, 1, 2, 1]
    assert len(data.train_images) == 4 * len(kind.train_list)
    assert data.class_names == ("a", "b", "c")
    assert data.mean == normalization("cifar10").mean


def test_svhn_files(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    images = noise(4, 32, 32, 3)
    splits = dict(SVHN.split_list)
    for split in ("train", "test"):
        path = tmp_path / SVHN.split_list[split][1]
        savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": np.array([[10], [1], [9], [2]], dtype=np.uint8)})
        splits[split] = [*SVHN.split_list[split][:2], md5(path)]
    monkeypatch.setattr(SVHN, "split_list", splits)
    data = load("svhn", root=tmp_path)
    assert np.array_equal(data.train_images.permute(0, 2, 3, 1).numpy(), images)
    assert data.test_labels.tolist() == [0, 1, 9, 2]


def test_gtsrb_files(tmp_path):
    for k in (0, 1):
        folder = tmp_path / "gtsrb" / "GTSRB" / "Training" / f"{k:05d}"
        folder.mkdir(parents=True)
        Image.fromarray(np.full((20 + k, 15, 3), 40 * k, dtype=np.uint8)).save(folder / "0.ppm")
    test = tmp_path / "gtsrb" / "GTSRB" / "Final_Test" / "Images"
    test.mkdir(parents=True)
    Image.fromarray(np.full((9, 9, 3), 77, dtype=np.uint8)).save(test / "00000.ppm")
    (tmp_path / "gtsrb" / "GT-final_test.csv").write_text("Filename;ClassId\n00000.ppm;42\n")
    data = load("gtsrb", root=tmp_path)
    assert data.shape == (3, 32, 32)
    assert data.train_labels.tolist() == [0, 1]
    assert data.test_labels.tolist() == [42]
    assert data.test_images.unique().tolist() == [77]
    assert load("gtsrb", root=tmp_path, size=12).shape == (3, 12, 12)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn", "gtsrb"])
def test_missing_official_files(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=rf"{name} was not read from root=.*download=True"):
        load(name, root=tmp_path)

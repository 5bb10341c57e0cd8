"""Readers give back what was written to the files, and name what is wrong with files that hold something else."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pixel_noise import noise

from ddreplay.datasets import NAMES, channel_moments, load, normalization, validation_split

# --- digits, splits, constants


def test_digits_are_stored_without_loss():
    from sklearn.datasets import load_digits

    data = load("digits")
    assert data.shape == (1, 8, 8)
    assert data.classes == 10
    stored = torch.cat([data.train_images, data.test_images]).flatten(1)
    back = torch.round(stored.double() * 16 / 255).long()
    original = torch.from_numpy(load_digits().data).long()
    assert sorted(map(tuple, back.tolist())) == sorted(map(tuple, original.tolist()))


def test_digits_split_is_fixed_and_stratified():
    data, again = load("digits"), load("digits")
    assert torch.equal(data.train_images, again.train_images)
    test, train = data.test_labels.bincount(), data.train_labels.bincount()
    assert ((test / (test + train) - 0.3).abs() < 0.01).all()


def test_validation_split_is_a_stratified_partition():
    labels = torch.tensor([5] * 10 + [2] * 4 + [9] + [7] * 2)
    kept, held = validation_split(labels, fraction=0.3, seed=3)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    assert {k: int((labels[held] == k).sum()) for k in (5, 2, 9, 7)} == {5: 3, 2: 1, 9: 0, 7: 1}
    assert torch.equal(held, validation_split(labels, fraction=0.3, seed=3)[1])
    assert not torch.equal(held, validation_split(labels, fraction=0.3, seed=4)[1])


def test_validation_split_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    validation_split(torch.zeros(4, dtype=torch.int64), fraction=0.5, seed=0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_validation_split_refuses_a_fraction_out_of_range(fraction):
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1"):
        validation_split(torch.zeros(4, dtype=torch.int64), fraction=fraction, seed=0)


def test_tuning_data_comes_from_the_train_split_alone():
    data = load("digits")
    tuning = data.for_tuning(fraction=0.2, seed=1)
    joined = torch.cat([tuning.train_images, tuning.test_images]).flatten(1)
    assert sorted(map(tuple, joined.tolist())) == sorted(map(tuple, data.train_images.flatten(1).tolist()))
    assert (tuning.mean, tuning.normalization) == (data.mean, data.normalization)


def test_channel_moments_equal_the_definition():
    x = torch.from_numpy(noise(7, 3, 5, 4))
    x[:, 2] = 9
    found = channel_moments(x)
    pixels = x.double() / 255
    for k in range(2):
        assert found.mean[k] == pytest.approx(float(pixels[:, k].mean()), abs=1e-12)
        assert found.std[k] == pytest.approx(float(pixels[:, k].std(unbiased=False)), abs=1e-12)
    assert found.std[2] == 1.0


def test_constants_by_source():
    assert normalization("cifar100", "mtt") == normalization("cifar100", "dcc")
    assert normalization("cifar100", "dcc")[:2] == normalization("cifar10")[:2]
    assert normalization("cifar100").std == (0.2673, 0.2564, 0.2762)
    assert normalization("cifar100", "rtp").mean == (0.5071, 0.4867, 0.4408)
    assert normalization("svhn", "dcc") == normalization("svhn", "dm")
    with pytest.raises(ValueError, match="source must be one of"):
        normalization("cifar100", "nobody")
    with pytest.raises(ValueError, match="no constants of source 'rtp' are known for 'svhn'"):
        normalization("svhn", "rtp")


# --- .npz


def write_npz(path: Path, **changes):
    arrays = {
        "train_images": noise(6, 4, 5, 3),
        "train_labels": np.array([0, 1, 2, 0, 1, 2]),
        "test_images": noise(3, 4, 5, 3, seed=1),
        "test_labels": np.array([[2], [0], [1]], dtype=np.uint8),
        "class_names": np.array(["ant", "bee", "fly"]),
    } | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return arrays


def test_npz_round_trip(tmp_path):
    arrays = write_npz(tmp_path / "tiny.npz", val_images=noise(2, 4, 5, 3, seed=2), val_labels=np.array([0, 1]))
    data = load(tmp_path / "tiny.npz")
    assert data.name == "tiny"
    assert data.shape == (3, 4, 5)
    assert np.array_equal(data.train_images.permute(0, 2, 3, 1).numpy(), arrays["train_images"])
    assert data.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.test_labels.tolist() == [2, 0, 1]
    assert data.class_names == ("ant", "bee", "fly")
    assert data.mean == pytest.approx(arrays["train_images"].mean((0, 1, 2)) / 255)
    assert data.normalization == "computed from the train split"
    tuning = data.for_tuning()
    assert np.array_equal(tuning.test_images.permute(0, 2, 3, 1).numpy(), arrays["val_images"])
    assert len(tuning.train_images) == 6


def test_npz_gray_without_names_and_with_named_constants(tmp_path):
    arrays = write_npz(tmp_path / "gray.npz", train_images=noise(6, 4, 4), test_images=noise(3, 4, 4), class_names=None)
    data = load(str(tmp_path / "gray.npz"), normalization="mnist")
    assert np.array_equal(data.train_images[:, 0].numpy(), arrays["train_images"])
    assert data.class_names == ("0", "1", "2")
    assert (data.mean, data.std, data.normalization) == ((0.1307,), (0.3081,), "mnist")
    with pytest.raises(ValueError, match="has 3 channels but the images of 'gray' have 1"):
        load(tmp_path / "gray.npz", normalization="cifar100:dcc")


def test_pools_share_the_constants_of_the_train_split(tmp_path):
    write_npz(tmp_path / "tiny.npz")
    data = load(tmp_path / "tiny.npz")
    train, test = data.pool(device="cpu"), data.pool("test", device="cpu")
    assert train.mean == test.mean == data.mean
    assert train.class_names == ("ant", "bee", "fly")
    expected = (data.test_images[1].double() / 255 - torch.tensor(data.mean).view(3, 1, 1)) / torch.tensor(
        data.std
    ).view(3, 1, 1)
    torch.testing.assert_close(test.of_class(0)[0].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_images": None}, "tiny.npz has no 'test_images'"),
        ({"train_images": noise(6, 4, 5, 3).astype(np.float32)}, "train_images must be uint8, got float32"),
        ({"train_images": noise(6, 3, 8, 8)}, "channels first"),
        ({"train_images": noise(6, 20)}, r"must be \[n, h, w\] or \[n, h, w, c\]"),
        ({"train_labels": np.zeros((6, 14), dtype=np.int64)}, r"must be \[n\] or \[n, 1\]"),
        ({"train_labels": np.zeros(5, dtype=np.int64)}, "one label an image"),
        ({"train_labels": np.zeros(6)}, "train_labels must be integers, got float64"),
        ({"train_labels": np.array([-1, 0, 1, 0, 1, 2])}, "count from 0, got -1"),
        ({"class_names": np.array(["ant", "bee"])}, "labels run to 2"),
        ({"test_images": noise(3, 6, 5, 3)}, "splits differ in image shape"),
        ({"train_labels": np.array([0, 1, 2, None, 1, 2])}, "'train_labels' could not be read .*pickled"),
    ],
)
def test_npz_errors_name_the_key(tmp_path, changes, message):
    write_npz(tmp_path / "tiny.npz", **changes)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "tiny.npz")


def test_npz_that_is_none(tmp_path):
    (tmp_path / "text.npz").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match=r"text\.npz is not an \.npz archive"):
        load(tmp_path / "text.npz")
    with pytest.raises(FileNotFoundError, match="no file"):
        load(tmp_path / "absent.npz")


# --- folders


def write_images(folder: Path, name: str, images: np.ndarray):
    (folder / name).mkdir(parents=True)
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / name / f"{k}.png")


def test_folder_with_train_and_test(tmp_path):
    written = {}
    for part, n in (("train", 3), ("test", 2)):
        for k, name in enumerate(["bee", "ant"]):
            written[part, name] = noise(n, 6, 5, 3, seed=k)
            write_images(tmp_path / part, name, written[part, name])
    (tmp_path / "train" / "ant" / ".hidden.png").write_text("no image")
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    data = load(tmp_path)
    assert data.class_names == ("ant", "bee")
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(data.train_images[3:].permute(0, 2, 3, 1).numpy(), written["train", "bee"])
    assert np.array_equal(data.test_images[:2].permute(0, 2, 3, 1).numpy(), written["test", "ant"])


def test_folder_without_a_test_split_is_split(tmp_path):
    for k, name in enumerate(["ant", "bee"]):
        write_images(tmp_path, name, noise(4, 6, 6, seed=k))
    data, again = load(tmp_path, test_fraction=0.25, split_seed=1), load(tmp_path, test_fraction=0.25, split_seed=1)
    assert data.shape == (1, 6, 6)
    assert data.test_labels.tolist() == [0, 1]
    assert len(data.train_images) == 6
    assert torch.equal(data.test_images, again.test_images)


def test_folder_of_several_sizes_and_modes(tmp_path):
    write_images(tmp_path, "ant", noise(2, 6, 6))
    write_images(tmp_path, "bee", noise(2, 8, 7, 3))
    with pytest.raises(ValueError, match=r"bee/0\.png is 7 x 8 pixels but ant/0\.png is 6 x 6; give size="):
        load(tmp_path)
    data = load(tmp_path, size=6, test_fraction=0.5)
    assert data.shape == (3, 6, 6)
    gray = torch.cat([data.train_images, data.test_images])[[0, 2]]
    assert torch.equal(gray[:, 0], gray[:, 1])


def test_folder_errors_name_the_file(tmp_path):
    write_images(tmp_path, "ant", noise(2, 6, 6))
    (tmp_path / "ant" / "9.png").write_bytes((tmp_path / "ant" / "0.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"ant/9\.png is no readable image"):
        load(tmp_path)
    Image.fromarray(noise(6, 6).astype(np.int32)).save(tmp_path / "ant" / "9.tif")
    (tmp_path / "ant" / "9.png").unlink()
    with pytest.raises(ValueError, match=r"ant/9\.tif has pixels of mode 'I'"):
        load(tmp_path)


def test_folder_out_of_order(tmp_path):
    with pytest.raises(ValueError, match="holds no class folders"):
        load(tmp_path)
    (tmp_path / "train" / "ant").mkdir(parents=True)
    with pytest.raises(ValueError, match="needs train and test"):
        load(tmp_path)
    (tmp_path / "test" / "bee").mkdir(parents=True)
    with pytest.raises(ValueError, match="class folder 'ant' in train holds no images"):
        load(tmp_path)
    Image.fromarray(noise(4, 4)).save(tmp_path / "train" / "ant" / "0.png")
    with pytest.raises(ValueError, match="class 'bee' is in test but not in train"):
        load(tmp_path)


def test_unknown_name():
    assert "imagenet32:lizard" in NAMES
    with pytest.raises(ValueError, match="'imagnet' is neither a known name"):
        load("imagnet")

"""States of memories, checkpoints, archives and folders that are damaged or forged; what a file may make a terminal do."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.soak.forging import Draw, damaged, edited, forged_checkpoint, header_of, sealed_checkpoint
from ddreplay import ClassPool, CondensedMemory, CondensedSet, ConvNet, dm
from ddreplay.avalanche import CondensedBuffer
from ddreplay.cli import main
from ddreplay.datasets import load
from ddreplay.methods import selections
from ddreplay.storage.sealed import read_state

MakePool = Callable[..., ClassPool]


def everything(memory: CondensedMemory) -> tuple[Any, ...]:
    """All that a memory is, as plain values."""
    state = memory.state_dict()
    return (
        state["condensed"].tolist(),
        state["budget"],
        state["seconds"],
        state["stands_for"],
        [tensor.tolist() for tensor in state["random"].values()],
    )


@pytest.fixture(name="memory")
def _memory(toy_pool: MakePool) -> CondensedMemory:
    memory = CondensedMemory(selections.random(), images_per_class=2)
    memory.update(toy_pool())
    return memory


@pytest.mark.parametrize(
    "wrong",
    [
        {"budget": {"amount": -3, "unit": "images"}},
        {"budget": {"amount": 3, "unit": "pixels"}},
        {"budget": {"amount": 3, "unit": "images", "shared": "yes"}},
        {"budget": {"amount": 3, "unit": "images", "classes": 2.5}},
        {"budget": {"amount": 3, "unit": "images", "max_bytes": 7}},
        {"budget": {}},
        {"budget": None},
        {"condensed": torch.zeros(40, dtype=torch.uint8)},
        {"condensed": torch.zeros(40)},
        {"condensed": "x"},
        {"seconds": [float("nan")]},
        {"seconds": ["x"]},
        {"random": {"cpu": torch.zeros(3, dtype=torch.uint8), "device": torch.zeros(3, dtype=torch.uint8)}},
        {"random": {}},
        {"stands_for": {}},
        {"stands_for": {2: 6, 5: 6, 9: 0}},
        {"stands_for": {2: 6, 5: 6, 9: 10**400}},
        {"stands_for": {2: 6, 5: 6, 9: 6.5}},
        {"stands_for": {2: 6, 5: 6, 9: 6, 10: 6}},
    ],
)
def test_a_wrong_state_leaves_the_memory_as_it_was(memory: CondensedMemory, wrong: dict[str, Any]) -> None:
    before = everything(memory)
    with pytest.raises(ValueError, match="stays as it was"):
        memory.load_state_dict({**memory.state_dict(), **wrong})
    state = memory.state_dict()
    del state[next(iter(wrong))]
    with pytest.raises(ValueError, match="stays as it was"):
        memory.load_state_dict(state)
    assert everything(memory) == before


def test_edited_states_are_refused_or_sound(memory: CondensedMemory) -> None:
    state, refused = memory.state_dict(), 0
    for seed in range(150):
        before = everything(memory)
        try:
            memory.load_state_dict(edited(state, Draw(seed)))
        except ValueError:
            refused += 1
            assert everything(memory) == before
        else:
            assert torch.isfinite(memory.batch().x).all()
            memory.load_state_dict(state)
    assert refused > 75


def test_edited_states_of_a_buffer_are_refused_or_sound(toy_pool: MakePool) -> None:
    x, y = toy_pool().all()
    buffer = CondensedBuffer(images_per_class=2, condenser=selections.random(), condense_every=2)
    for rows in (range(6), range(6, 12), range(12, 18)):
        buffer.update_from_dataset([(x[k], int(y[k])) for k in rows])
    state, refused = buffer.state_dict(), 0
    for seed in range(150):
        before = [sample[0].tolist() for sample in buffer.buffer]
        try:
            buffer.load_state_dict(edited(state, Draw(seed)))
        except ValueError:
            refused += 1
            assert [sample[0].tolist() for sample in buffer.buffer] == before
        else:
            assert all(torch.isfinite(sample[0]).all() for sample in buffer.buffer)
            buffer.load_state_dict(state)
    assert refused > 75


def test_images_of_another_shape_change_nothing(memory: CondensedMemory, toy_pool: MakePool) -> None:
    before = everything(memory)
    with pytest.raises(ValueError, match="shape"):
        memory.update(toy_pool(shape=(1, 8, 9)))
    assert everything(memory) == before
    buffer = CondensedBuffer(images_per_class=2, condenser=selections.random(), condense_every=2)
    buffer.update_from_dataset([(torch.rand(1, 8, 8), 0)])
    for _ in range(2):
        with pytest.raises(ValueError, match="shape"):
            buffer.update_from_dataset([(torch.rand(1, 8, 9), 1)])
    assert buffer.staged == 1
    buffer.update_from_dataset([(torch.rand(1, 8, 8), 1)])
    with pytest.raises(ValueError, match="shape"):
        buffer.update_from_dataset([(torch.rand(3, 8, 8), 2)])
    assert len(buffer.buffer) == 2


def test_a_forged_checkpoint_is_refused(toy_pool: MakePool, tmp_path: Path) -> None:
    method, path = dm(ConvNet(width=8), steps=2), tmp_path / "ck"
    whole = method(toy_pool(), 2, checkpoint=path)
    sound, refused = path.read_bytes(), 0
    for seed in range(60):
        path.write_bytes(forged_checkpoint(sound, Draw(seed)))
        try:
            found = method(toy_pool(), 2, checkpoint=path)
        except (ValueError, FloatingPointError):
            refused += 1
        else:
            assert torch.isfinite(found.images().x).all()
            assert found.images().x.shape == whole.images().x.shape
    assert refused > 30
    for content in (torch.zeros(3), [1, 2], {"run": "x"}, {}):
        payload = io.BytesIO()
        torch.save(content, payload)
        path.write_bytes(sealed_checkpoint(payload.getvalue()))
        with pytest.raises(ValueError, match=str(path)):
            method(toy_pool(), 2, checkpoint=path)


def test_a_compressed_state_is_not_inflated() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**22))
    with pytest.raises(ValueError, match="compressed"):
        read_state(content.getvalue(), "the state")


def archive_of(path: Path, **members: bytes | np.ndarray) -> Path:
    """An .npz file of arrays, or of members as they are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            content = io.BytesIO()
            if isinstance(member, bytes):
                content.write(member)
            else:
                np.lib.format.write_array(content, member)
            archive.writestr(f"{name}.npy", content.getvalue())
    return path


def splits(**changed: bytes | np.ndarray) -> dict[str, bytes | np.ndarray]:
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    return {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels, **changed}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"train_labels": np.array([0, 10**9, 0, 1])}, "below 65536"),
        ({"train_labels": np.array([0, 2**63, 0, 1], np.uint64)}, "below 65536"),
        ({"train_labels": np.array([0.0, 1.0, 0.0, 1.0])}, "integers"),
        ({"train_images": header_of((10**12, 8, 8), "|u1")}, "n = 1000000000000"),
        ({"train_images": header_of((4, 10**9, 8), "|u1")}, "declares"),
        ({"train_images": header_of((4, 8, 8), "|u1") + bytes(99)}, "could not be read"),
        ({"train_images": header_of((4, 8, 8), "|O")}, "could not be read"),
        ({"train_images": b"\x93NUMPY"}, "could not be read"),
        ({"class_names": np.array([["a", "b"]])}, "class_names"),
    ],
)
def test_arrays_that_ask_for_too_much(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load(archive_of(tmp_path / "a.npz", **splits(**changed)))


def test_labels_are_looked_at_before_images_are_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive_of(tmp_path / "a.npz", **splits(train_images=np.zeros((5000, 64, 64), np.uint8)))
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("an array was inflated"))
    with pytest.raises(ValueError, match="one label an image"):
        load(path)


def test_damaged_archives_are_refused_in_words(tmp_path: Path) -> None:
    sound = archive_of(tmp_path / "a.npz", **splits()).read_bytes()
    refused = told = 0
    for seed in range(200):
        (tmp_path / "b.npz").write_bytes(damaged(sound, Draw(seed)))
        try:
            load(tmp_path / "b.npz")
        except ValueError as error:
            refused += 1
            told += "b.npz" in str(error)
    assert told == refused > 100


@pytest.fixture(name="photos")
def _photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(2):
            Image.new("L", (8, 8), 40 * k).save(tmp_path / name / f"{k}.png")
    return tmp_path


def test_only_the_formats_named_are_opened(photos: Path) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    (photos / "cat" / "a.png").write_bytes(eps)
    with pytest.raises(ValueError, match=r"cat/a\.png is no readable image"):
        load(photos)


def test_a_pipe_is_refused_and_not_waited_for(photos: Path) -> None:
    os.mkfifo(photos / "cat" / "a.png")
    with pytest.raises(ValueError, match=r"cat/a\.png is no file"):
        load(photos)


def test_a_picture_is_refused_by_its_declared_size(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (8192, 8200)).save(photos / "cat" / "+.png")  # the first in order
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match="8192 x 8200 pixels"):
        load(photos, size=8)


def test_show_obeys_no_file(memory: CondensedMemory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"method": "\x1b[2J\x1b]0;x\x07dm\u202e", "nbytes": -1, "bad\x1bkey": "\r\n ok", "data": 3, "learned": [1]}
    path = CondensedSet(memory.condensed.parts, said).save(tmp_path / "a.safetensors")
    main(["show", str(path)])
    printed = capsys.readouterr().out
    assert not [c for c in printed if not c.isprintable() and c != "\n"]
    assert r"\x1b[2J" in printed
    assert f"nbytes             {memory.nbytes}\n" in printed
    assert "provenance nbytes  -1" in printed


def test_an_error_obeys_no_file_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["show", str(tmp_path / "\x1b[2J")])
    assert "\x1b" not in capsys.readouterr().err

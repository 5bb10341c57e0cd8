"""Condensed sets: their files, what they cost, what is done with their classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from ddreplay import ClassPool, CondensedFileError, CondensedSet
from ddreplay.data.space import to_network
from ddreplay.methods import selections
from ddreplay.storage.codecs import bits, float32, jpeg, uint8
from ddreplay.storage.decoders import Tiles, expand_partition
from ddreplay.storage.part import Part

MakePool = Callable[..., ClassPool]


@pytest.fixture(name="condensed")
def _condensed(toy_pool: MakePool) -> CondensedSet:
    return selections.random()(toy_pool(), 2)


def test_real_uint8_images_are_stored_without_loss(toy_pool: MakePool) -> None:
    pool = toy_pool()
    x, y = selections.random()(pool, 6).images()
    assert torch.equal(y, pool.relabel(pool.all().y))
    torch.testing.assert_close(
        x.sum((1, 2, 3)).sort().values, pool.all().x.sum((1, 2, 3)).sort().values, atol=1e-3, rtol=1e-5
    )


@pytest.mark.parametrize("codec", [float32(), uint8(), bits(4), jpeg(quality=60)])
def test_bytes_charged_are_bytes_on_disk(toy_pool: MakePool, tmp_path: Path, codec: object) -> None:
    found = selections.random(codec=codec)(toy_pool(), 3)  # type: ignore[arg-type]
    path = found.save(tmp_path / "a.safetensors")
    assert path.stat().st_size == found.nbytes + found.header_nbytes
    assert found.nbytes == sum(t.nbytes for part in found.parts for t in part.tensors().values())


def test_every_truncation_is_noticed(condensed: CondensedSet, tmp_path: Path) -> None:
    payload = condensed.save(tmp_path / "a.safetensors").read_bytes()
    for length in (0, 4, 8, 50, len(payload) // 2, len(payload) - 1):
        (tmp_path / "b").write_bytes(payload[:length])
        with pytest.raises(CondensedFileError):
            CondensedSet.load(tmp_path / "b")


def test_a_changed_pixel_or_description_is_noticed(condensed: CondensedSet, tmp_path: Path) -> None:
    payload = bytearray(condensed.to_bytes())
    payload[-3] ^= 1
    (tmp_path / "b").write_bytes(payload)
    with pytest.raises(CondensedFileError, match="checksum"):
        CondensedSet.load(tmp_path / "b")


@pytest.mark.parametrize(
    "content",
    [
        b"not a file",
        save({"x": torch.zeros(2)}),
        save({"x": torch.zeros(2)}, {"ddreplay": "no json"}),
        save({"x": torch.zeros(2)}, {"ddreplay": json.dumps({"format": 99})}),
        save({"x": torch.zeros(2)}, {"ddreplay": json.dumps([1, 2])}),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b").write_bytes(content)
    with pytest.raises(CondensedFileError):
        CondensedSet.load(tmp_path / "b")


def test_a_failed_save_leaves_the_old_file(condensed: CondensedSet, tmp_path: Path) -> None:
    path = condensed.save(tmp_path / "a.safetensors")
    before = path.read_bytes()

    class Refuses:
        def __str__(self) -> str:
            raise RuntimeError("cannot be written")

    broken = CondensedSet(condensed.parts, {"method": Refuses()})
    with pytest.raises(RuntimeError):
        broken.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_selecting_joining_and_taking(condensed: CondensedSet) -> None:
    x, y = condensed.images()
    some = condensed.select([2, 9])
    assert some.class_ids == (2, 9)
    assert some.nbytes < condensed.nbytes
    assert torch.equal(some.images().x, x[(y == 2) | (y == 9)])
    both = some.join(condensed.select([5]))
    assert set(both.class_ids) == {2, 5, 9}
    first = condensed.take(1)
    assert torch.allclose(first.images().x, x[::2], atol=1e-6)
    assert len(condensed.take(0)) == 0
    with pytest.raises(ValueError, match="no classes"):
        condensed.select([77])
    with pytest.raises(ValueError, match="two parts"):
        condensed.join(condensed)


def test_recoding_changes_bytes_not_images(condensed: CondensedSet) -> None:
    wide = condensed.recode(float32())
    assert wide.nbytes > 3 * condensed.nbytes
    assert torch.allclose(wide.images().x, condensed.images().x, atol=1e-5)


def test_soft_labels_are_stored_charged_and_selected(condensed: CondensedSet, tmp_path: Path) -> None:
    part = condensed.parts[0]
    labels = torch.rand(6, 3)
    soft = CondensedSet((replace(part, soft_labels=labels),))
    assert soft.nbytes == condensed.nbytes + labels.nbytes
    loaded = CondensedSet.load(soft.save(tmp_path / "s.safetensors"))
    assert loaded.soft_labels is not None
    assert torch.equal(loaded.soft_labels, labels)
    assert torch.equal(loaded.select([9]).soft_labels, labels[4:, 2:])  # type: ignore[arg-type]


def test_a_partition_costs_what_it_stores_and_trains_on_what_it_decodes() -> None:
    pool = ClassPool(torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8), torch.tensor([0, 0, 1, 1]), device="cpu")
    blocks = [pool.of_class(k) for k in range(2)]
    plain = Part.of_images(pool, blocks, uint8())
    tiled = replace(plain, decoder=Tiles(2))
    found = CondensedSet((tiled,))
    assert (found.stored_images, len(found), found.nbytes) == (4, 16, plain.nbytes)
    pixels = uint8().decode(plain.stored, plain.counts, plain.shape)[0]
    assert torch.equal(found.images().x[:8], to_network(expand_partition(pixels, 2), plain.mean, plain.std))


def test_expansion_goes_down_the_columns_of_tiles() -> None:
    image = torch.zeros(1, 1, 4, 4)
    image[..., :2, :2], image[..., 2:, :2], image[..., :2, 2:], image[..., 2:, 2:] = 1, 2, 3, 4
    assert expand_partition(image, 2).mean((1, 2, 3)).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(("size", "factor"), [((7, 10), 2), ((9, 8), 3), ((8, 8), 1)])
def test_expansion_of_sizes_that_do_not_divide(size: tuple[int, int], factor: int) -> None:
    assert expand_partition(torch.rand(2, 3, *size), factor).shape == (2 * factor**2, 3, *size)


def test_an_empty_set_says_so() -> None:
    empty = CondensedSet(())
    assert (len(empty), empty.nbytes, empty.stored_images) == (0, 0, 0)
    with pytest.raises(ValueError, match="empty"):
        empty.images()

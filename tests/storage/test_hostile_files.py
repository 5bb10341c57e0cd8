"""Set files that are damaged or forged: refused in the package's own words, before anything large is made of them."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.soak.forging import inflating, open_set, sealed_set
from ddreplay import ClassPool, CondensedFileError, CondensedSet, ConvNet, dm
from ddreplay.methods import selections
from ddreplay.parameterize import Partitioned
from ddreplay.storage.codecs import avif, bits, dct, jpeg, thumb, uint8, webp
from ddreplay.storage.condensed_set import REMEMBERED

MakePool = Callable[..., ClassPool]


@pytest.fixture(name="payload")
def _payload(toy_pool: MakePool) -> bytes:
    return selections.random()(toy_pool(), 2).to_bytes()


def forged(
    payload: bytes, part: dict[str, Any] | None = None, tensors: dict[str, Tensor] | None = None, **about: Any
) -> bytes:
    """Other values in the description and in the tensors, under a right checksum."""
    said, found = open_set(payload)
    said = {**said, "parts": [{**said["parts"][0], **(part or {})}], **about}
    return sealed_set(said, {**found, **(tensors or {})})


def test_a_flipped_bit_is_noticed_in_every_byte(payload: bytes) -> None:
    for k in range(len(payload)):
        changed = bytearray(payload)
        changed[k] ^= 1 << k % 8
        with pytest.raises(CondensedFileError):
            CondensedSet.from_bytes(bytes(changed))


def test_a_file_of_the_format_before_is_read(toy_pool: MakePool) -> None:
    from safetensors.torch import save

    found = selections.random(codec=bits(3))(toy_pool(), 2)
    about, tensors = open_set(found.to_bytes())
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().tobytes())
    about = {k: v for k, v in about.items() if k != "sha256"} | {"format": 2, "sha256": digest.hexdigest()}
    read = CondensedSet.from_bytes(save(tensors, {"ddreplay": json.dumps(about)}))
    assert torch.equal(read.images().x, found.images().x)
    assert open_set(read.to_bytes())[0]["format"] == 3


@pytest.mark.parametrize(
    "about", [{"format": 4}, {"format": True}, {"format": 2.0}, {"format": "3"}, {"parts": {}}, {"provenance": []}]
)
def test_descriptions_that_mean_nothing(payload: bytes, about: dict[str, Any]) -> None:
    with pytest.raises(CondensedFileError, match=r"format|parts|provenance"):
        CondensedSet.from_bytes(forged(payload, **about))


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"0.normalisation": torch.tensor([[0.5], [0.0]])}, "positive"),
        ({"0.normalisation": torch.tensor([[0.5], [float("nan")]])}, "finite"),
        ({"0.normalisation": torch.tensor([[float("inf")], [1.0]])}, "finite"),
        ({"0.normalisation": torch.ones(2, 3)}, "normalisation"),
        ({"0.class_ids": torch.tensor([0.0, 1.5, 2.0])}, "integers"),
        ({"0.class_ids": torch.tensor([1, 1, 2])}, "two parts"),
        ({"0.counts": torch.tensor([2, 2, -2])}, "at least 0"),
        ({"0.counts": torch.tensor([2, 2])}, "as many"),
        ({"0.stray": torch.zeros(2)}, "none that a part has"),
        ({"1.counts": torch.zeros(2)}, "no part"),
        ({"00.counts": torch.zeros(2)}, "no part"),
        ({"0.stored.more": torch.zeros(2)}, "no use"),
        ({"0.beside.more": torch.zeros(2)}, "no use"),
        ({"0.soft_labels": torch.full((6, 3), float("nan"))}, "soft labels"),
        ({"0.soft_labels": torch.ones(5, 3)}, "soft labels"),
        ({"0.stored.range": torch.tensor([[0.0], [float("inf")]])}, "finite"),
        ({"0.stored.values": torch.zeros(6, 1, 8, 8)}, "uint8"),
    ],
)
def test_values_that_mean_nothing(payload: bytes, tensors: dict[str, Tensor], says: str) -> None:
    with pytest.raises(CondensedFileError, match=says):
        CondensedSet.from_bytes(forged(payload, tensors=tensors))


def test_pixels_that_are_not_finite(toy_pool: MakePool) -> None:
    from ddreplay.storage.codecs import float32

    payload = selections.random(codec=float32())(toy_pool(), 2).to_bytes()
    values = open_set(payload)[1]["0.stored.values"].clone()
    values[0, 0, 0, 0] = float("nan")
    with pytest.raises(CondensedFileError, match="finite"):
        CondensedSet.from_bytes(forged(payload, tensors={"0.stored.values": values}))


@pytest.mark.parametrize(
    ("part", "tensors"),
    [
        ({"decoder": {"name": "tiles", "factor": 10**300}}, {}),
        ({"decoder": {"name": "tiles", "factor": 4000}}, {}),
        ({"decoder": {"name": "tiles", "factor": 1e300}}, {}),
        ({"decoder": {"name": "tiles", "factor": True}}, {}),
        ({"decoder": {"name": "whitened", "inner": {"name": "tiles", "factor": 4000}}}, {}),
        ({"codec": jpeg(1).spec()}, {"0.counts": torch.tensor([10**9, 2, 2])}),
        ({"codec": dct().spec()}, {"0.counts": torch.tensor([2**62, 2, 2])}),
        ({"codec": thumb().spec()}, {"0.counts": torch.tensor([2**62, 2, 2])}),
        ({"codec": {"name": "dct", "coefficients": 1, "step": float("inf")}}, {}),
        ({"shape": [3, 65500, 65500], "codec": jpeg(1).spec()}, {"0.normalisation": torch.ones(2, 3)}),
        ({"shape": [1, 1, 2**24], "codec": dct().spec()}, {}),
        ({"shape": [1, 0, 8]}, {}),
        ({"shape": [1.0, 8, 8]}, {}),
        ({"shape": [8, 8]}, {}),
    ],
)
def test_what_asks_for_too_much_is_refused_at_once(
    payload: bytes, part: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    started = time.perf_counter()
    with pytest.raises(CondensedFileError):
        CondensedSet.from_bytes(forged(payload, part, tensors))
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("coder", [1, 2, 3])
def test_coefficients_inflate_to_what_the_images_need_and_no_further(coder: int) -> None:
    body = inflating(coder, 2**26)
    stored = {
        "sizes": torch.tensor(list(len(body).to_bytes(4, "little"))).to(torch.uint8)[None],
        "data": torch.frombuffer(bytearray(body), dtype=torch.uint8),
    }
    with pytest.raises(ValueError, match="damaged"):
        dct(20, 8.0).decode(stored, [3], (1, 8, 8))


def test_frequencies_come_back_alike_in_one_block_and_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, images = dct(20, 8.0), [torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(0))]
    stored = codec.encode(images)
    whole = codec.decode(stored, [9], (3, 8, 8))[0]
    monkeypatch.setattr(sys.modules["ddreplay.storage.codecs.dct"], "_AT_ONCE", 2 * 3 * 64)
    torch.testing.assert_close(codec.decode(stored, [9], (3, 8, 8))[0], whole)


@pytest.mark.parametrize("codec", [jpeg(40), webp(40), avif(40, 9)], ids=repr)
def test_a_picture_is_refused_by_the_size_it_declares(codec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    stored = codec.encode([torch.rand(2, 3, 64, 64)])
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match="instead of"):
        codec.decode(stored, [2], (3, 8, 8))


def test_a_picture_of_many_scans_is_refused() -> None:
    import io

    import numpy as np
    from PIL import Image

    from ddreplay.storage.codecs.sheets import read

    files = [io.BytesIO(), io.BytesIO()]
    for file, progressive in zip(files, (False, True), strict=True):
        Image.new("L", (16, 8)).save(file, "JPEG", progressive=progressive)
    assert isinstance(read(files[0].getvalue(), "JPEG", (16, 8), 1), np.ndarray)
    with pytest.raises(ValueError, match="scans"):
        read(files[1].getvalue(), "JPEG", (16, 8), 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("size", [(8, 8), (4, 300), (33, 17)])
def test_the_frame_of_a_picture_has_the_size_of_its_sheet(
    channels: int, subsampling: Any, size: tuple[int, int]
) -> None:
    from ddreplay.storage.codecs.av1 import frame_size
    from ddreplay.storage.codecs.sheets import to_sheet

    codec = avif(10, 10, subsampling)
    sheet = to_sheet(torch.rand(2, channels, *size), codec.pitch(channels), codec.limit)
    assert frame_size(codec.write(sheet)) == (sheet.shape[1], sheet.shape[0])


def test_a_large_frame_in_a_small_picture_is_refused() -> None:
    import io
    import struct

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (512, 512)).save(file, "AVIF", speed=10)
    small = bytearray(file.getvalue())
    at = small.index(b"ispe") + 8
    small[at : at + 8] = struct.pack(">II", 16, 8)
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (16, 8)  # what its box declares; libavif decodes the frame and makes it smaller
    sizes = torch.tensor(list(len(small).to_bytes(2, "little")), dtype=torch.uint8)[None]
    empty_head = avif().encode([torch.rand(2, 3, 8, 8)])
    stored = {**empty_head, "sizes": sizes, "data": torch.frombuffer(small, dtype=torch.uint8)}
    stored["shared"] = torch.frombuffer(
        bytearray(b"\x63\x60\x00\x00"), dtype=torch.uint8
    )  # one head of no bytes, deflated
    with pytest.raises(ValueError, match=r"frame of \(512, 512\) pixels instead of \(16, 8\)"):
        avif().decode(stored, [2], (3, 8, 8))


def test_max_decoded_is_the_callers_to_raise(payload: bytes) -> None:
    with pytest.raises(CondensedFileError, match="max_decoded"):
        CondensedSet.from_bytes(payload, max_decoded=100)
    assert len(CondensedSet.from_bytes(payload, max_decoded=10**6)) == 6


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "set.safetensors")
    with pytest.raises(OSError, match="no regular file"):
        CondensedSet.load(tmp_path / "set.safetensors")
    with pytest.raises(OSError, match="folder"):
        CondensedSet.load(tmp_path)


def test_codecs_and_decoders_read_what_they_wrote(toy_pool: MakePool) -> None:
    """The checks leave every kind of set that the package makes as it was."""
    pool = toy_pool(shape=(3, 8, 8))
    made = [
        selections.random(codec=codec)(pool, 3)
        for codec in (uint8(), bits(3), jpeg(40), webp(40), avif(40, 9), thumb(40.0), dct(20, 8.0))
    ]
    made.append(dm(ConvNet(width=8), steps=1, parameterize=Partitioned(2))(pool, 1))
    made.append(CondensedSet(tuple(replace(part, soft_labels=torch.rand(9, 3)) for part in made[0].parts)))
    for one in made:
        assert torch.equal(CondensedSet.from_bytes(one.to_bytes()).images().x, one.images().x)


def test_provenance_does_not_grow_with_updates(toy_pool: MakePool) -> None:
    pool = toy_pool()
    found = selections.random()(pool, 1)
    sizes = []
    for k in range(40):
        found = found.select([5]).join(selections.random()(pool.select([0]), 1, seed=k))
        sizes.append(found.header_nbytes)
    assert len(found.provenance["earlier"]) == REMEMBERED
    assert found.provenance["earlier_left_out"] == 40 - REMEMBERED
    assert max(sizes[20:]) - min(sizes[20:]) < 60  # digits of numbers

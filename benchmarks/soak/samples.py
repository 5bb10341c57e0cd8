"""Sound files of every kind, and small files that ask for much."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.soak.forging import header_of, inflating, open_set, sealed_set
from ddreplay import Budget, ClassPool, CondensedMemory, CondensedSet, ConvNet, dm
from ddreplay.methods import selections
from ddreplay.parameterize import Partitioned
from ddreplay.storage.codecs import avif, bits, dct, float16, jpeg, thumb, uint8, webp

__all__ = ["METHOD", "bombs", "sound_files", "toy_pool"]

METHOD = dm(ConvNet(width=8), steps=2)
"""Whose checkpoint is damaged."""


def toy_pool(channels: int = 3, size: int = 8, classes: int = 3, images: int = 6) -> ClassPool:
    """A pool of noise around one pattern a class."""
    draw = torch.Generator().manual_seed(0)
    patterns = torch.rand(classes, 1, channels, size, size, generator=draw)
    noise = torch.rand(classes, images, channels, size, size, generator=draw)
    pixels = (0.7 * patterns + 0.3 * noise).mul(255).to(torch.uint8).flatten(0, 1)
    return ClassPool(pixels, torch.arange(classes).repeat_interleave(images), device="cpu")


def sound_files() -> dict[str, list[bytes]]:
    """Some files of every kind, as the package writes them."""
    import tempfile

    from ddreplay.avalanche import CondensedBuffer

    pool = toy_pool()
    codecs = (uint8(), bits(3), float16(), jpeg(40), webp(40), avif(40, 9), thumb(40), dct(20, 8.0))
    sets = [selections.random(codec=codec)(pool, 3) for codec in codecs]
    sets.append(dm(ConvNet(width=8), steps=1, parameterize=Partitioned(2))(pool, 1))
    sets.append(CondensedSet(tuple(replace(part, soft_labels=torch.rand(9, 3)) for part in sets[0].parts)))
    memory = CondensedMemory(selections.random(), Budget.bytes(600))
    memory.update(pool.select([0, 1]))
    memory.update(pool.select([1, 2]))
    buffer = CondensedBuffer(images_per_class=2, condenser=selections.random(), condense_every=2)
    batch = pool.all()
    for rows in (range(6), range(6, 12), range(12, 18)):
        buffer.update_from_dataset([(batch.x[k], int(batch.y[k])) for k in rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        METHOD(pool, 2, checkpoint=path)
        checkpoint = path.read_bytes()
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {f"{s}_images": draw.integers(0, 255, (9, 8, 8), np.uint8) for s in ("train", "test")}
    arrays |= {f"{s}_labels": np.arange(9).reshape(9, 1) % 3 for s in ("train", "test")}
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **arrays)
    np.savez_compressed(packed, **arrays)
    return {
        "set.safetensors": [one.to_bytes() for one in sets],
        "checkpoint.ck": [checkpoint],
        "memory.pt": [_saved(memory.state_dict())],
        "buffer.pt": [_saved(buffer.state_dict())],
        "data.npz": [plain.getvalue(), packed.getvalue()],
        "picture.png": [_picture(form) for form in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "AVIF", "TIFF", "PPM")],
    }


def _saved(tree: Any) -> bytes:
    content = io.BytesIO()
    torch.save(tree, content)
    return content.getvalue()


def _picture(form: str, size: tuple[int, int] = (16, 16), **how: Any) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    drawn = Image.effect_mandelbrot(size, (-2, -1, 1, 1), 20) if max(size) < 100 else Image.new("L", size)
    drawn.convert("RGB").save(content, form, **how)
    return content.getvalue()


def bombs(sound: dict[str, list[bytes]]) -> Iterator[tuple[str, bytes]]:
    """Small files that ask for much. Kind and content."""
    about, tensors = open_set(sound["set.safetensors"][0])

    def of(spec: dict[str, Any], **changed: Any) -> bytes:
        part = {**about["parts"][0], **spec}
        return sealed_set(
            {**about, "parts": [part]}, {**tensors, **{f"0.{k.replace('__', '.')}": v for k, v in changed.items()}}
        )

    for factor in (300, 4000, 10**9, 10**300):
        yield "set.safetensors", of({"decoder": {"name": "tiles", "factor": factor}})
    for count in (10**6, 10**9, 2**62):
        yield "set.safetensors", of({}, counts=torch.tensor([count, 3, 3]))
        for spec in (jpeg(1).spec(), avif(1).spec(), dct().spec()):
            yield "set.safetensors", of({"codec": spec}, counts=torch.tensor([count, 3, 3]))
    for shape in ([3, 2**24, 2**24], [1, 1, 2**24], [2**24, 1, 1], [3, 65000, 65000]):
        for spec in (uint8().spec(), jpeg(1).spec(), dct().spec()):
            yield "set.safetensors", of({"shape": shape, "codec": spec})
    for coder in (1, 2, 3):
        body = inflating(coder, 2**26)
        sizes = torch.tensor(list(len(body).to_bytes(4, "little"))).to(torch.uint8)[None]
        stored = {"stored__sizes": sizes, "stored__data": torch.frombuffer(bytearray(body), dtype=torch.uint8)}
        one = {"class_ids": torch.tensor([0]), "counts": torch.tensor([3])}
        part = {**about["parts"][0], "codec": dct(20, 8.0).spec(), "class_names": ["0"]}
        own = {f"0.{k.replace('__', '.')}": v for k, v in {**stored, **one}.items()}
        yield (
            "set.safetensors",
            sealed_set({**about, "parts": [part]}, {**own, "0.normalisation": tensors["0.normalisation"]}),
        )
    large = jpeg(1, "4:4:4")
    blank = large.encode([torch.zeros(1, 1, 4096, 4096)])
    yield "set.safetensors", _pictures(about, large, blank, [1], [1, 4096, 4096])
    yield "set.safetensors", _pictures(about, large, blank, [1], [1, 8, 8])
    nested = "[" * 10**6
    header = json.dumps({"__metadata__": {"ddreplay": nested}}).encode()
    yield "set.safetensors", len(header).to_bytes(8, "little") + header
    yield "set.safetensors", (2**63).to_bytes(8, "little") + b"{}"
    yield "data.npz", _npz_bomb()
    yield "data.npz", _npz(np.zeros((9, 8, 8), np.uint8), np.arange(9) * 10**8)
    yield "data.npz", _npz(np.zeros((9, 8, 8), np.uint8), np.full(9, 2**63, np.uint64))
    yield "picture.png", _picture("PNG", (9000, 9000))
    yield "picture.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n"
    yield "checkpoint.ck", sealed_set([], {})


def _pictures(about: dict[str, Any], codec: Any, stored: dict[str, Any], counts: list[int], shape: list[int]) -> bytes:
    part = {**about["parts"][0], "codec": codec.spec(), "shape": shape, "class_names": ["0"] * len(counts)}
    own = {f"0.stored.{name}": tensor for name, tensor in stored.items()}
    own |= {"0.class_ids": torch.arange(len(counts)), "0.counts": torch.tensor(counts)}
    own["0.normalisation"] = torch.tensor([[0.0] * shape[0], [1.0] * shape[0]])
    return sealed_set({**about, "parts": [part]}, own)


def _npz(images: np.ndarray, labels: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return content.getvalue()


def _npz_bomb() -> bytes:
    """A gigabyte and a half of zeros, in a megabyte and a half."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        labels = io.BytesIO()
        np.lib.format.write_array(labels, np.zeros(3 * 2**19, np.int64))
        with archive.open("train_images.npy", "w", force_zip64=True) as member:
            member.write(header_of((3 * 2**19, 32, 32), "|u1"))
            for _ in range(1536):
                member.write(bytes(2**20))
        archive.writestr("train_labels.npy", labels.getvalue())
    return content.getvalue()

"""Damaged and forged files: bytes changed at random, and wrong values under a right checksum."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import lzma
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddreplay.storage.codecs.dct import _LZMA

__all__ = [
    "Draw",
    "damaged",
    "edited",
    "forged_checkpoint",
    "forged_npz",
    "forged_set",
    "forged_state",
    "sealed_checkpoint",
    "sealed_set",
]

Draw = random.Random

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 3, 300, 4000, 10**9, 10**300, 0.0, -2.5, 1e300, float("nan"), float("inf"), "", "x", "../../x", "\x1b[2J", [], [0],
    [1, 10**9, 10**9], {}, {"name": "tiles", "factor": 10**6}, {"name": "dct", "coefficients": 10**12, "step": 1e-300},
)  # fmt: skip
"""What may stand where something else should."""


def damaged(payload: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, cut off, repeated, or moved."""
    content, n = bytearray(payload), len(payload)
    at, more = draw.randrange(n), draw.randrange(1, 65)
    how = draw.choice(("flip", "flips", "cut", "append", "zeros", "noise", "twice", "remove"))
    if how == "flip":
        content[at] ^= 1 << draw.randrange(8)
    elif how == "flips":
        for _ in range(more):
            content[draw.randrange(n)] ^= 1 << draw.randrange(8)
    elif how == "cut":
        del content[at:]
    elif how == "append":
        content += draw.randbytes(more)
    elif how == "zeros":
        content[at : at + more] = bytes(len(content[at : at + more]))
    elif how == "noise":
        content[at : at + more] = draw.randbytes(len(content[at : at + more]))
    elif how == "twice":
        content[at:at] = content[at : at + more]
    else:
        del content[at : at + more]
    return bytes(content)


def edited(tree: Any, draw: random.Random) -> Any:
    """Nested dictionaries, lists and tensors with one value changed, removed or added."""
    if isinstance(tree, dict) and tree:
        key = draw.choice(list(tree))
        changed = dict(tree)
        how = draw.randrange(8)
        if how == 0:
            del changed[key]
        elif how == 1:
            changed["stray"] = draw.choice(VALUES)
        else:
            changed[key] = edited(tree[key], draw)
        return changed
    if isinstance(tree, (list, tuple)) and tree:
        at = draw.randrange(len(tree))
        changed_list = list(tree)
        if draw.randrange(6) == 0:
            del changed_list[at]
        else:
            changed_list[at] = edited(tree[at], draw)
        return changed_list
    if isinstance(tree, Tensor) and draw.randrange(8):
        return edited_tensor(tree, draw)
    return draw.choice(VALUES)


def edited_tensor(tensor: Tensor, draw: random.Random) -> Tensor:
    """Another type, shape or content."""
    ways: list[Callable[[], Tensor]] = [
        lambda: tensor[:0] if tensor.dim() else tensor[None],
        lambda: torch.cat([tensor, tensor]) if tensor.dim() else tensor[None],
        lambda: tensor.flatten()[None],
        lambda: tensor.double(),
        lambda: tensor.to(torch.int64).add(10**9),
        lambda: torch.full_like(tensor.float(), float("nan")),
        lambda: torch.full_like(tensor.float(), float("inf")),
        lambda: torch.zeros_like(tensor),
        lambda: tensor.to(torch.int64).neg(),
        lambda: torch.zeros(3, dtype=torch.bool),
        lambda: torch.zeros(0),
        lambda: torch.frombuffer(bytearray(draw.randbytes(max(1, tensor.nbytes))), dtype=torch.uint8),
    ]
    return draw.choice(ways)()


def open_set(payload: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors of a sound file."""
    from safetensors.torch import load

    length = int.from_bytes(payload[:8], "little")
    about = json.loads(json.loads(payload[8 : 8 + length])["__metadata__"]["ddreplay"])
    return about, load(payload)


def sealed_set(about: Any, tensors: dict[str, Tensor]) -> bytes:
    """A file of a set with a right checksum, whatever it holds."""
    from safetensors.torch import save

    zeros = "0" * 64
    if isinstance(about, dict):
        about = {
            "format": about.get("format"),
            "sha256": zeros,
            **{k: v for k, v in about.items() if k not in ("format", "sha256")},
        }
    blank = save({name: t.contiguous().clone() for name, t in tensors.items()}, {"ddreplay": json.dumps(about)})
    return bytes(blank.replace(zeros.encode(), hashlib.sha256(blank).hexdigest().encode(), 1))


def forged_set(payload: bytes, draw: random.Random) -> bytes:
    """One to three wrong values in description or tensors, and a right checksum."""
    about, tensors = open_set(payload)
    for _ in range(draw.randrange(1, 4)):
        if draw.randrange(2):
            key = draw.choice(("parts", "parts", "provenance", "format"))
            about = {**about, key: edited(about.get(key), draw)}
        else:
            found = edited(tensors, draw)
            tensors = {name: t for name, t in found.items() if isinstance(t, Tensor)}
            if len(tensors) < len(found):
                tensors[draw.choice(("0.stray", "7.counts", "0.stored.more", "0.beside.more", "nothing"))] = (
                    torch.zeros(2)
                )
    return sealed_set(about, tensors)


def sealed_checkpoint(payload: bytes) -> bytes:
    """Any payload as a checkpoint with a right checksum."""
    return b"ddreplay checkpoint 2\n" + hashlib.sha256(payload).digest() + payload


def _saved(tree: Any) -> bytes:
    content = io.BytesIO()
    torch.save(tree, content)
    return content.getvalue()


def forged_state(payload: bytes, draw: random.Random) -> bytes:
    """What ``torch.save`` wrote, with a wrong value; sometimes compressed."""
    if draw.randrange(10) == 0:
        return _deflated(payload)
    return _saved(edited(torch.load(io.BytesIO(payload), weights_only=True), draw))


def forged_checkpoint(payload: bytes, draw: random.Random) -> bytes:
    """A checkpoint whose state has a wrong value, and a right checksum."""
    start = len(sealed_checkpoint(b""))
    return sealed_checkpoint(forged_state(payload[start:], draw))


def _deflated(payload: bytes) -> bytes:
    """An archive of ``torch.save``, compressed."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(payload)) as old, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return content.getvalue()


def forged_npz(payload: bytes, draw: random.Random) -> bytes:
    """Arrays of other types, shapes and values; headers that lie; members that inflate by a thousand."""
    arrays = dict(np.load(io.BytesIO(payload)))
    key = draw.choice(list(arrays))
    old = arrays[key]
    ways: list[Callable[[], Any]] = [
        lambda: old.astype(np.float64),
        lambda: old.astype(np.int64) * 10**9,
        lambda: old[:0],
        lambda: old[:-1],
        lambda: old.reshape(1, -1),
        lambda: np.array(["x" * 100]),
        lambda: -old.astype(np.int64),
        lambda: np.full(old.shape, np.nan),
        lambda: np.zeros((2, 1, 1, 1, 1), np.uint8),
    ]
    how = draw.randrange(len(ways) + 3)
    if how < len(ways):
        arrays[key] = ways[how]()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array)
            raw = member.getvalue()
            if name == key and how == len(ways):
                raw = header_of(draw.choice(((10**12,), (2**31, 8, 8), (10**9, 10**9, 10**9))), "|u1") + raw[-64:]
            elif name == key and how == len(ways) + 1:
                raw = header_of(old.shape, draw.choice(("|O", "<U1000000", "|V8", "x"))) + raw[-64:]
            archive.writestr(f"{name}.npy", raw)
    return content.getvalue()


def header_of(shape: tuple[int, ...], dtype: str) -> bytes:
    """The header of an array's file, whatever it says."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def inflating(coder: int, nbytes: int) -> bytes:
    """A stored class of the dct codec whose coder gives back so many zeros."""
    block, blocks = bytes(2**20), nbytes // 2**20
    if coder == 1:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        return b"\x01" + b"".join(deflate.compress(block) for _ in range(blocks)) + deflate.flush()
    if coder == 2:
        coded = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=_LZMA)
        return b"\x02" + b"".join(coded.compress(block) for _ in range(blocks)) + coded.flush()
    packed = bz2.BZ2Compressor(9)
    return b"\x03" + b"".join(packed.compress(block) for _ in range(blocks)) + packed.flush()

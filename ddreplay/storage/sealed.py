"""States in files: dictionaries of tensors and plain values under a checksum, from which nothing is executed."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from ddreplay.storage.files import read_whole, write_atomically

__all__ = ["read_sealed", "read_state", "write_sealed"]


def write_sealed(path: str | Path, magic: bytes, state: dict[str, Any]) -> Path:
    """Write a state whole or not at all: a line that says what it is, a checksum, and what ``torch.save`` makes of it.

    Raises:
        OSError: when the folder cannot be written, or the disk is full.
    """
    content = io.BytesIO()
    torch.save(state, content)
    payload = content.getvalue()
    return write_atomically(path, magic + hashlib.sha256(payload).digest() + payload)


def read_sealed(path: Path, magic: bytes, kind: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The state that `write_sealed` wrote; ``kind`` names such files in errors.

    Raises:
        OSError: when it cannot be read.
        ValueError: when a bit is another one, or it is something else.
    """
    content = read_whole(path)
    start = len(magic) + hashlib.sha256().digest_size
    payload = content[start:]
    if content[: len(magic)] != magic or hashlib.sha256(payload).digest() != content[len(magic) : start]:
        raise ValueError(f"{kind} {path} is damaged, or no {kind} of this version; delete it to start anew")
    return read_state(payload, f"{kind} {path}", device)


def read_state(payload: bytes, source: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What ``torch.save`` wrote of a dictionary of tensors and plain values; nothing is executed, and no archive is inflated.

    Raises:
        ValueError: when it is anything else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            members = archive.infolist()
        if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > len(
            payload
        ):
            raise ValueError("its archive is compressed, which torch.save does not do")
        state = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except Exception as error:  # torch's reader raises nearly anything on damaged data
        said = str(error).partition("\n")[0]  # torch goes on with advice to load what is not trusted
        raise ValueError(f"{source} cannot be read: {said}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{source} holds a {type(state).__name__}, not a dictionary")
    return state

"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(path: str | Path, payload: bytes) -> Path:
    """Write a file through a temporary one beside it, which takes its place when it is whole and on the disk.

    The file has the permissions that the user's umask gives. Where anything fails, what stood there before still does.

    Raises:
        OSError: when the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()  # what it points to is written, and it stays
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)
    return path


def _sync(folder: Path) -> None:
    """The name itself, where the system can be asked for that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

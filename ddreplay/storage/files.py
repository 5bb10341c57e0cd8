"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["read_whole", "write_atomically"]


def read_whole(path: str | Path) -> bytes:
    """All bytes of a file that is one: a pipe or a device has no end.

    Raises:
        OSError: when it cannot be read, or is no regular file.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder; give a file in it")
    if not stat.S_ISREG(mode):
        raise OSError(f"{path} is no regular file but a pipe, a socket or a device; give a file")
    return Path(path).read_bytes()


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

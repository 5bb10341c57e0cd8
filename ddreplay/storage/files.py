"""Files that are written whole or not at all, by one writer, and read where they have an end."""

from __future__ import annotations

import errno
import os
import platform
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["AlreadyInUse", "one_writer", "read_whole", "write_atomically"]


class AlreadyInUse(OSError):
    """Another process, or another thread of this one, is writing the file."""


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

    The file has the permissions that the user's umask gives. Where anything fails, what stood there before still does. Temporary files
    that killed processes of this machine left beside it are removed.

    Raises:
        OSError: when the folder cannot be written, the disk is full, or a pipe or a device stands there, which stays.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()  # what it points to is written, and it stays
    _refuse_special(path)
    temporary = path.with_name(f".{path.name}.{_machine()}.{os.getpid()}.{threading.get_native_id()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        said = f"{error.strerror or error}; nothing was written, and what stood there before still does"
        raise OSError(error.errno or errno.EIO, said, str(path)) from error
    except BaseException:
        _remove(temporary)
        raise
    _sync(path.parent)
    _remove_leftovers(path)
    return path


def _refuse_special(path: Path) -> None:
    """Raise OSError where a pipe, a socket or a device stands, which a file would take the place of."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, and stays one; give a file", str(path))


@contextmanager
def one_writer(path: str | Path) -> Iterator[None]:
    """Within it this is the only process that writes the file; the system lifts the lock where the process is killed.

    Raises:
        AlreadyInUse: when another one does.
        OSError: when the folder cannot be written.
    """
    path = Path(path)
    if os.name != "posix":
        yield
        return
    handle = _lock(path)
    try:
        yield
    finally:
        if handle is not None:
            path.with_name(f".{path.name}.lock").unlink(missing_ok=True)  # while it is still held
            os.close(handle)


def _lock(path: Path) -> int | None:
    """An open handle on a locked file beside it; None where the file system has no locks."""
    import fcntl

    file = path.with_name(f".{path.name}.lock")
    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            said = f"{error.strerror}; it cannot be locked for writing, give a file in a folder of your own"
            raise OSError(error.errno, said, str(path)) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(file) and os.path.samestat(os.fstat(handle), os.stat(file)):
                return handle
        except BlockingIOError as error:
            os.close(handle)
            raise AlreadyInUse(
                f"{path} is being written by another run; wait for it, or give this one another file"
            ) from error
        except FileNotFoundError:
            pass
        except OSError:  # network file systems may have no locks
            os.close(handle)
            file.unlink(missing_ok=True)
            return None
        os.close(handle)  # whoever held it has removed it meanwhile


def _machine() -> str:
    return re.sub(r"[^\w-]", "_", platform.node()) or "machine"


def _remove_leftovers(path: Path) -> None:
    """Temporary files of this one whose process, on this machine, is no more."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.{re.escape(_machine())}\.(\d+)\.\d+\.part")
    try:
        found = [(entry.path, pattern.fullmatch(entry.name)) for entry in os.scandir(path.parent)]
    except OSError:  # a folder that may be written, but not listed
        return
    for leftover, match in found:
        if match is not None and not _lives(int(match[1])):
            _remove(Path(leftover))


def _lives(process: int) -> bool:
    if os.name != "posix":
        return True  # asking would end it
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError:  # it is in the way of nothing, and another error is to be told
        return


def _sync(folder: Path) -> None:
    """The name itself, where the system can be asked for that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

"""Writing whole or not at all: full disks, read-only folders, second writers, leftovers of killed processes."""

from __future__ import annotations

import errno
import os
import platform
import re
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddreplay import ClassPool, ConvNet, dm
from ddreplay.storage.files import AlreadyInUse, one_writer, write_atomically
from ddreplay.terminal import check_writable

MakePool = Callable[..., ClassPool]
DEAD = 2**22 + 1  # above the largest number that Linux gives a process


def leftover(path: Path, process: int) -> Path:
    machine = re.sub(r"[^\w-]", "_", platform.node())
    return path.with_name(f".{path.name}.{machine}.{process}.{process}.part")


def test_a_file_has_the_permissions_of_the_umask_and_a_link_stays(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write_atomically(tmp_path / "link", b"2")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_bytes() == b"2"


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="what stood there before still does") as raised:
            write_atomically(tmp_path / "a", bytes(10**5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert raised.value.errno == errno.EFBIG
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_what_cannot_be_made_durable_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "a", b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device; nothing was written.*a'"):
        write_atomically(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for write in (lambda path: write_atomically(path, b"new"), check_writable):
        for name in ("pipe", "link"):
            with pytest.raises(OSError, match=r"it is a pipe, a socket or a device.*; give a file"):
                write(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 2


READ_ONLY = """
import os, sys
from ddreplay.storage.files import one_writer, write_atomically
if os.getuid() == 0:
    os.setuid(65534)  # the administrator may write everywhere
for attempt in (lambda: write_atomically(sys.argv[1], b"new"), lambda: one_writer(sys.argv[1]).__enter__()):
    try:
        attempt()
    except PermissionError as error:
        print(error)
"""


def test_a_read_only_folder_is_named_and_its_files_stay() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(b"old")
        Path(folder).chmod(0o555)
        done = subprocess.run([sys.executable, "-c", READ_ONLY, str(path)], capture_output=True, text=True, check=True)
        Path(folder).chmod(0o755)
        assert "nothing was written" in done.stdout
        assert "cannot be locked for writing" in done.stdout
        assert [(p.name, p.read_bytes()) for p in Path(folder).iterdir()] == [("a", b"old")]


def test_leftovers_of_dead_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "a"
    dead, alive, other = leftover(path, DEAD), leftover(path, os.getppid()), leftover(tmp_path / "b", DEAD)
    elsewhere = path.with_name(f".a.another-machine.{DEAD}.1.part")
    for file in (dead, alive, other, elsewhere):
        file.touch()
    write_atomically(path, b"1")
    assert {p.name for p in tmp_path.iterdir()} == {"a", alive.name, other.name, elsewhere.name}


def test_threads_that_write_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a"
    payloads = [bytes([k]) * 200_000 for k in range(4)]

    def write(payload: bytes) -> None:
        for _ in range(10):
            write_atomically(path, payload)

    threads = [threading.Thread(target=write, args=(payload,)) for payload in payloads]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert path.read_bytes() in payloads
    assert path.read_bytes() in payloads
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_second_writer_is_refused_and_the_lock_goes(tmp_path: Path) -> None:
    with one_writer(tmp_path / "ck"):
        with pytest.raises(AlreadyInUse, match="another run"), one_writer(tmp_path / "ck"):
            pass
        with one_writer(tmp_path / "other"):
            pass
    assert not list(tmp_path.iterdir())
    with one_writer(tmp_path / "ck"):
        pass


def test_two_runs_do_not_share_a_checkpoint(toy_pool: MakePool, tmp_path: Path) -> None:
    method, path = dm(ConvNet(width=8), steps=3), tmp_path / "ck"
    refused: list[str] = []

    def second(step: int, loss: Any) -> None:
        try:
            method(toy_pool(), 2, checkpoint=path)
        except AlreadyInUse as error:
            refused.append(str(error))

    method(toy_pool(), 2, checkpoint=path, checkpoint_every=1, on_step=second)
    assert len(refused) == 3
    assert "give this one another file" in refused[0]
    assert [p.name for p in tmp_path.iterdir()] == ["ck"]


HOLD = """
import sys, time
from ddreplay.storage.files import one_writer
with one_writer(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_binds_nobody(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "ck")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(AlreadyInUse), one_writer(tmp_path / "ck"):
        pass
    child.kill()
    child.wait()
    child.stdout.close()
    assert (tmp_path / ".ck.lock").exists()
    with one_writer(tmp_path / "ck"):
        pass
    assert not list(tmp_path.iterdir())

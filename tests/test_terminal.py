"""What the command line says while it works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ddreplay.condense.condenser import Progress
from ddreplay.terminal import Bars, check_writable

ROOT = Path(__file__).resolve().parent.parent


def test_phases_that_take_turns_have_a_bar_each(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(quiet=False) as bars:
        for k in range(1, 21):
            bars(Progress("bank", k, 20))
            bars(Progress("steps", k, 400))
    said = capsys.readouterr().err
    assert "networks: 100%" in said
    assert "20/400" in said
    assert said.count("\n") <= 4


def test_a_quiet_bar_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars(quiet=True) as bars:
        bars(Progress("images", 1, None))
    assert capsys.readouterr() == ("", "")


def test_trying_a_path_leaves_nothing_but_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    check_writable(path)
    assert [p.name for p in tmp_path.rglob("*")] == ["new"]
    path.write_text("kept")
    check_writable(path)
    assert path.read_text() == "kept"


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    command = f"{sys.executable} -m ddreplay methods | head -1"
    ran = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stdout.startswith("methods: --method dm")
    assert ran.stderr == ""

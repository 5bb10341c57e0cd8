"""Cells on joblib's backends: a local cluster of two workers gives what one process gives."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.__main__ import _backend, main
from benchmarks.backends import BACKENDS, cluster_size, spread, spread_over
from benchmarks.report.records import read
from benchmarks.stream_kinds import run_cell
from benchmarks.workers import each, processes

ROOT = Path(__file__).parents[2]


def plus_and_threads(base: int, cell: int) -> tuple[int, int]:
    return base + cell, torch.get_num_threads()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_command_gives_the_same_results_as_in_one_process(
    backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["stream-kinds", "--backend", backend, "--kinds", "class", "--memories", "none", "ring"]
    command += ["--seeds", "1", "--epochs", "1", "--workers", "2", "--out", str(tmp_path)]
    if backend == "loky":
        assert main(command) == 0
        said = capsys.readouterr().out
    else:  # a cluster of its own, which leaves nothing behind in this process
        pytest.importorskip("ray" if backend == "ray" else "distributed")
        whole = [sys.executable, "-m", "benchmarks", *command]
        done = subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        said = done.stdout
    assert "ring" in said
    found = {(r["kind"], r["memory"]): r for r in json.loads((tmp_path / "stream_kinds.json").read_text())["results"]}
    assert len(found) == 2
    for (kind, memory), result in found.items():
        alone = run_cell("digits", 340, 1, (kind, memory, 0))
        assert {k: v for k, v in result.items() if k != "seconds"} == {k: v for k, v in alone.items() if k != "seconds"}


def test_workers_of_loky_have_one_thread() -> None:
    assert spread_over() is None
    with spread("loky"):
        assert spread_over() == "loky"
        assert processes("cuda") == cluster_size() >= 1
        found = sorted(each(partial(plus_and_threads, 10), [1, 2, 3], 2))
    assert spread_over() is None
    assert found == [(11, 1), (12, 1), (13, 1)]


def test_the_option_stands_anywhere() -> None:
    assert _backend(["gdumb", "--backend", "ray", "--seeds", "1"]) == (["gdumb", "--seeds", "1"], "ray")
    assert _backend(["--backend=dask", "gdumb"]) == (["gdumb"], "dask")
    assert _backend(["gdumb"]) == (["gdumb"], None)
    with pytest.raises(ValueError, match="needs a name"):
        _backend(["gdumb", "--backend", "--seeds"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--backend"], "needs a name"),
        (["--backend", "ray"], "name a benchmark"),
        (["stream-kinds", "--backend", "spark"], "backend must be among loky, ray, dask"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_backend_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: dict[str, Any] = {"ray": None, "distributed": None}
    for name, module in missing.items():
        monkeypatch.setitem(sys.modules, name, module)
    for backend in ("ray", "dask"):
        with pytest.raises(ImportError, match=rf"pip install 'ddreplay\[{backend}\]'"), spread(backend):
            pass


def test_the_records_of_all_backends_hold_the_same_results() -> None:
    folder = ROOT / "benchmarks" / "records"
    found = []
    for where in ("one", "ray", "dask"):
        results = read(folder / f"backends_digits_{where}.json").results
        cells = [{k: v for k, v in one.items() if "seconds" not in k} for one in results]
        found.append(sorted(cells, key=lambda one: json.dumps(one, sort_keys=True)))
    assert len(found[0]) == 20
    assert found[0] == found[1] == found[2]

"""The soak command in small: its counts, and that it sees what it looks for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


KILLS = """
from benchmarks.soak import kills
from benchmarks.soak.runs import RUNS

names = ("dm, 2 images", "mtt, 2 images", "an evaluation of 6 networks", "a stream without boundaries, 9000 bytes")
runs, seen = {name: RUNS[name] for name in names}, []
counts = kills.kill_runs(folder, 30, runs=runs, on_run=lambda c: seen.append(c.kills))
assert counts.kills == 30 and counts.runs == counts.same == len(seen) and counts.failures == counts.fresh == 0, counts
kills.kill_runs(folder, 49, runs=runs, counts=counts)  # goes on
assert counts.kills == 49 == sum(counts.by_run.values()) and counts.runs == counts.same and counts.failures == 0, counts
fresh = kills.kill_runs(folder, 1, runs=runs, fresh_every=1)
assert fresh.kills == fresh.fresh == fresh.runs == fresh.same == 1 and fresh.failures == 0, fresh
"""

COMMAND = """
from benchmarks.__main__ import main

command = ["soak", "--minutes", "20", "--kills", "3", "--files", "30", "--updates", "16", "--out", str(folder)]
assert main(command) == 0
"""

SEES = """
import torch
from pathlib import Path
from benchmarks.soak import hostile, kills
from ddreplay.storage.files import write_atomically

def forgets(folder):
    state = folder / "ck"
    seen = int(state.read_text()) if state.exists() else 0
    write_atomically(state, str(seen + 1).encode())
    (folder / "left.part").touch()
    for _ in range(30):
        torch.rand(200, 200) @ torch.rand(200, 200)
    return torch.tensor([float(seen)])

counts = kills.kill_runs(folder, 5, runs={"forgets": forgets})
assert counts.kills == 5 and counts.same < counts.runs and counts.leftovers, counts

def careless(path):
    if path.read_bytes()[:1] == b"\\x00":
        raise KeyError("format")
    (Path.cwd() / "written").touch()

def hangs(path):
    while True:
        pass

hostile.KINDS = {n: hostile.Kind(n, careless, k.forge, True) for n, k in hostile.KINDS.items()}
counts = hostile.read_files(folder / "a", 20, with_bombs=False)
assert counts.failures >= 8 and counts.wrote and counts.unnoticed, counts
hostile.SECONDS = 0.5
hostile.KINDS = {n: hostile.Kind(n, hangs, k.forge, True) for n, k in hostile.KINDS.items()}
counts = hostile.read_files(folder / "b", 2, with_bombs=False)
assert counts.slow == 2, counts
hostile.SECONDS = 60.0
hostile.KINDS = {n: hostile.Kind(n, lambda path: torch.zeros(2**30), k.forge, True) for n, k in hostile.KINDS.items()}
counts = hostile.read_files(folder / "c", 2, with_bombs=False)
assert counts.foreign == 2, counts  # no gigabyte is to be had
"""


PARTS = {"kills": KILLS, "command": COMMAND, "sees": SEES}
RUN = """
import json, sys, torch, traceback
from pathlib import Path

torch.set_num_threads(1)
whole, wrong = Path(sys.argv[1]), {}
for name, code in json.loads(sys.argv[2]).items():
    folder = whole / name
    folder.mkdir()
    try:
        exec(code, {"folder": folder})
    except BaseException:
        wrong[name] = traceback.format_exc()
(whole / "wrong.json").write_text(json.dumps(wrong))
"""


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The parts, one after the other, in one interpreter whose forks are killed: their folders, and what was not as it should be."""
    folder = tmp_path_factory.mktemp("soak")
    command = [sys.executable, "-c", RUN, str(folder), json.dumps(PARTS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads((folder / "wrong.json").read_text())


def test_fifty_kills_leave_the_same_bits(soaked: tuple[Path, dict[str, str]]) -> None:
    assert "kills" not in soaked[1], soaked[1]["kills"]


def test_kills_files_and_updates_leave_nothing_wrong(soaked: tuple[Path, dict[str, str]]) -> None:
    folder, wrong = soaked
    assert "command" not in wrong, wrong["command"]
    results = json.loads((folder / "command" / "soak.json").read_text())["results"]
    assert [one["part"] for one in results] == ["kills", "files", *["updates"] * 3]
    assert sum(results[1]["by_kind"].values()) == results[1]["files"]
    kills, files = results[:2]
    assert kills["kills"] == 3
    assert kills["runs"] == kills["same"] >= 1
    assert files["files"] >= 30
    assert files["refused"] + files["read"] == files["files"]
    assert files["memory"] < 2**30


def test_it_sees_what_it_looks_for(soaked: tuple[Path, dict[str, str]]) -> None:
    assert "sees" not in soaked[1], soaked[1]["sees"]


def test_updates_that_cannot_be_compared_are_refused() -> None:
    from benchmarks.soak.updates import UpdateCounts, update_often

    with pytest.raises(ValueError, match="at least 8"):
        update_often(7, "random, 2 images a class")
    steady = UpdateCounts("m", 200, (0.01, 0.011), (900, 910), (10**8, 10**8))
    assert steady.flat
    assert not UpdateCounts("m", 200, (0.01, 0.03), (900, 910), (10**8, 10**8)).flat
    assert not UpdateCounts("m", 200, (0.01, 0.01), (900, 9100), (10**8, 10**8)).flat
    assert not UpdateCounts("m", 200, (0.01, 0.01), (900, 910), (10**8, 2 * 10**8)).flat

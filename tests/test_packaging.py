"""What is promised of the package as a whole: what a wheel holds, what an import costs, where randomness comes from."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

import ddreplay
from ddreplay.datasets import channel_moments

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "ddreplay").rglob("*.py"))


def test_the_wheel_holds_ddreplay_and_nothing_else(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("ddreplay", "strategies", "benchmarks", "tests"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.json"))
    code = "import setuptools.build_meta as backend; backend.build_wheel('dist')"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ddreplay"}
    assert {"ddreplay/py.typed", "ddreplay/report/page.html", "ddreplay/examples/digits-dm.safetensors"} <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {name for name in names if name.endswith(".py")} == {p.relative_to(ROOT).as_posix() for p in SOURCES}


SECONDS = 2.0
"""Of ``import ddreplay`` after ``import torch``, at most."""


@pytest.fixture(scope="module")
def imports() -> list[dict[str, Any]]:
    """Fresh interpreters, three at most, until one is quick: seconds of ``import torch``, of ``import ddreplay`` after it, modules."""
    code = (
        "import sys, time, json; a = time.perf_counter(); import torch; b = time.perf_counter(); before = set(sys.modules); "
        "import ddreplay; [getattr(ddreplay, name) for name in ddreplay.__all__]; c = time.perf_counter(); "
        "print(json.dumps({'torch': b - a, 'ddreplay': c - b, 'modules': sorted(set(sys.modules) - before)}))"
    )
    found: list[dict[str, Any]] = []
    while len(found) < 3 and not any(run["ddreplay"] < SECONDS for run in found):
        ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        found.append(json.loads(ran.stdout))
    return found


def test_the_import_is_quick(imports: list[dict[str, Any]]) -> None:
    assert min(run["ddreplay"] for run in imports) < SECONDS, [(run["torch"], run["ddreplay"]) for run in imports]


def test_the_import_loads_nothing_heavy(imports: list[dict[str, Any]]) -> None:
    loaded = {name.split(".")[0] for name in imports[0]["modules"]}
    assert "ddreplay" in loaded
    assert not loaded & {"avalanche", "sklearn", "matplotlib", "torchvision", "scipy", "beartype"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded when some code has run."""
    code += "\nimport sys; print(' '.join({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(ran.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["condense", "--help"], ["--version"], ["methods"]])
def test_help_is_there_without_torch(arguments: list[str]) -> None:
    loaded = modules_after(
        f"from ddreplay.cli import main\ntry:\n    main({arguments})\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert "ddreplay" in loaded
    assert not loaded & {"torch", "numpy", "scipy", "sklearn", "PIL"}


def test_the_import_alone_loads_no_torch_and_a_name_does() -> None:
    assert "torch" not in modules_after("import ddreplay; dir(ddreplay)")
    assert "torch" in modules_after("from ddreplay import dm")


def test_what_is_imported_late_is_what_type_checkers_are_told() -> None:
    tree = ast.parse((ROOT / "ddreplay" / "__init__.py").read_text(encoding="utf-8"))
    (told,) = [node for node in tree.body if isinstance(node, ast.If)]
    known = {alias.name for node in told.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert known == set(ddreplay.__all__)
    assert known <= set(dir(ddreplay))
    for name in known:
        assert getattr(ddreplay, name) is not None
    assert callable(ddreplay.evaluate)  # no module of that name stands in its way
    assert ddreplay.networks.Banked.__name__ == "Banked"
    with pytest.raises(AttributeError, match="no attribute 'dmm'"):
        ddreplay.dmm  # noqa: B018


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_randomness_has_one_door() -> None:
    """Durations may be measured (time.perf_counter); the time of day, and every generator but torch's, stay out.

    The door itself may keep the states of others.
    """
    modules = ("random.", "numpy.random.", "secrets.", "uuid.", "datetime.", "time.time.", "time.time_ns.")
    calls = {"np.random", "numpy.random", "time.time", "time.time_ns", "os.urandom", "torch.seed", "torch.initial_seed"}
    found = []
    for path in SOURCES:
        if path.name == "randomness.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [f"{path.name}: import {name}" for name in imported(tree) if f"{name}.".startswith(modules)]
        used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        found += [f"{path.name}: {name}" for name in sorted(used & calls)]
    assert found == []


def test_only_the_adapters_import_avalanche() -> None:
    users = {
        path.relative_to(ROOT).parts[1].removesuffix(".py")
        for path in SOURCES
        if any(f"{name}.".startswith("avalanche.") for name in imported(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert users <= {"avalanche"}


def test_shapes_are_checked_while_tests_run() -> None:
    with pytest.raises(TypeCheckError):
        channel_moments(torch.zeros(3))
    assert torch.get_num_threads() == 1

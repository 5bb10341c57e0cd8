"""Arrows between the folders of the package point one way."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ORDER = (
    "stopping", "randomness", "ranks", "eager_gradient", "data", "augment", "backbones", "storage", "examples", "training",
    "objectives", "parameterize", "networks", "protocol", "evaluation", "condense", "methods", "datasets", "memory", "online_memory",
    "baselines", "robust_scores", "expressions", "name_table", "names", "forecast", "report", "terminal", "commands", "avalanche",
    "frameworks", "cli", "__main__",
)  # fmt: skip
"""Every folder and file knows those before it at most."""


def arrows() -> set[tuple[str, str, str]]:
    """(file, its place, the place it imports from), imports inside functions too."""
    found = set()
    for path in sorted((ROOT / "ddreplay").rglob("*.py")):
        inside = path.relative_to(ROOT / "ddreplay")
        own = inside.with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ddreplay":
                parts = node.module.split(".")[1:]
                targets = [parts[0]] if parts else [alias.name for alias in node.names]
                found |= {(str(inside), own, target) for target in targets if target != own}
    return found


def test_no_arrow_points_upwards() -> None:
    places = {own for _, own, _ in arrows()} - {"__init__"}
    assert places <= set(ORDER)
    upwards = [
        (file, target)
        for file, own, target in arrows()
        if own != "__init__" and target in ORDER and ORDER.index(target) > ORDER.index(own)
    ]
    assert upwards == []


def test_there_are_arrows_to_look_at() -> None:
    assert ("condense", "storage") in {(own, target) for _, own, target in arrows()}


def test_benchmarks_and_strategies_do_not_import_the_command_line() -> None:
    for folder in ("benchmarks", "strategies"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "ddreplay.cli" not in path.read_text(encoding="utf-8"), path

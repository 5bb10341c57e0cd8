"""Shape annotations are checked while tests run; one thread, so that results do not depend on the machine's cores."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import install_import_hook

hook = install_import_hook("ddreplay", "beartype.beartype")

import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Digits condensed by one step of dm, and herding's choice, one image per class each: for commands to be tried on."""
    from running_commands import QUICK

    from ddreplay.cli import main

    folder = tmp_path_factory.mktemp("sets")
    for name, method in (("dm", "dm(steps=1)"), ("herding", "herding(epochs=0)")):
        how = ["--method", method, *QUICK[2:], "--seed", "3", "--out", str(folder / name)]
        main(["condense", "digits", *how])
    return folder / "dm", folder / "herding"


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The practical default for images with 3 networks and 10 steps, evaluations by dc2021 with 10 epochs.

    For pages whose code is run to see that it runs and what it counts; how well networks learn is tested elsewhere.
    """
    from ddreplay.evaluation import PROTOCOLS

    monkeypatch.setitem(PROTOCOLS, "dc2021", PROTOCOLS["dc2021"].scaled(10))
    module = importlib.import_module("ddreplay.methods.practical")
    whole = module.practical

    def quick(*budget: Any, **how: Any) -> Any:
        made = whole(*budget, **how)
        return replace(made, networks=replace(made.networks, size=3), steps=10)

    monkeypatch.setattr(module, "practical", quick)

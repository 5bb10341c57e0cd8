"""Shape annotations are checked while tests run; one thread, so that results do not depend on the machine's cores."""

from __future__ import annotations

from pathlib import Path

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

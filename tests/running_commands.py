"""Running commands as people and machines do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ddreplay.cli import main

QUICK = ["--method", "dm", "--net", "convnet(width=8)", "--images-per-class", "1", "--json"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main(list(arguments))
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that misuse gives."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    return said.err


def photos(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 6) -> Path:
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (20 + 3 * i, 24), (40 + 150 * k, 10 * i, 90)).save(folder / name / f"{i}.jpg")
    return folder

"""The page about other frameworks: its code runs, Lightning's part where Lightning is there."""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "frameworks.md"


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plain, lightning, mammoth = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(plain, "plain", "exec"), names)
    said = re.search(r"([\d.]+) % of all classes, (\d+) bytes", capsys.readouterr().out)
    assert said
    assert float(said[1]) > 70  # without a memory: 20
    assert int(said[2]) < 3500
    assert (tmp_path / "memory.pt").is_file()
    exec(compile(mammoth, "mammoth", "exec"), names)
    assert names["examples"].shape == (16, 1, 8, 8)
    if importlib.util.find_spec("lightning") is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(lightning, "lightning", "exec"), names)
        assert len(names["replay"].memory) == 20

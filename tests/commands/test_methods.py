"""``ddreplay methods``: what may be named."""

from __future__ import annotations

import pytest
from running_commands import run

from ddreplay.cli import main


def test_methods_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    main(["methods"])
    said = capsys.readouterr().out
    assert "  dm                        Dataset condensation with distribution matching (DM)." in said
    rows = [line for line in said.splitlines() if line.startswith("  ")]
    assert [row for row in rows if not row.endswith(".")] == []  # whole sentences
    assert {len(row) - len(row.partition("  ")[2].lstrip()) for row in (row[2:] for row in rows)} == {26}  # one column
    assert "  banked  " in said
    main(["methods", "banked"])
    assert "size=40\n" in capsys.readouterr().out
    assert run(capsys, "methods", "dm", "--json")["steps"]["default"] == "20000"

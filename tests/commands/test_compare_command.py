"""``ddreplay compare``: where sets differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from running_commands import refused, run

from ddreplay.cli import main


def test_compared_sets_say_where_they_differ(sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "compare", *map(str, sets), "--json")
    assert found["different"]["method"] == ["dm", "herding"]
    assert found["different"]["settings.steps"] == [1, None]
    assert found["alike"]["seed"] == 3
    assert len(set(found["different"]["images_sha256"])) == 2
    assert "nbytes" in found["alike"]
    main(["compare", str(sets[0]), str(sets[0])])
    assert capsys.readouterr().out.startswith("nothing differs")
    assert "files must be two sets or more, got 1" in refused(capsys, "compare", str(sets[0]))

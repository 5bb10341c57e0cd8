"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
AVALANCHE, OWN_DATA = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PROMISED = re.compile(r"It prints five lines, from (\d+) images and ([\d,]+) bytes to (\d+) images and ([\d,]+),")


def printed(code: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    exec(compile(code, "README.md", "exec"), {})
    return capsys.readouterr().out.splitlines()


@pytest.mark.usefixtures("few_steps")
def test_ten_lines_of_avalanche_print_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    promised = PROMISED.search(README)
    assert promised
    first, first_nbytes, last, last_nbytes = (word.replace(",", "") for word in promised.groups())
    lines = printed(AVALANCHE, capsys)
    assert len(lines) == 5
    assert lines[0] == f"{first} images replayed, {first_nbytes} bytes"
    assert lines[-1] == f"{last} images replayed, {last_nbytes} bytes"


@pytest.mark.usefixtures("few_steps")
def test_own_networks_and_tensors_make_a_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = printed(OWN_DATA, capsys)
    assert int(line.split(" bytes, dm ")[0]) <= 4 * 1500
    assert (tmp_path / "set.safetensors").is_file()


def test_files_it_links_to_are_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len(links) > 8
    assert [link for link in links if not (ROOT / link).exists()] == []

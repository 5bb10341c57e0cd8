"""The documentation: code runs, links lead somewhere, every page is in the navigation, the catalogue is that of the record."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.catalogue import METHODS, RECORD, page
from benchmarks.report.records import read

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("name", ["index.md", "tracking.md"])
def test_code_of_a_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, name, "exec"), names)
    assert capsys.readouterr().out


FEWER = {
    "avalanche_stream": [("train_epochs=2", "train_epochs=1"), ("rounds=15", "rounds=2")],
    "own_method": [("size=20", "size=3"), ("steps=150", "steps=10"), ("scaled(60)", "scaled(3)")],
    "own_photos": [("--epochs 100", "--epochs 5"), ("steps=20", "steps=3")],
}
"""What a tutorial's numbers take, and a run of its code does not need."""


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = [c for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    assert all(c["outputs"] for c in cells if "print(" in "".join(c["source"])), "run docs/site/run_notebooks.py"
    code = ["".join(cell["source"]) for cell in cells]
    for many, few in FEWER[notebook.stem]:
        assert any(many in block for block in code), many
        code = [block.replace(many, few) for block in code]
    names: dict[str, Any] = {"__name__": "notebook"}
    for number, block in enumerate(code):
        exec(compile(block, f"{notebook.name}, cell {number}", "exec"), names)


def test_no_output_of_a_notebook_names_a_place_of_this_machine() -> None:
    for notebook in NOTEBOOKS:
        assert not re.search(r"/(tmp|home|work|root)/", notebook.read_text(encoding="utf-8")), notebook.name


def test_the_catalogue_is_that_of_the_record() -> None:
    record = read(RECORD)
    assert [r["method"] for r in record.results] == list(METHODS)
    text = (DOCS / "methods.md").read_text(encoding="utf-8")
    assert text == page(record), "python -m benchmarks catalogue --page-only"
    for name in METHODS:
        assert f"## {name}\n" in text
    assert text.count("*Reference.*") >= 16
    assert "| [`dm`](#dm) |" in text


@pytest.mark.parametrize("path", PAGES, ids=[path.relative_to(DOCS).as_posix() for path in PAGES])
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if "://" not in link:
            found = (path.parent / link).resolve()
            # a page of a notebook is made when the site is built
            assert found.exists() or found.with_suffix(".ipynb").exists(), f"{path.name}: {link}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    named = set(re.findall(r": ([\w/.-]+\.md)", navigation))
    written = {path.relative_to(DOCS).as_posix() for path in PAGES}
    written |= {path.relative_to(DOCS).with_suffix(".md").as_posix() for path in NOTEBOOKS}
    assert named == written


def test_the_site_asks_no_other_host() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in config
    assert "http" not in config

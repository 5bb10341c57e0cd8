"""``python docs/site/run_notebooks.py [NAME ...]``: run the tutorials and keep what they print; needs ``ddreplay[docs]``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"
SECONDS = 300  # for a cell, on a busy machine


def run(path: Path) -> float:
    """Run a notebook in place, without what bars write while they move; returns seconds."""
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            for output in cell.outputs:
                output.get("data", {}).pop("image/jpeg", None)
    nbformat.write(notebook, path)
    return time.perf_counter() - started


def main() -> None:
    names = sys.argv[1:]
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        if not names or path.stem in names:
            sys.stdout.write(f"{path.stem}: {run(path):.0f} s\n")


if __name__ == "__main__":
    main()

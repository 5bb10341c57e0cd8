"""Pictures without global state: matplotlib is loaded on use, draws off screen, and pyplot is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["save_figure"]


@contextmanager
def save_figure(
    path: str | Path, *, columns: int = 1, rows: int = 1, width: float = 4.0, height: float = 3.0, dpi: int = 150
) -> Iterator[tuple[Any, ...]]:
    """Axes to draw on, row by row; the file is written when the block ends. Sizes of one panel are in inches."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'ddreplay[plots]'") from error
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    FigureCanvasAgg(figure)
    yield tuple(figure.subplots(rows, columns, squeeze=False).flat)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)

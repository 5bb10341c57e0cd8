"""Templates of pages: Jinja2 with every name escaped, and one style for all."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from ddreplay.storage.files import write_atomically

__all__ = ["check_available", "write_html"]


def write_html(template: str, path: str | Path, **values: Any) -> Path:
    """Fill in a template and write the page, all or nothing; ``style`` is there for the template to put in.

    Raises:
        ImportError: when Jinja2 is not installed.
        OSError: when the folder cannot be written.
    """
    style = files("ddreplay.report").joinpath("style.css").read_text(encoding="utf-8")
    page = _environment().from_string(template).render(style=style, **values)
    return write_atomically(path, page.encode("utf-8"))


def check_available() -> None:
    """Say before the work that a page could not be written.

    Raises:
        ImportError: when Jinja2 is not installed.
    """
    _environment()


def _environment() -> Any:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise ImportError("a report needs Jinja2: pip install 'ddreplay[report]'") from error
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)

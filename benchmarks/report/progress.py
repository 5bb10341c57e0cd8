"""One line on the terminal: what is done, what is left, and how long it will take."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

__all__ = ["Progress"]

_LINE = "{desc}: {n:.4g} of {total:.4g} {unit} ({percentage:.0f} %), {elapsed} so far, {remaining} left{postfix}"


class Progress:
    """Progress over a known amount of work; the estimate is the work left at the mean speed so far.

        with Progress(seeds * steps, "dm") as progress:
            ...
            progress.advance(note="seed 3")

    Args:
        total: units of work in all; where steps differ in cost, give their cost as units.
        description: begins the line.
        unit: what is counted, in the plural.
        file: where the line goes; standard error by default.
        every: seconds between two showings.
    """

    def __init__(
        self,
        total: float,
        description: str,
        *,
        unit: str = "steps",
        file: TextIO | None = None,
        every: float = 0.5,
    ) -> None:
        if total <= 0:
            raise ValueError(f"total must be positive, got {total}")
        self._bar = tqdm(
            total=total,
            desc=description,
            unit=unit,
            file=file or sys.stderr,
            mininterval=every,
            smoothing=0,  # the mean speed of the whole run
            bar_format=_LINE,
            dynamic_ncols=True,
        )

    def advance(self, units: float = 1, *, note: str = "") -> None:
        """``units`` of work are done; ``note`` ends the line."""
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(units)

    def close(self) -> None:
        """Show the last state and end the line."""
        self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

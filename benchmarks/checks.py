"""Checks of what people type, before any work."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["among", "at_least"]


def at_least(least: int, **values: int | float | None) -> None:
    """Every value that is given must be ``least`` or more: ``at_least(1, seeds=seeds)``.

    Raises:
        ValueError: naming the first one that is less.
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def among(name: str, values: Sequence[str], known: Sequence[str]) -> None:
    """Every value must be a known one.

    Raises:
        ValueError: naming those that are not, and all that are.
    """
    unknown = [value for value in values if value not in known]
    if unknown:
        raise ValueError(f"{name} must be among {', '.join(known)}, got {', '.join(map(repr, unknown))}")

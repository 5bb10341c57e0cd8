"""What several commands say alike."""

from __future__ import annotations

from typing import Literal

__all__ = ["WORTH_SAYING", "Resize"]

Resize = Literal["crop", "squash"]

WORTH_SAYING = 60
"""Seconds that something must take before its time is said."""

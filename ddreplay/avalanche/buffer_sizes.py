"""Sizes of a storage policy, as Avalanche's words ask for them and as its plugins look at them."""

from __future__ import annotations

import itertools
import traceback
from dataclasses import replace

from ddreplay.storage.budget import Budget

__all__ = ["Size", "budget_asked"]


class Size(int):
    """A number of images which, where Avalanche's own plugins assert that it is their ``mem_size``, says what to write instead.

    Their assertion has no message; everywhere else this is an int like any other.
    """

    def __eq__(self, other: object) -> bool:
        same = int(self) == other
        if not same and _replay_plugin_begins():
            raise ValueError(
                f"mem_size must be the size of the memory, {int(self)}, got {other}; write ReplayPlugin(mem_size=memory.max_size, "
                "storage_policy=memory), or CondensedReplayPlugin(memory), which takes it from the memory"
            )
        return same

    __hash__ = int.__hash__


def _replay_plugin_begins() -> bool:
    """Whether the question comes from the constructor of Avalanche's replay plugin (checkers of types may stand between)."""
    nearest = itertools.islice(traceback.walk_stack(None), 16)
    return any(
        frame.f_code.co_name == "__init__" and frame.f_globals.get("__name__") == "avalanche.training.plugins.replay"
        for frame, _ in nearest
    )


def budget_asked(
    max_size: int | None,
    adaptive: bool,
    total: int | None,
    images: int | None,
    per_class: int | float | None,
    in_all: int | None,
) -> Budget:
    """The budget that the arguments of a storage policy ask for; what is missing follows from what is given."""
    if per_class is not None or in_all is not None:
        if max_size is not None or adaptive or images is not None:
            raise ValueError(
                "a budget is in images (max_size, adaptive_size, images_per_class) or in bytes (bytes_per_class, max_bytes), not both"
            )
        return replace(Budget.of(bytes_per_class=per_class, max_bytes=in_all), classes=total)
    numbers = {"max_size": max_size, "total_num_classes": total, "images_per_class": images}
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if adaptive:
        if max_size is None or total is not None or images is not None:
            raise ValueError(f"adaptive_size=True shares max_size alone between the classes seen so far, got {numbers}")
        return Budget.total_images(max_size)
    if images is None:
        if max_size is None or total is None:
            raise ValueError(
                f"a fixed budget needs images_per_class, or max_size with total_num_classes, got {numbers}; "
                "adaptive_size=True shares max_size between the classes seen so far"
            )
        return Budget.total_images(max_size, classes=total)
    if max_size is not None:
        total = max_size // images if total is None else total
        if not 0 < images * total <= max_size:
            raise ValueError(f"images_per_class times total_num_classes is more than max_size: {numbers}")
    return Budget.images(images, classes=total)

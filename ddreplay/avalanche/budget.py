"""How much a class may store, out of a total or for itself: images or bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ddreplay.storage.budget import check_budget

__all__ = ["Budget"]


@dataclass(frozen=True)
class Budget:
    """A total of stored images for all groups, or a number for each group, or both.

    A group is a class, or a class of a task where a stream has several tasks.

    Attributes:
        max_size: stored images in all; ``None``: no total, every group has ``images_per_class``.
        images_per_class: stored images of every group; ``None``: ``max_size`` is shared by the groups seen so far.
        total: groups the whole stream has; ``None``: not known.
        bytes_per_class, max_bytes: instead of images: bytes of every group, or in all, shared by the groups seen so far.
    """

    max_size: int | None
    images_per_class: int | None
    total: int | None
    bytes_per_class: int | float | None = None
    max_bytes: int | None = None

    @classmethod
    def of_bytes(cls, total: int | None, bytes_per_class: int | float | None, max_bytes: int | None) -> Budget:
        """From a budget in bytes; with ``total`` groups known, each has its share of ``max_bytes`` from the beginning."""
        check_budget(None, bytes_per_class, max_bytes)
        if total is not None and total < 1:
            raise ValueError(f"total_num_classes must be at least 1, got {total}")
        if total is not None and max_bytes is not None:
            bytes_per_class, max_bytes = max_bytes / total, None
        return cls(None, None, total, bytes_per_class, max_bytes)

    @classmethod
    def of(cls, max_size: int | None, adaptive_size: bool, total: int | None, images_per_class: int | None) -> Budget:
        """From the arguments of a storage policy; what is missing follows from what is given."""
        numbers = {"max_size": max_size, "total_num_classes": total, "images_per_class": images_per_class}
        for name, value in numbers.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if adaptive_size:
            if max_size is None or total is not None or images_per_class is not None:
                raise ValueError(
                    f"adaptive_size=True shares max_size alone between the classes seen so far, got {numbers}"
                )
            return cls(max_size, None, None)
        if images_per_class is None:
            if max_size is None or total is None:
                raise ValueError(
                    f"a fixed budget needs images_per_class, or max_size with total_num_classes, got {numbers}; "
                    "adaptive_size=True shares max_size between the classes seen so far"
                )
            images_per_class = _share(max_size, total)
        elif total is None and max_size is not None:
            total = max_size // images_per_class
        if total is not None and max_size is None:
            max_size = images_per_class * total
        if total is not None and max_size is not None and not 0 < images_per_class * total <= max_size:
            raise ValueError(f"images_per_class times total_num_classes is more than max_size: {numbers}")
        return cls(max_size, images_per_class, total)

    @property
    def in_bytes(self) -> bool:
        return self.bytes_per_class is not None or self.max_bytes is not None

    def limits(self, groups: int) -> dict[str, Any]:
        """What a `ddreplay.CondensedMemory` is told, when there are ``groups`` groups."""
        if not self.in_bytes:
            return {"images_per_class": self.per_class(groups)}
        self._check(groups)
        return {"bytes_per_class": self.bytes_per_class or (self.max_bytes or 0) / max(1, groups)}

    def per_class(self, groups: int) -> int:
        """Stored images of each of ``groups`` groups.

        Raises:
            ValueError: when there are more groups than the budget was made for.
        """
        self._check(groups)
        if self.images_per_class is not None:
            return self.images_per_class
        return _share(self.max_size or 0, groups)

    def _check(self, groups: int) -> None:
        if self.total is not None and groups > self.total:
            raise ValueError(
                f"the stream has shown {groups} classes (of a task each), but the memory was made for {self.total}; "
                "raise total_num_classes and max_size, or use adaptive_size=True"
            )

    def size(self, groups: int) -> int:
        """Stored images in all: the total, or where there is none, what ``groups`` groups may hold."""
        return self.max_size if self.max_size is not None else groups * (self.images_per_class or 0)

    def resized(self, max_size: int, groups: int) -> Budget:
        """The same rule under another total; ``groups`` is how many are held now."""
        if self.in_bytes:
            raise ValueError(
                "max_size counts images, and this memory's budget is in bytes; make one with another budget"
            )
        if self.images_per_class is None:
            _share(max_size, max(groups, 1))
            return replace(self, max_size=max_size)
        per_class = _share(max_size, self.total or max(groups, 1))
        return replace(self, max_size=None if self.max_size is None else max_size, images_per_class=per_class)


def _share(max_size: int, groups: int) -> int:
    if max_size < groups:
        raise ValueError(f"max_size {max_size} is less than one image for each of {groups} classes; raise max_size")
    return max_size // groups

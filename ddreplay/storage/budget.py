"""What may be stored: so many images or bytes, for each class or in all."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from ddreplay.data.pool import ClassPool
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.part import overhead

__all__ = ["Budget"]


@dataclass(frozen=True)
class Budget:
    """So many stored images, or so many bytes of everything stored, for each class or shared by all.

    Made by `images`, `bytes`, `total_images` and `total_bytes`.

    Attributes:
        amount: images (a whole number), or bytes.
        unit: what is counted.
        shared: whether the amount is one for all classes, which share it alike, rounded down.
        classes: at most so many classes are stored; a shared amount is then divided by this number from the beginning, so that
            nothing shrinks. ``None``: any number, and a shared amount is divided by the number of classes at hand.
    Raises:
        TypeError: when images are not a whole number.
        ValueError: when the amount or ``classes`` is below 1, or not finite.
    Example:
        >>> str(Budget.bytes(4000)), Budget.total_bytes(40_000).share(10), Budget.images(10).share(3)
        ('4 kB a class', 4000.0, 10)
    """

    amount: int | float
    unit: Literal["images", "bytes"]
    shared: bool = False
    classes: int | None = None

    def __post_init__(self) -> None:
        if self.unit not in ("images", "bytes"):
            raise ValueError(f"unit of a budget must be 'images' or 'bytes', got {self.unit!r}")
        whole = isinstance(self.amount, int) and not isinstance(self.amount, bool)
        if not whole and (self.unit == "images" or not isinstance(self.amount, float)):
            raise TypeError(f"{self.name} must be an integer, got {self.amount!r}")
        if not self.amount >= 1 or self.amount == math.inf:
            raise ValueError(f"{self.name} must be at least 1, and finite, got {self.amount}")
        if type(self.shared) is not bool or (self.classes is not None and type(self.classes) is not int):
            raise TypeError(
                f"shared must be a bool and classes an integer or None, got {self.shared!r} and {self.classes!r}"
            )
        if self.classes is not None and self.classes < 1:
            raise ValueError(f"total_num_classes must be at least 1, got {self.classes}")
        if self.shared and self.classes is not None and self.unit == "images":
            self.share(self.classes)

    @classmethod
    def images(cls, per_class: int, *, classes: int | None = None) -> Budget:
        """So many stored images of every class."""
        return cls(per_class, "images", False, classes)

    @classmethod
    def bytes(cls, per_class: int | float, *, classes: int | None = None) -> Budget:
        """So many bytes for every class: images, labels, counts, normalisation and decoder parameters together."""
        return cls(per_class, "bytes", False, classes)

    @classmethod
    def total_images(cls, images: int, *, classes: int | None = None) -> Budget:
        """So many stored images in all, shared by the classes."""
        return cls(images, "images", True, classes)

    @classmethod
    def total_bytes(cls, nbytes: int, *, classes: int | None = None) -> Budget:
        """So many bytes in all, shared by the classes."""
        return cls(nbytes, "bytes", True, classes)

    @classmethod
    def of(
        cls,
        budget: Budget | int | None = None,
        *,
        images_per_class: int | None = None,
        bytes_per_class: int | float | None = None,
        max_bytes: int | None = None,
    ) -> Budget:
        """From what a caller gave: a budget, an int (images per class), or one of the keywords of the doors.

        Raises:
            TypeError: unless exactly one is given, and it is a number.
            ValueError: when it is below 1.
        """
        if isinstance(budget, Budget):
            images_per_class, made = None, budget
        else:
            images_per_class, made = (images_per_class if budget is None else budget), None
        given = {"images_per_class": images_per_class, "bytes_per_class": bytes_per_class, "max_bytes": max_bytes}
        found = {name: value for name, value in given.items() if value is not None}
        if len(found) + (made is not None) != 1:
            raise TypeError(
                f"give exactly one budget: images_per_class, bytes_per_class or max_bytes, got {found or 'none'}"
            )
        if made is not None:
            return made
        if images_per_class is not None:
            return cls.images(images_per_class)
        return cls.total_bytes(max_bytes) if max_bytes is not None else cls.bytes(bytes_per_class or 0)

    @property
    def name(self) -> str:
        """The keyword that asks for such a budget."""
        of_class, in_all = {"images": ("images_per_class", "max_size"), "bytes": ("bytes_per_class", "max_bytes")}[
            self.unit
        ]
        return in_all if self.shared else of_class

    @property
    def in_bytes(self) -> bool:
        """Whether bytes are counted, so that number and quality of the images follow."""
        return self.unit == "bytes"

    def share(self, classes: int) -> int | float:
        """What each of so many classes gets: whole images, or bytes.

        Raises:
            ValueError: when there are more classes than the budget was made for, or not one image for each.
        """
        if self.classes is not None and classes > self.classes:
            raise ValueError(
                f"there are {classes} classes (of a task each), but the memory was made for {self.classes}; "
                "raise total_num_classes and the budget, or leave total_num_classes out"
            )
        if not self.shared:
            return self.amount
        among = max(1, self.classes or classes)
        if self.in_bytes:
            return self.amount / among
        if self.amount < among:
            raise ValueError(
                f"max_size {self.amount} is less than one image for each of {among} classes; raise max_size"
            )
        return int(self.amount // among)

    def of_each(self, classes: int) -> Budget:
        """What each of so many classes gets, as a budget of its own that shares nothing."""
        return replace(self, amount=self.share(classes), shared=False, classes=None)

    def total(self, classes: int) -> int:
        """What so many classes may take together: whole images, or whole bytes."""
        return int(self.share(classes) * classes)

    def room(self, pool: ClassPool, counts: tuple[int, ...]) -> int:
        """Bytes left for the stored images of a pool's classes, when labels, counts and normalisation are paid."""
        return self.total(pool.classes) - overhead(pool.class_ids.tolist(), counts, pool.shape[0])

    def fits(self, condensed: CondensedSet) -> bool:
        """Whether a set is within the budget."""
        if self.in_bytes:
            return condensed.nbytes <= self.total(len(condensed.class_ids))
        share = self.share(len(condensed.class_ids))
        return all(count <= share for part in condensed.parts for count in part.counts)

    def resized(self, images: int, classes: int) -> Budget:
        """The same rule under another total of images; ``classes`` is how many are held now.

        Raises:
            ValueError: when the budget is in bytes, or the total is less than one image for each class.
        """
        if self.in_bytes:
            raise ValueError("max_size counts images, and this budget is in bytes; make a memory with another budget")
        if self.shared:
            changed = replace(self, amount=images)
            changed.share(max(classes, 1))
            return changed
        shared = Budget.total_images(images, classes=self.classes)
        return replace(self, amount=shared.share(self.classes or max(classes, 1)))

    def __str__(self) -> str:
        if self.in_bytes:
            amount = f"{self.amount:g} B" if self.amount < 1000 else f"{self.amount / 1000:.4g} kB"
        else:
            amount = f"{self.amount} image" + "s" * (self.amount != 1)
        return f"{amount} in all" if self.shared else f"{amount} a class"

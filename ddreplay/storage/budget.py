"""Budgets: in images a class, or in bytes, where the number of images and their quality have to be chosen."""

from __future__ import annotations

from dataclasses import replace

from ddreplay.data.pool import ClassPool
from ddreplay.storage.codecs.codec import BudgetTooSmall, Codec
from ddreplay.storage.codecs.plain import float32
from ddreplay.storage.codecs.quality import fit_quality
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.decoders import select_beside
from ddreplay.storage.part import Part

__all__ = ["check_budget", "fit", "share_of", "total_bytes"]


def check_budget(
    images_per_class: int | None, bytes_per_class: int | float | None = None, max_bytes: int | None = None
) -> None:
    """Raise unless exactly one budget is given, and it is positive (images: an integer)."""
    given = {"images_per_class": images_per_class, "bytes_per_class": bytes_per_class, "max_bytes": max_bytes}
    found = {name: value for name, value in given.items() if value is not None}
    if len(found) != 1:
        raise TypeError(f"give exactly one of images_per_class, bytes_per_class and max_bytes, got {found or 'none'}")
    ((name, value),) = found.items()
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and (name != "bytes_per_class" or not isinstance(value, float)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not value >= 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def total_bytes(classes: int, bytes_per_class: int | float | None, max_bytes: int | None) -> int:
    """Whole bytes for so many classes."""
    return int(max_bytes if max_bytes is not None else (bytes_per_class or 0) * classes)


def share_of(pool: ClassPool, bytes_per_class: int | float, counts: tuple[int, ...]) -> int:
    """Bytes left for stored images, when labels, counts and normalisation are paid."""
    return int(bytes_per_class * pool.classes) - Part.of_stored(pool, {}, float32(), counts).nbytes


def fit(condensed: CondensedSet, max_bytes: int | float, codec: Codec | None = None) -> CondensedSet:
    """The set within a budget: a part that takes more than its classes' share is encoded anew.

    First with fewer images, as many as keep their bytes each, then at the highest quality that fits.

    Args:
        codec: of a part that is encoded anew; ``None``: its own.
    Raises:
        BudgetTooSmall: when not even one image of every class fits.
    """
    if condensed.nbytes <= max_bytes:
        return condensed
    per_class = max_bytes / max(1, len(condensed.class_ids))
    return replace(
        condensed, parts=tuple(_fit(part, int(per_class * len(part.class_ids)), codec) for part in condensed.parts)
    )


def _fit(part: Part, max_bytes: int, codec: Codec | None) -> Part:
    if part.nbytes <= max_bytes:
        return part
    family = codec or part.codec
    beside = select_beside(part.layout, part.stored, range(len(part.counts)))
    images = sum(tensor.nbytes for name, tensor in part.stored.items() if name not in beside)
    rest = part.nbytes - images
    if part.soft_labels is not None or "coefficients" in beside or rest >= max_bytes:
        raise BudgetTooSmall(
            f"the set takes {part.nbytes} bytes of {max_bytes}, {rest} of them beside its images (labels, coefficients, a whitening), "
            "which a smaller budget cannot cut; store fewer images or raise the budget"
        )
    blocks = part.codec.decode(part.stored, part.counts, part.shape)
    largest = max(part.counts)
    # a set that only just misses keeps its images; one that shrinks much keeps their quality
    limit = (
        largest if codec is not None or part.nbytes < 1.2 * max_bytes else max(1, largest * max_bytes // part.nbytes)
    )
    while True:
        kept = [block[:limit] for block in blocks]
        try:
            fitted = fit_quality(family, kept, max_bytes=max_bytes - rest)
        except BudgetTooSmall:
            if limit == 1:
                raise
            limit = max(1, limit * 3 // 4)
            continue
        return part.encoded_anew(fitted, limit)

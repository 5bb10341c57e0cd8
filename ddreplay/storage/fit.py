"""A set within a budget in bytes: fewer images, or a lower quality."""

from __future__ import annotations

from dataclasses import replace

from ddreplay.storage.codecs.codec import BudgetTooSmall, Codec
from ddreplay.storage.codecs.plain import float32
from ddreplay.storage.codecs.quality import fit_quality
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.part import Part

__all__ = ["fit"]


def fit(condensed: CondensedSet, max_bytes: int | float, codec: Codec | None = None) -> CondensedSet:
    """The set within a budget: a part that takes more than its classes' share is encoded anew.

    First with fewer images, as many as keep their bytes each, then at the highest quality that fits.

    Args:
        max_bytes: of the whole set, labels and everything else included.
        codec: the family for a part that is encoded anew; ``None``: its own.
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
    largest = max(part.counts)
    # a set that only just misses keeps its images; one that shrinks much keeps their quality
    keep = codec is not None or part.nbytes < 1.2 * max_bytes
    limit = largest if keep else max(1, largest * max_bytes // part.nbytes)
    family = codec or part.codec
    while True:
        try:
            raw = part.encoded_anew(float32(), limit)
        except ValueError as error:  # its images need each other: only their quality can give way
            if limit == largest or keep:
                raise BudgetTooSmall(
                    f"the set takes {part.nbytes} bytes of {max_bytes}: {error}, or raise the budget"
                ) from error
            limit = largest
            continue
        rest = raw.nbytes - raw.images_nbytes
        try:
            if rest >= max_bytes:
                raise BudgetTooSmall(
                    f"the set takes {part.nbytes} bytes of {max_bytes}, {rest} of them beside its images (labels, coefficients, a "
                    "whitening), which a smaller budget cannot cut; store fewer images or raise the budget"
                )
            blocks = raw.codec.decode(raw.stored, raw.counts, raw.shape)
            room = max_bytes - rest
            return raw.encoded_anew(fit_quality(family, blocks, max_bytes=room), max_bytes=room)
        except BudgetTooSmall:
            if limit == 1:
                raise
            limit = max(1, limit * 3 // 4)

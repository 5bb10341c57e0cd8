"""The highest quality of a codec that fits a budget, and what is left of the budget spent class by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ddreplay.storage.codecs.codec import BudgetTooSmall, Codec, nbytes
from ddreplay.storage.codecs.known import codec_from_spec

__all__ = ["Graded", "fill", "fit_quality"]

FULL = 0.997
"""Of a budget: no more is looked for."""

ROUNDS = 2
"""How often every class may take a step."""


@runtime_checkable
class Graded(Protocol):
    """A codec whose classes are stored each by itself, and whose qualities have steps between them."""

    def between(self) -> Sequence[Graded]:
        """Members that take more bytes than this one, up to the next quality; from the most bytes to the fewest."""

    def restored(
        self, stored: Mapping[str, Tensor], counts: Sequence[int], position: int, images: Float[Tensor, "_ c h w"]
    ) -> dict[str, Tensor] | None:
        """What is stored, with one class's images written by this codec; ``None`` where they cannot stand together."""


def fill(codec: Codec, classes: Sequence[Float[Tensor, "_ c h w"]], max_bytes: int | float) -> dict[str, Tensor]:
    """Images stored by a codec, and what it leaves of a budget spent on better quality of one class after the other.

    The steps of a quantiser are wide where qualities are low: 15 to 25 % in bytes for AVIF's lowest. Every class takes the best member
    between its quality and the next for which there is room, twice at most, until 99.7 % of the budget are used. Decoding needs to know
    nothing of it. A codec without steps between its qualities (`Graded`) stores as it does.

    Args:
        codec: at a quality that fits (`fit_quality`); where it does not, nothing is added.
        classes: the images of each class, in pixel space.
        max_bytes: of the whole set.
    """
    stored = codec.encode(classes)
    if not isinstance(codec, Graded):
        return stored
    counts = [len(images) for images in classes]
    now: list[Graded] = [codec] * len(classes)
    for position in [k for k, count in enumerate(counts) if count] * ROUNDS:
        for member in now[position].between():
            if nbytes(stored) >= FULL * max_bytes:
                return stored
            tried = member.restored(stored, counts, position, classes[position])
            if tried is not None and nbytes(stored) < nbytes(tried) <= max_bytes:
                stored, now[position] = tried, member
                break
    return stored


def fit_quality(
    family: Codec | str,
    classes: Sequence[Float[Tensor, "_ c h w"]],
    *,
    max_bytes: int | None = None,
    bytes_per_class: int | float | None = None,
    near: Codec | None = None,
) -> Codec:
    """The highest quality of a codec's family whose stored set stays within the budget, shared parts included.

    Bytes are taken to grow with quality, which they do but for small steps, so a slightly higher quality may fit too; the one
    returned always does.

    Args:
        family: any member (its other parameters are kept), or the name of a codec.
        classes: the images of each class, in pixel space.
        max_bytes: of the whole set.
        bytes_per_class: the same, divided by the number of classes. Give one of the two.
        near: a member of the family to begin with, e.g. what fitted images like these: from there in growing strides, then
            bisection. ``None``: a tenth of the way up, because low qualities are written fastest.
    Raises:
        BudgetTooSmall: if the lowest quality is already too large.
    Example:
        >>> import torch
        >>> fit_quality("bits", [torch.rand(10, 1, 8, 8)], max_bytes=400)
        bits(n=4)
    """
    if max_bytes is not None and bytes_per_class is None:
        budget: float = max_bytes
    elif bytes_per_class is not None and max_bytes is None:
        budget = bytes_per_class * len(classes)
    else:
        raise ValueError(f"give one of max_bytes and bytes_per_class, got {max_bytes} and {bytes_per_class}")
    members = (codec_from_spec({"name": family}) if isinstance(family, str) else family).qualities()
    at = len(members) // 10 if near is None else members.index(near)
    fitting, beyond, stride = -1, len(members), 1
    while beyond - fitting > 1:
        size = nbytes(members[at].encode(classes))
        fitting, beyond = (at, beyond) if size <= budget else (fitting, at)
        if fitting >= 0 and beyond < len(members):
            at = (fitting + beyond) // 2
        else:  # all fitted so far, or none did: outwards
            at = max(0, beyond - stride) if fitting < 0 else min(len(members) - 1, fitting + stride)
            stride *= 2
    if fitting < 0:
        raise BudgetTooSmall(
            f"{members[0]!r}, the smallest of its family, takes {size} bytes of {budget:g} allowed; "
            "store fewer images, raise the budget, or use a codec of fewer bytes"
        )
    return members[fitting]

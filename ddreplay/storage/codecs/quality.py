"""The highest quality of a codec that fits a budget."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from ddreplay.storage.codecs.codec import BudgetTooSmall, Codec, nbytes
from ddreplay.storage.codecs.known import codec_from_spec

__all__ = ["fit_quality"]


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

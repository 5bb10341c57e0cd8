"""What a codec is: images of classes in, stored tensors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ddreplay.data.space import Shape

__all__ = ["BudgetTooSmall", "Codec", "nbytes"]


@runtime_checkable
class Codec(Protocol):
    """Stores the images of classes. A frozen dataclass: hashable, picklable, its repr is its provenance.

    Pixel space is nominally 0..1. One of your own is written with a set, and read again by
    ``CondensedSet.load(path, codecs=[Mine])``: ``Mine(**parameters)`` of its `spec`.
    """

    @property
    def name(self) -> str:
        """By which files know it."""
        ...

    @property
    def extension(self) -> str:
        """The suffix of the picture files that ``picture`` makes, without the dot."""
        ...

    @property
    def lossy(self) -> bool:
        """Whether images of 8 bits come back other than they were."""
        ...

    @property
    def bounded(self) -> bool:
        """Whether pixels outside 0..1 are cut off, as in every picture."""
        ...

    def spec(self) -> dict[str, Any]:
        """Name and parameters, for JSON; ``codec_from_spec`` is the inverse."""
        ...

    def qualities(self) -> Sequence[Codec]:
        """This codec's family, from the fewest bytes to the most."""
        ...

    def encode(self, classes: Sequence[Float[Tensor, "_ c h w"]]) -> dict[str, Tensor]:
        """Images of each class in pixel space -> the tensors to store, on the CPU.

        Raises:
            ValueError: on NaN or infinity, on differing shapes, and where the codec cannot store such images.
        """
        ...

    def decode(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape) -> list[Tensor]:
        """float32 [n, c, h, w] of each class in pixel space. Raises ValueError on damaged or truncated bytes."""
        ...

    def select(
        self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, keep: Sequence[int]
    ) -> dict[str, Tensor]:
        """What is stored of these class positions, in this order, without encoding again."""
        ...

    def picture(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, position: int) -> bytes:
        """A picture file of one class that any viewer opens."""
        ...


class BudgetTooSmall(ValueError):
    """Even the codec's lowest quality takes more bytes than allowed."""


def nbytes(stored: Mapping[str, Tensor]) -> int:
    """Bytes of a stored set."""
    return sum(tensor.nbytes for tensor in stored.values())

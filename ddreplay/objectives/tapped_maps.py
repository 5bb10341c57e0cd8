"""Style: moments and correlations of feature maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ddreplay.backbones import Activations

_TINY = 1e-12


@dataclass(frozen=True)
class _OfMap:
    """A function of one tapped layer's maps."""

    name: str
    function: Callable[[Tensor], Tensor]

    def __call__(self, seen: Activations) -> Tensor:
        return self.function(seen.maps[self.name])


def _check_taps(taps: Sequence[str]) -> tuple[str, ...]:
    if not taps or isinstance(taps, str):
        raise ValueError(f'taps must be a sequence of names of layers such as ("norms",), got {taps!r}')
    return tuple(taps)

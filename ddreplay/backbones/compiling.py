"""Forward passes through ``torch.compile``, where it works."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, no_type_check

import torch
from torch import Tensor, nn

__all__ = ["Compiled", "Forward", "compiled", "plain"]

Forward = Callable[[nn.Module, Tensor], Tensor]


"""(network, images) -> logits."""


RECOMPILE_LIMIT = 64


log = logging.getLogger(__name__)


def plain(net: nn.Module, x: Tensor) -> Tensor:
    """``net(x)``."""
    out: Tensor = _forward(net, x)
    return out


@no_type_check  # a checker of annotations would be traced into what is compiled
def _forward(net: Any, x: Any) -> Any:
    return net(x)


class Compiled:
    """``net(x)``, compiled when it is first called; networks of one architecture share what was compiled.

    Every batch size compiles anew, for seconds or tens of seconds, and a first derivative is all there is. Where compiling fails (no
    compiler, an operation it does not know), a warning is logged once and networks run as they are.
    """

    def __init__(self, backend: str | Callable[..., Any] = "inductor") -> None:
        self.works = True
        self._function: Forward = torch.compile(_forward, dynamic=False, backend=backend)

    def __call__(self, net: nn.Module, x: Tensor) -> Tensor:
        if self.works:
            try:
                # every shape and every kind of network is compiled once; beyond the default limit they would silently not be
                with torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT):
                    return self._function(net, x)
            except Exception as error:
                out = plain(net, x)  # a mistake of the caller's is raised here, as it would be without compiling
                self.works = False
                log.warning(
                    "torch.compile does not work here (%s: %.200s); going on without it", type(error).__name__, error
                )
                return out
        return plain(net, x)


@cache
def compiled() -> Compiled:
    """The one that everybody shares."""
    return Compiled()

"""The one loop: images descend an objective under a stream of networks."""

from ddreplay.condense.condenser import Condenser, OnStep
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.optimizer import SGD

__all__ = [
    "Condenser",
    "Distiller",
    "OnStep",
    "SGD",
]

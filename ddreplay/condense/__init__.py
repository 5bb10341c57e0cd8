"""The one loop: images descend an objective under a stream of networks."""

from ddreplay.condense.condenser import Condenser, OnProgress, OnStep, Progress
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.optimizer import SGD

__all__ = [
    "Condenser",
    "OnProgress",
    "Progress",
    "Distiller",
    "OnStep",
    "SGD",
]

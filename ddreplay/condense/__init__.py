"""The one loop: images descend an objective under a stream of networks."""

from ddreplay.condense.condenser import Condenser, OnStep
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.optimizer import SGD, sgd

__all__ = ["SGD", "Condenser", "Distiller", "OnStep", "sgd"]

"""The one loop: images descend an objective under a stream of networks."""

from ddreplay.condense.condenser import Condenser, OnProgress, OnStep, OnTerms, Progress
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.loss_curve import LossCurve, TermCurves
from ddreplay.condense.optimizer import LAMB, SGD, Adam, Cosine, Halved
from ddreplay.condense.tracking import Tracked

__all__ = [
    "Adam",
    "Condenser",
    "Cosine",
    "Halved",
    "LAMB",
    "OnProgress",
    "Progress",
    "Distiller",
    "LossCurve",
    "OnStep",
    "OnTerms",
    "SGD",
    "TermCurves",
    "Tracked",
]

"""How stored numbers become images while they are learned."""

from ddreplay.parameterize.basis import Basis
from ddreplay.parameterize.coded import Coded
from ddreplay.parameterize.form import Form, Init, Parameterize, XavierNoise
from ddreplay.parameterize.frequency import Frequency
from ddreplay.parameterize.partitioned import Partitioned
from ddreplay.parameterize.pixels import Pixels

__all__ = [
    "Basis",
    "Coded",
    "Form",
    "Frequency",
    "Init",
    "Parameterize",
    "Partitioned",
    "Pixels",
    "XavierNoise",
]

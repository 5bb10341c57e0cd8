"""How stored numbers become images while they are learned."""

from ddreplay.parameterize.basis import basis
from ddreplay.parameterize.coded import coded
from ddreplay.parameterize.form import Form, ImageForm, Init, Parameterize
from ddreplay.parameterize.frequency import frequency
from ddreplay.parameterize.partitioned import partitioned
from ddreplay.parameterize.pixels import pixels

__all__ = ["Form", "ImageForm", "Init", "Parameterize", "basis", "coded", "frequency", "partitioned", "pixels"]

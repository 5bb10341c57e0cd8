"""One function per paper, each a composition of the parts."""

from ddreplay.methods.distribution import dm
from ddreplay.methods.gradient import dc, dsa

__all__ = ["dc", "dm", "dsa"]

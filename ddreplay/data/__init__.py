"""What data is: a batch, a pool of real images indexed by class, and the space that networks see them in."""

from ddreplay.data.pool import Batch, ClassPool, concatenate, pick_device
from ddreplay.data.space import Shape, to_network, to_pixels

__all__ = ["Batch", "ClassPool", "Shape", "concatenate", "pick_device", "to_network", "to_pixels"]

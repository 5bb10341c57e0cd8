"""What is kept of the data, what it may cost, and how it becomes images again."""

from ddreplay.storage import codecs
from ddreplay.storage.budget import Budget
from ddreplay.storage.condensed_set import CondensedFileError, CondensedSet
from ddreplay.storage.decoders import Decoder
from ddreplay.storage.part import Part

__all__ = ["Budget", "CondensedFileError", "CondensedSet", "Decoder", "Part", "codecs"]

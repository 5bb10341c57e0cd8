"""What is kept of the data, what it may cost, and how it becomes images again."""

from ddreplay.storage import codecs
from ddreplay.storage.condensed_set import CondensedFileError, CondensedSet
from ddreplay.storage.part import Part

__all__ = ["CondensedFileError", "CondensedSet", "Part", "codecs"]

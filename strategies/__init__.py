"""Ready training strategies out of Avalanche and ddreplay: short files, to read and to copy.

    finetuning           new data alone: the lower bound
    experience_replay    new data and a batch of memory in every step
    gdumb                from scratch on the memory alone, after every experience
    joint                from scratch on everything seen so far: the upper bound

Every one that has a memory takes any storage policy: of `ddreplay.avalanche` or of Avalanche itself.
"""

from strategies.experience_replay import experience_replay
from strategies.finetuning import finetuning
from strategies.gdumb import gdumb
from strategies.joint import joint

__all__ = ["experience_replay", "finetuning", "gdumb", "joint"]

"""ddreplay: condensed replay memory for continual learning.

condense   a pool of real images becomes a small synthetic set        dm(bank=40)(pool, 10)
store      one safetensors file, every byte counted                   condensed.save("set.safetensors")
replay     a memory that grows with a stream                          CondensedMemory, ddreplay.avalanche
evaluate   fresh networks, named protocols, intervals                 evaluate(condensed, test_pool)
"""

from ddreplay import codec, coresets, methods
from ddreplay.backbones import convnet
from ddreplay.condense import Condenser, Distiller
from ddreplay.condensed import CondensedFileError, CondensedSet
from ddreplay.data import Batch, ClassPool
from ddreplay.evaluate import Evaluation, Protocol, evaluate
from ddreplay.memory import CondensedMemory
from ddreplay.methods import dc, dm, dsa

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "ClassPool",
    "CondensedFileError",
    "CondensedMemory",
    "CondensedSet",
    "Condenser",
    "Distiller",
    "Evaluation",
    "Protocol",
    "codec",
    "convnet",
    "coresets",
    "dc",
    "dm",
    "dsa",
    "evaluate",
    "methods",
]

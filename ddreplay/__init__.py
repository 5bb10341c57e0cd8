"""ddreplay: condensed replay memory for continual learning.

condense   a pool of real images becomes a small synthetic set        dm(networks=Banked(size=40))(pool, 10)
store      one safetensors file, every byte counted                   condensed.save("set.safetensors")
replay     a memory that grows with a stream                          CondensedMemory, ddreplay.avalanche
evaluate   fresh networks, named protocols, intervals                 evaluate(condensed, test_pool)
"""

from ddreplay import methods
from ddreplay.backbones import ConvNet
from ddreplay.condense import Condenser, Distiller
from ddreplay.data import Batch, ClassPool
from ddreplay.evaluate import Evaluation, Protocol, evaluate
from ddreplay.memory import CondensedMemory, ReplayMemory
from ddreplay.methods import (
    bptt,
    dc,
    dcc,
    dd,
    ddm,
    dm,
    dream,
    dsa,
    dsac,
    idc,
    idm,
    m3d,
    mtt,
    ncfm,
    selections,
    tesla,
)
from ddreplay.online_memory import OnlineMemory
from ddreplay.storage import Budget, CondensedFileError, CondensedSet, codecs

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Budget",
    "ClassPool",
    "CondensedFileError",
    "CondensedMemory",
    "CondensedSet",
    "Condenser",
    "ConvNet",
    "Distiller",
    "Evaluation",
    "OnlineMemory",
    "Protocol",
    "ReplayMemory",
    "bptt",
    "codecs",
    "dc",
    "dcc",
    "dd",
    "ddm",
    "dm",
    "dream",
    "dsa",
    "dsac",
    "evaluate",
    "idc",
    "idm",
    "m3d",
    "methods",
    "mtt",
    "ncfm",
    "selections",
    "tesla",
]

"""ddreplay: condensed replay memory for continual learning.

condense   a pool of real images becomes a small synthetic set        dm(networks=Banked(size=40))(pool, 10)
store      one safetensors file, every byte counted                   condensed.save("set.safetensors")
replay     a memory that grows with a stream                          CondensedMemory, ddreplay.avalanche
evaluate   fresh networks, named protocols, intervals                 evaluate(condensed, test_pool)

A name is imported, and torch with it, when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddreplay import methods
    from ddreplay.backbones import ConvNet
    from ddreplay.condense import Condenser, Distiller
    from ddreplay.data import Batch, ClassPool
    from ddreplay.evaluation import Evaluation, Protocol, evaluate
    from ddreplay.examples import load_example
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
    "load_example",
    "m3d",
    "methods",
    "mtt",
    "ncfm",
    "selections",
    "tesla",
]

_HOMES = {
    "backbones": ("ConvNet",),
    "condense": ("Condenser", "Distiller"),
    "data": ("Batch", "ClassPool"),
    "evaluation": ("Evaluation", "Protocol", "evaluate"),
    "examples": ("load_example",),
    "memory": ("CondensedMemory", "ReplayMemory"),
    "methods": (
        "bptt", "dc", "dcc", "dd", "ddm", "dm", "dream", "dsa", "dsac", "idc", "idm", "m3d", "mtt", "ncfm", "selections", "tesla",
    ),
    "online_memory": ("OnlineMemory",),
    "storage": ("Budget", "CondensedFileError", "CondensedSet", "codecs"),
}  # fmt: skip
"""Module -> the public names that it gives."""

_MODULES = ("augment", "datasets", "names", "networks", "objectives", "parameterize", "training", *_HOMES)
"""What ``import ddreplay`` is enough for, besides the public names: ``ddreplay.networks.Banked``."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"ddreplay.{name}")
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'ddreplay' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"ddreplay.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})

"""Where a set comes from: its method, every hyper-parameter, seed, seconds and versions, as JSON."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ddreplay.backbones.digest import network_digest
from ddreplay.data.pool import ClassPool
from ddreplay.objectives.term import Term

__all__ = ["describe", "provenance", "versions"]


def provenance(
    condenser: Any, pool: ClassPool, images_per_class: int, seed: int, started: float, **more: Any
) -> dict[str, Any]:
    """What a set says of its making; ``started`` is a reading of ``time.perf_counter``, ``condenser`` a dataclass with a name."""
    return {
        "method": condenser.name,
        "images_per_class": images_per_class,
        "seed": seed,
        **more,
        "seconds": round(time.perf_counter() - started, 3),
        "normalisation": pool.normalization,
        "settings": describe(condenser),
        "versions": versions(),
        "device": str(pool.device),
    }


def describe(value: Any) -> Any:
    """Any part of a method as JSON: names and hyper-parameters."""
    if isinstance(value, Term):
        return describe(value.describe())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, nn.Module):
        return {"is": type(value).__qualname__, "sha256": network_digest(value)}
    return getattr(value, "__qualname__", None) or repr(value)


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    from importlib.metadata import version

    return {"ddreplay": version("ddreplay"), "torch": str(torch.__version__)}

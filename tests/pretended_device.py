"""A device that is not there: tensors that say they are elsewhere, hold their numbers here, and refuse to meet tensors of the CPU.

Everything computes as on a CPU, with the rules of an accelerator: an operation takes tensors of one device (and scalars), and what
makes the host wait for the device is counted, by the place in the library that asked for it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("lazy")
"""A device type that torch knows and that needs no driver; the library knows it only as "not a CPU"."""

aten = torch.ops.aten
_HERE = torch.device("cpu")
_MOVES = {aten._to_copy.default, aten.copy_.default}
_INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
_FILLS = {aten.fill.Tensor, aten.fill_.Tensor, aten.masked_fill.Tensor, aten.masked_fill_.Tensor}
_WAITS: dict[Any, str] = {
    aten._local_scalar_dense.default: "reads a number",
    aten.equal.default: "reads a number",
    aten.nonzero.default: "counts what is not zero",
    aten.masked_select.default: "counts what is not zero",
    aten.masked_scatter.default: "counts what is not zero",
    aten.masked_scatter_.default: "counts what is not zero",
    aten.repeat_interleave.Tensor: "sums repetitions",
    aten.bincount.default: "reads a number",
    aten._unique2.default: "counts what differs",
    aten.unique_dim.default: "counts what differs",
}


class Away(Tensor):
    """A tensor elsewhere. ``inner``: the same on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Away:
        out: Away = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=ELSEWHERE,
        )
        out.inner = inner
        return out

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {}, Counter())

    def tolist(self) -> Any:
        return self.to(_HERE).tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Away({self.inner!r})"


class PretendedDevice(TorchDispatchMode):
    """Runs operations here and there. waits: (what, where in the library) -> how often the host waited."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {}, self.waits)


class _Generators(TorchFunctionMode):
    """Refuses draws on one device from a generator of another."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        generator, device = kwargs.get("generator"), torch.device(kwargs.get("device") or _HERE)
        if generator is not None and generator.device != device:
            raise RuntimeError(
                f"{function.__name__}: expected a generator for {device}, got one for {generator.device}"
            )
        return function(*args, **kwargs)


def _run(function: Any, args: Any, kwargs: dict[str, Any], waits: Counter[str]) -> Any:
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    away = [x for x in given if isinstance(x, Away)]
    device = kwargs.get("device")
    _check(function, args, given, away)
    why = _wait(function, args, kwargs, away)
    if why:
        waits[f"{_place()} {why}"] += 1
    if device is not None:
        kwargs = {**kwargs, "device": _HERE}
    there = bool(away) if device is None else torch.device(device) == ELSEWHERE
    out = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    same = {id(x.inner): x for x in away}  # what was changed in place stays the tensor that it was

    def outer(x: Any) -> Any:
        return same[id(x)] if id(x) in same else Away(x) if isinstance(x, Tensor) else x

    return tree_map(outer, out) if there else out


def _inner(x: Any) -> Any:
    return x.inner if isinstance(x, Away) else x


def _check(function: Any, args: Any, given: list[Tensor], away: list[Away]) -> None:
    """What an accelerator refuses: tensors of two devices in one operation, but for copies, scalars of the CPU and its indices."""
    if not away or function in _MOVES:
        return
    indices = args[1] if function in _INDEXED and isinstance(args[0], Away) else []
    scalars = function in _FILLS or torch.Tag.pointwise in function.tags
    here = [x for x in given if not isinstance(x, Away) and not (scalars and x.dim() == 0)]
    if all(any(x is index for index in indices) for x in here):
        return
    shapes = [(tuple(x.shape), "elsewhere" if isinstance(x, Away) else "cpu") for x in given]
    raise RuntimeError(f"{function}: expected all tensors to be on the same device, got {shapes}")


def _wait(function: Any, args: Any, kwargs: dict[str, Any], away: list[Away]) -> str:
    """Why the host waits for the device in this operation; empty where it does not."""
    if function in _MOVES:
        new = function is aten._to_copy.default
        target, source = (kwargs.get("device"), args[0]) if new else (args[0].device, args[1])
        if target is None or torch.device(target) == source.device:
            return ""
        if torch.device(target) != ELSEWHERE:
            return "copies to the host"
        free = kwargs.get("non_blocking", False) if new else len(args) > 2 and args[2]
        return "" if free else "copies to the device"
    if not away:
        return ""
    if function in _INDEXED:
        indices = [x for x in args[1] if x is not None]
        if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
            return "counts what is not zero"
        return "copies to the device" if any(not isinstance(x, Away) for x in indices) else ""
    return _WAITS.get(function, "")


def _place() -> str:
    """The innermost function on the stack that is of the library, or of a test."""
    frame = sys._getframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith(("ddreplay.", "test_")):
            return f"{name.removeprefix('ddreplay.')}.{frame.f_code.co_qualname.split('.<locals>')[0]}"
        frame = frame.f_back  # type: ignore[assignment]
    return "somewhere else"


class _Generator(torch.Generator):
    """A generator here that says it is elsewhere."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return ELSEWHERE


def _generator(device: torch.device) -> torch.Generator:
    return _Generator() if device == ELSEWHERE else torch.Generator(device=device)


def _moved(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``torch.tensor`` and its like, which put numbers on a device behind the back of a mode."""

    def made(data: Any, *, device: Any = None, **how: Any) -> Tensor:
        out = make(data, **how)
        return out if device is None else out.to(device)

    return made


def _one_hot(y: Tensor, classes: int) -> Tensor:
    """As on CUDA, where the labels are not looked at."""
    return y.new_zeros(*y.shape, classes).scatter_(-1, y[..., None], 1)


@contextmanager
def pretended_device() -> Iterator[PretendedDevice]:
    with pytest.MonkeyPatch.context() as patch, PretendedDevice() as device, _Generators():
        patch.setattr("ddreplay.randomness.generator_on", _generator)
        patch.setattr(torch, "tensor", _moved(torch.tensor))
        patch.setattr(torch, "as_tensor", _moved(torch.as_tensor))
        patch.setattr("torch.nn.functional.one_hot", _one_hot)
        yield device

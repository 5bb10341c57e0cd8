"""What makes networks: a factory, or whatever can be turned into one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from ddreplay.backbones.probe import find_classifier
from ddreplay.data.space import Shape

__all__ = ["Net", "NetFactory", "as_factory"]


@runtime_checkable
class NetFactory(Protocol):
    """(channels, height, width) and a number of classes to a freshly initialised network, from the global generator.

    Callers wrap the call in ``random.scope()``.
    """

    def __call__(self, shape: Shape, classes: int, /) -> nn.Module: ...


Net = NetFactory | nn.Module | Callable[[int], nn.Module]
"""Whatever ``as_factory`` makes a factory of."""


@dataclass(frozen=True)
class ByClasses:
    """A function of the number of classes alone, as a factory."""

    make: Callable[[int], nn.Module]

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        return self.make(classes)


@dataclass(frozen=True, eq=False)
class Template:
    """A network instance as a factory: copies with every layer initialised anew and a classifier that fits."""

    net: nn.Module

    def __repr__(self) -> str:
        return f"Template({type(self.net).__module__}.{type(self.net).__qualname__})"

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        net = copy.deepcopy(self.net)
        _reset(net)
        name = find_classifier(net, shape)
        classifier = net.get_submodule(name)
        if isinstance(classifier, nn.Linear) and classifier.out_features != classes:
            fresh = nn.Linear(classifier.in_features, classes, bias=classifier.bias is not None)
            if not name:
                return fresh.to(classifier.weight)
            net.set_submodule(name, fresh.to(classifier.weight))
        return net.train()


def as_factory(net: Net) -> NetFactory:
    """A factory from a factory, a network, or a function of the number of classes.

    - A callable that needs two arguments is a factory and is given back.
    - One that needs one argument gets the number of classes: ``as_factory(lambda classes: MyNet(classes))``.
    - A network is copied; in every copy each layer starts anew by its own ``reset_parameters``, and the last linear
      layer is exchanged when its number of outputs is not the number of classes. The network itself is never changed.

    Raises:
        TypeError: if ``net`` is none of these.
        ValueError: for a network that holds parameters which no ``reset_parameters`` starts anew; and, when the factory
            is called, for one that runs no linear layer.
    """
    if isinstance(net, nn.Module):
        _check_resettable(net)
        return Template(copy.deepcopy(net))
    if not callable(net):
        raise TypeError(f"net must be a network, or a function (shape, classes) or (classes), got {type(net).__name__}")
    needed = _needed(net)
    if needed == 1:
        return ByClasses(net)  # type: ignore[arg-type]
    if needed != 2:
        raise TypeError(f"net must need the arguments (shape, classes) or (classes), but {net!r} needs {needed}")
    return net  # type: ignore[return-value]


def _needed(function: Callable[..., Any]) -> int:
    """Positional arguments without a default."""
    parameters = inspect.signature(function).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)


def _check_resettable(net: nn.Module) -> None:
    for name, module in net.named_modules():
        own = [key for key, _ in module.named_parameters(recurse=False)]
        if own and not callable(getattr(module, "reset_parameters", None)):
            where = f"its part {name!r}" if name else "it"
            raise ValueError(
                f"net is a {type(net).__name__} instance, but {where} ({type(module).__name__}) holds {', '.join(own)} "
                "and has no reset_parameters to start anew; pass a function instead: net=lambda classes: ..."
            )


def _reset(net: nn.Module) -> None:
    for module in net.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()

"""Small steps on a GPU, launched as a whole: what is asked for again and again is replayed from a CUDA graph."""

from __future__ import annotations

import copy
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor, nn

from ddreplay.backbones.layers import Network
from ddreplay.backbones.precision import Autocast
from ddreplay.backbones.probe import draws_or_mixes

__all__ = ["Captured", "Replayed", "Step", "captured"]

log = logging.getLogger(__name__)

Step = Callable[..., Sequence[Tensor]]
"""A function of a network and of tensors, to tensors: of its weights and of these alone, without draws and without waiting for the host."""

ASKED = 3
"""Times that a step runs as it is before it is captured, which takes as long as a few of them."""
KEPT = 12
"""Graphs that are kept; each holds the memory that its step needs."""
WARM = 2
"""Runs on a stream of their own before a capture, in which libraries settle what they choose and allocate."""


class Captured:
    """Steps that a GPU replays from graphs, which all networks of one architecture share.

    Condensing and training on a few images launches hundreds of operations of some microseconds each, and the host takes longer to
    launch them than the GPU to compute them. A graph is launched at once. Networks of this package are served that neither draw nor mix
    the images of a batch; others run as they are, and so does everything where a capture fails, after one warning.
    """

    def __init__(self) -> None:
        self.works = True
        self._asked: Counter[Hashable] = Counter()
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._architectures: dict[Hashable, int] = {}

    def serves(self, net: nn.Module, device: torch.device) -> bool:
        """Whether steps of this network on this device can be replayed."""
        return self.works and device.type == "cuda" and isinstance(net, Network) and not draws_or_mixes(net)

    def of(self, net: nn.Module) -> Replayed:
        """A network whose steps are replayed, as long as its layers, and which of its weights are learned, stay as they are."""
        known = self._architectures
        return Replayed(self, net, known.setdefault(_architecture(net), len(known)))

    @torch.enable_grad()
    def run(self, one: Replayed, step: Step, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """What the step gives for this network and these inputs."""
        key = (step, one.architecture, *((x.shape, x.dtype, x.device) for x in inputs))
        graph = self._graphs.get(key)
        if graph is None:
            self._asked[key] += 1
            if not self.works or self._asked[key] <= ASKED:
                return step(one.net, *inputs)
            try:
                graph = self._graphs[key] = _Graph(step, one.net, inputs)
            except torch.OutOfMemoryError:
                self._graphs.clear()
                raise
            except RuntimeError as error:
                self.works = False
                log.warning("no CUDA graph of %s (%.200s); going on without", step, error)
                return step(one.net, *inputs)
            if len(self._graphs) > KEPT:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        return graph(one.weights, inputs)


@dataclass(frozen=True, eq=False)
class Replayed:
    """A network whose steps are replayed on a GPU (`Captured.of`)."""

    by: Captured
    net: nn.Module
    architecture: int
    weights: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", [p.data for p in self.net.parameters()])

    def __call__(self, step: Step, *inputs: Tensor) -> Sequence[Tensor]:
        """What ``step(net, *inputs)`` gives, without a graph of autograd, in places that the next call for as many images writes anew.

        Args:
            step: Can be hashed; equal ones do the same.
            inputs: Tensors on the network's device.
        """
        return self.by.run(self, step, inputs)


class _Graph:
    """One step at one size, with weights, inputs and outputs in places of its own."""

    def __init__(self, step: Step, net: nn.Module, inputs: Sequence[Tensor]) -> None:
        own = copy.deepcopy(net)
        self.weights = [p.data for p in own.parameters()]
        self.inputs = [x.detach().clone() for x in inputs]
        self.graph = torch.cuda.CUDAGraph()
        device = inputs[0].device
        beside = torch.cuda.Stream(device)
        beside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(beside):
            for _ in range(WARM):
                step(own, *self.inputs)
        torch.cuda.current_stream(device).wait_stream(beside)
        with torch.cuda.graph(self.graph):
            self.outputs = [found.detach() for found in step(own, *self.inputs)]

    def __call__(self, weights: list[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            torch._foreach_copy_(self.weights, weights)
            for place, x in zip(self.inputs, inputs, strict=True):
                place.copy_(x)
            self.graph.replay()
        return self.outputs


def _architecture(net: nn.Module) -> Hashable:
    """What decides which operations a network of this package runs."""
    casts = tuple(module.enabled for module in net.modules() if isinstance(module, Autocast))
    weights = tuple((p.shape, p.dtype, p.requires_grad) for p in net.parameters())
    return repr(net), net.training, casts, weights


@cache
def captured() -> Captured:
    """The one that everybody shares."""
    return Captured()

"""Small steps on a GPU, launched as a whole: what is asked for again and again is replayed from a CUDA graph."""

from __future__ import annotations

import copy
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ddreplay.backbones.layers import Network
from ddreplay.backbones.precision import Autocast
from ddreplay.backbones.probe import draws_or_mixes
from ddreplay.data.chunks import when_short

__all__ = ["Captured", "Replayed", "Step", "captured"]

log = logging.getLogger(__name__)

Step = Callable[..., Sequence[Tensor]]
"""A function of a network and of tensors, to tensors: of its weights and of these alone, without draws and without waiting for the host."""

LARGEST = 2**21
"""Numbers in the images of a step (680 of 32 x 32 in colour): above, the GPU has enough to do, and a graph would hold much memory."""
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
    the images of a batch; others run as they are, and so do steps with many images, and everything where a capture fails, after one
    warning. Where memory runs out, graphs are the first to go.
    """

    def __init__(self) -> None:
        self.works = True
        self._asked: Counter[Hashable] = Counter()
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._architectures: dict[Hashable, int] = {}

    def serves(self, net: nn.Module, device: torch.device) -> bool:
        """Whether steps of this network on this device can be replayed."""
        return self.works and device.type == "cuda" and _is_known(net) and not draws_or_mixes(net)

    def of(self, net: nn.Module) -> Replayed:
        """A network whose steps are replayed, as long as its layers, and which of its weights are learned, stay as they are."""
        known = self._architectures
        return Replayed(self, net, known.setdefault(_architecture(net), len(known)))

    @torch.enable_grad()
    def run(self, one: Replayed, step: Step, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """What the step gives for this network and these inputs."""
        key = (step, one.architecture, *_precision(), *((x.shape, x.dtype, x.device) for x in inputs))
        graph = self._graphs.get(key)
        if graph is None:
            self._asked[key] += 1
            if not self.works or self._asked[key] <= ASKED or inputs[0].numel() > LARGEST:
                return step(one.net, *inputs)
            try:
                graph = self._graphs[key] = _Graph(step, one.net, inputs)
            except torch.OutOfMemoryError:
                self.forget()
                raise
            except RuntimeError as error:
                self.works = False
                log.warning("no CUDA graph of %s (%.200s); going on without", step, error)
                return step(one.net, *inputs)
            if len(self._graphs) > KEPT:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        return graph(one.weights, inputs)

    def forget(self) -> None:
        """Let all graphs and the memory that they hold go."""
        self._graphs.clear()


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
        self.graph, self.device = torch.cuda.CUDAGraph(), inputs[0].device
        with torch.cuda.device(self.device):
            beside, here = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)
            beside.wait_stream(here)
            with torch.cuda.stream(beside):
                for _ in range(WARM):
                    step(own, *self.inputs)
            here.wait_stream(beside)
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # other threads go on as they like
                self.outputs = [found.detach() for found in step(own, *self.inputs)]

    def __call__(self, weights: list[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad(), torch.cuda.device(self.device):
            torch._foreach_copy_(self.weights, weights)
            for place, x in zip(self.inputs, inputs, strict=True):
                place.copy_(x)
            self.graph.replay()
        return self.outputs


def _is_known(net: nn.Module) -> bool:
    """Whether a network and all its layers are of this package or PyTorch's, so that their description says what they do."""
    return type(net) is Network and all(
        type(m).__module__.startswith(("torch.nn.", "ddreplay.")) for m in net.modules()
    )


def _precision() -> tuple[bool, ...]:
    """What is set for all of PyTorch and decides how operations run."""
    return (
        torch.is_autocast_enabled("cuda"),
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    )


def _architecture(net: nn.Module) -> Hashable:
    """What decides which operations a network of this package runs."""
    casts = tuple(module.enabled for module in net.modules() if isinstance(module, Autocast))
    weights = tuple((p.shape, p.dtype, p.requires_grad) for p in net.parameters())
    return repr(net), net.training, casts, weights


class _OfThread(threading.local):
    """A graph's places are one thread's."""

    def __init__(self) -> None:
        self.captured = Captured()
        when_short(self.captured.forget)


_own = _OfThread()


def captured() -> Captured:
    """The one that everybody in this thread shares."""
    return _own.captured

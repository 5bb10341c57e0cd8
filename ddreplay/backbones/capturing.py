"""Small steps on a GPU, launched as a whole: what is asked for again and again is replayed from a CUDA graph."""

from __future__ import annotations

import copy
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ddreplay.backbones.families import GlobalAvgPool, ResidualBlock
from ddreplay.backbones.layers import AvgPool2x2, Network
from ddreplay.backbones.precision import Autocast
from ddreplay.data.chunks import when_short

__all__ = ["Captured", "Replayed", "Step", "captured"]

log = logging.getLogger(__name__)

Step = Callable[..., Sequence[Tensor]]
"""A function of a network and of tensors, to tensors: of its weights and of these alone, without draws and without waiting for the host."""

LARGEST = 2**23
"""Numbers in the images of a step (2,700 of 32 x 32 in colour): above, the GPU has enough to do, and a graph would hold much memory."""
ASKED = 3
"""Times that a step runs as it is before it is captured, which takes as long as a few of them."""
KEPT = 12
"""Graphs that are kept; each holds the memory that its step needs."""
_KNOWN = {
    *(Network, Autocast, AvgPool2x2, GlobalAvgPool, ResidualBlock, nn.Sequential, nn.Identity, nn.Flatten),
    *(nn.Conv2d, nn.Linear, nn.GroupNorm, nn.LayerNorm, nn.MaxPool2d, nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.Sigmoid),
}
"""Layers of the networks that are served: what they compute is said by their description, and follows from weights and images alone."""
WARM = 2
"""Runs on a stream of their own before a capture, in which libraries settle what they choose and allocate."""


class Captured:
    """Steps that a GPU replays from graphs, which all networks of one architecture share.

    Condensing and training on a few images launches hundreds of operations of some microseconds each, and the host takes longer to
    launch them than the GPU to compute them. A graph is launched at once. Networks of this package are served, in the main thread, that
    neither draw nor mix the images of a batch; others run as they are, and so do steps with many images, and everything where a
    capture fails, after one warning. Where memory runs out, graphs are the first to go.
    """

    def __init__(self) -> None:
        self.works = True
        self._asked: Counter[Hashable] = Counter()
        self._too_large: set[Hashable] = set()
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._architectures: dict[Hashable, int] = {}

    def serves(self, net: nn.Module, device: torch.device) -> bool:
        """Whether steps of this network on this device can be replayed."""
        return self.works and device.type == "cuda" and _is_known(net) and _in_main_thread()

    def of(self, net: nn.Module) -> Replayed:
        """A network whose steps are replayed, as long as its layers, and which of its weights are learned, stay as they are."""
        known = self._architectures
        return Replayed(self, net, known.setdefault(_architecture(net), len(known)))

    @torch.enable_grad()
    def run(self, one: Replayed, step: Step, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """What the step gives for this network and these inputs."""
        key = (step, one.architecture, *_settings(), *((x.shape, x.dtype, x.device) for x in inputs))
        graph = self._graphs.pop(key, None) or self._captured(key, one, step, inputs)
        if graph is None:
            return step(one.net, *inputs)
        self._graphs[key] = graph  # the one that was asked for last
        return graph([p.data for p in one.weights], inputs)

    def _captured(self, key: Hashable, one: Replayed, step: Step, inputs: Sequence[Tensor]) -> _Graph | None:
        if not self.works or inputs[0].numel() > LARGEST or key in self._too_large:
            return None
        self._asked[key] += 1
        if self._asked[key] <= ASKED:
            return None
        while len(self._graphs) >= KEPT:
            self._graphs.popitem(last=False)
        try:
            return _Graph(step, one.net, inputs)
        except torch.OutOfMemoryError:
            self._too_large.add(key)
            self.forget()
        except RuntimeError as error:
            self.works = False
            log.warning("no CUDA graph of %s (%.200s); going on without", step, error)
        return None

    def forget(self) -> bool:
        """Let all graphs and the memory that they hold go; whether there were any."""
        held = bool(self._graphs)
        self._graphs.clear()
        if held and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return held


@dataclass(frozen=True, eq=False)
class Replayed:
    """A network whose steps are replayed on a GPU (`Captured.of`)."""

    by: Captured
    net: nn.Module
    architecture: int
    weights: list[nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", list(self.net.parameters()))

    def __call__(self, step: Step, *inputs: Tensor) -> Sequence[Tensor]:
        """What ``step(net, *inputs)`` gives, without a graph of autograd, in places that the next call for as many images writes anew.

        Args:
            step: Can be hashed; equal ones do the same, at all times.
            inputs: Tensors on the network's device, the images first.
        """
        return self.by.run(self, step, inputs)


class _Graph:
    """One step at one size, with weights, inputs and outputs in places of its own."""

    def __init__(self, step: Step, net: nn.Module, inputs: Sequence[Tensor]) -> None:
        self.net, self.device = copy.deepcopy(net), inputs[0].device
        self.weights = [p.data for p in self.net.parameters()]
        self.inputs = [x.detach().clone() for x in inputs]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device):
            here, beside = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
            beside.wait_stream(here)
            try:
                with torch.cuda.stream(beside):
                    for _ in range(WARM):
                        step(self.net, *self.inputs)
                # a stream of this device, where the default is one for all; other threads go on as they like meanwhile
                with torch.cuda.graph(self.graph, stream=beside, capture_error_mode="thread_local"):
                    self.outputs = [found.detach() for found in step(self.net, *self.inputs)]
            finally:
                torch.cuda.set_stream(here)
            here.wait_stream(beside)

    def __call__(self, weights: list[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad(), torch.cuda.device(self.device):
            torch._foreach_copy_(self.weights, weights)
            for place, x in zip(self.inputs, inputs, strict=True):
                place.copy_(x)
            self.graph.replay()
        return self.outputs


def _is_known(net: nn.Module) -> bool:
    """Whether a network is of this package and has layers alone whose description says what they do, and no hooks or buffers."""
    if type(net) is not Network or any(True for _ in net.buffers()):
        return False
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return all(type(m) in _KNOWN and not any(getattr(m, name) for name in hooks) for m in net.modules())


def _in_main_thread() -> bool:
    """Places are one thread's, and there is one stream to capture on."""
    return threading.current_thread() is threading.main_thread()


def _settings() -> tuple[Any, ...]:
    """What is set for all of PyTorch and decides how operations on a GPU run."""
    return (
        torch.is_autocast_enabled("cuda"),
        torch.get_autocast_dtype("cuda"),
        torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.enabled,
        torch.backends.cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
    )


def _architecture(net: nn.Module) -> Hashable:
    """What decides which operations a network of this package runs."""
    casts = tuple(module.enabled for module in net.modules() if isinstance(module, Autocast))
    weights = tuple((p.shape, p.dtype, p.requires_grad) for p in net.parameters())
    return repr(net), net.training, casts, weights


@cache
def captured() -> Captured:
    """The one that everybody shares."""
    one = Captured()
    when_short(one.forget)
    return one

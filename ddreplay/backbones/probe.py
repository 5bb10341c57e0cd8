"""Looking into a network: what its classifier reads and says, and maps by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.backbones.compiling import compiled
from ddreplay.backbones.layers import AvgPool2x2, Network

__all__ = [
    "Activations",
    "Probe",
    "draws_itself",
    "find_classifier",
    "has_batchnorm",
    "mixes_images",
    "settle_batchnorm",
]

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_DRAWING = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
    *(nn.RReLU, nn.FractionalMaxPool2d),
)
_GROUPS: dict[str, tuple[type[nn.Module], ...]] = {
    "layers": (nn.Conv2d, nn.Linear),
    "convolutions": (nn.Conv2d,),
    "norms": (nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d, nn.BatchNorm2d, nn.SyncBatchNorm),
    "poolings": (AvgPool2x2, nn.AvgPool2d, nn.MaxPool2d),
}


class Activations(NamedTuple):
    """What a network made of a batch: logits [n, k], embedding [n, d], maps of the taps {name: [n, c, h, w]}.

    The maps of a group of taps (``"norms"``) are named ``norms/0``, ``norms/1``, ... in the order of the network's modules.
    """

    logits: Tensor
    embedding: Tensor
    maps: dict[str, Tensor]


class Probe:
    """Calls a network and catches its embedding and named maps.

    The embedding is the flattened input of the ``nn.Linear`` that ran last, which in a classifier is the features under
    it; any module that runs one will do. Hooks are there during a call only: nothing stays on the network.

    Args:
        net: any module from images to logits.
        taps: names of submodules, as in ``net.named_modules()``, whose outputs are kept as maps. A module that runs
            several times gives its last output; an output that a later layer overwrites in place is seen overwritten.
            Groups serve any backbone: ``"layers"`` (convolutional and linear), ``"convolutions"``, ``"norms"``, ``"poolings"``, or a
            pattern such as ``"blocks.*.act"``.
        compile: compute embeddings through ``torch.compile``, where the network is one of this package and no maps are asked for.
        twice: gradients will be differentiated once more, which compiled code cannot: then only what needs none is compiled.
    Raises:
        ValueError: for a tap that the network does not have; when called, if no ``nn.Linear`` runs, or a tap does not.
    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
        >>> seen = Probe(net, taps=["1"])(torch.zeros(2, 3, 8, 8))
        >>> seen.logits.shape, seen.embedding.shape, seen.maps["1"].shape
        (torch.Size([2, 5]), torch.Size([2, 144]), torch.Size([2, 4, 6, 6]))
    """

    def __init__(self, net: nn.Module, taps: Sequence[str] = (), *, compile: bool = False, twice: bool = False) -> None:
        self.net = net
        self.compile = compile and not taps
        self.twice = twice
        self.taps = tuple(taps)
        modules = dict(net.named_modules())
        self._tapped: dict[str, nn.Module] = {}
        for tap in self.taps:
            found = _tapped(tap, modules)
            if not found:
                known = ", ".join(name for name in modules if name)
                raise ValueError(f"taps names {tap!r}, which the network does not have; it has: {known}")
            self._tapped.update(found)
        self._linears = [net.classifier] if type(net) is Network else _linears(modules)

    def names(self, *taps: str) -> list[str]:
        """The names of the maps of these taps, in the order of the network's modules."""
        return [name for tap in taps for name in self._tapped if name == tap or name.startswith(f"{tap}/")]

    def __call__(self, x: Float[Tensor, "n c h w"], parameters: Mapping[str, Tensor] | None = None) -> Activations:
        """Activations for a batch; under other ``parameters`` (and buffers, by name) than the network's, if given.

        Works inside ``torch.func`` transforms: ``torch.func.vmap(lambda p: probe(x, p))(stacked)`` shows a batch to
        many networks of one architecture.
        """
        once = not (self.twice and torch.is_grad_enabled())
        if self.compile and isinstance(self.net, Network) and parameters is None and once:
            embedding = compiled()(self.net.blocks, x).flatten(1)
            return Activations(self.net.classifier(embedding), embedding, {})
        caught: dict[str, Tensor] = {}
        inputs: list[Tensor] = []
        with ExitStack() as hooks:
            for linear in self._linears:
                hooks.enter_context(_before(linear, inputs))
            for name, module in self._tapped.items():
                hooks.enter_context(_after(module, name, caught))
            logits = self.net(x) if parameters is None else torch.func.functional_call(self.net, dict(parameters), (x,))
        return self._gather(logits, inputs, caught)

    def _gather(self, logits: Any, inputs: list[Tensor], caught: dict[str, Tensor]) -> Activations:
        name = type(self.net).__name__
        if not inputs:
            raise ValueError(_NO_LINEAR.format(name=name))
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"backbone {name} must give logits of shape [n, classes], got {got}")
        missing = [tap for tap in self._tapped if tap not in caught]
        if missing:
            raise ValueError(f"taps names {missing[0]!r}, which backbone {name} has but never runs on these images")
        return Activations(logits, inputs[-1].flatten(1), caught)


_NO_LINEAR = "backbone {name} runs no nn.Linear, so it has no embedding; end it with one, from features to classes"


def _tapped(tap: str, modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """A tap's modules, under the names of their maps."""
    if tap in modules and tap:
        return {tap: modules[tap]}
    kinds = _GROUPS.get(tap)
    if kinds is not None:
        members = [module for module in modules.values() if isinstance(module, kinds)]
    else:
        members = [module for name, module in modules.items() if name and fnmatchcase(name, tap)]
    return {f"{tap}/{k}": module for k, module in enumerate(members)}


def _linears(modules: Mapping[str, nn.Module]) -> list[nn.Module]:
    return [module for module in modules.values() if isinstance(module, nn.Linear)]


@contextmanager
def _before(module: nn.Module, inputs: list[Tensor]) -> Iterator[None]:
    """The module's input goes into ``inputs``, in place of an earlier one."""

    def hook(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs[:] = [arguments[0]]

    with module.register_forward_pre_hook(hook):
        yield


@contextmanager
def _after(module: nn.Module, name: str, caught: dict[str, Tensor]) -> Iterator[None]:
    def hook(_: nn.Module, __: Any, output: Tensor) -> None:
        caught[name] = output.float() if output.dtype == torch.bfloat16 else output

    with module.register_forward_hook(hook):
        yield


def find_classifier(net: nn.Module, shape: tuple[int, int, int]) -> str:
    """The name of the ``nn.Linear`` that runs last on images of this shape.

    Raises:
        ValueError: if none runs.
    """
    names = {module: name for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    ran: list[str] = []
    modes = {module: module.training for module in net.modules()}
    like = next(net.parameters(), torch.empty(0))
    with ExitStack() as hooks:
        for linear, name in names.items():
            hooks.enter_context(linear.register_forward_pre_hook(lambda _, __, name=name: ran.append(name)))
        try:
            with torch.no_grad():
                net.eval()(like.new_zeros(2, *shape))
        finally:
            for module, training in modes.items():
                module.training = training
    if not ran:
        raise ValueError(_NO_LINEAR.format(name=type(net).__name__))
    return ran[-1]


def has_batchnorm(net: nn.Module) -> bool:
    """Whether any layer normalises over the batch."""
    return any(isinstance(module, _BATCH_NORMS) for module in net.modules())


def mixes_images(net: nn.Module) -> bool:
    """Whether what an image becomes depends, as the network is now, on the other images of its batch."""
    norms = (module for module in net.modules() if isinstance(module, _BATCH_NORMS))
    return any(norm.training or norm.running_mean is None for norm in norms)


def draws_itself(net: nn.Module) -> bool:
    """Whether the network, as it is now, draws anything when it runs (dropout), so that a second run differs."""
    return any(module.training and isinstance(module, _DRAWING) for module in net.modules())


def settle_batchnorm(net: nn.Module, x: Float[Tensor, "n c h w"]) -> None:
    """Refresh running statistics on ``x``, then freeze them: the network trains on, its batch norms are in eval mode.

    DC, DSA and their kin do so before matching, with 16 real images per class. Without batch norm nothing changes.
    Reference: Zhao et al., "Dataset Condensation with Gradient Matching", ICLR 2021, released code.
    """
    if not has_batchnorm(net):
        return
    net.train()
    with torch.no_grad():
        net(x)
    for module in net.modules():
        if isinstance(module, _BATCH_NORMS):
            module.eval()

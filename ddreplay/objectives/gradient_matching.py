"""Gradient matching: the loss gradients of a network on real and on synthetic images must point the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ddreplay.augment.mixing import Mix
from ddreplay.backbones.compiling import Forward, compiled, plain
from ddreplay.backbones.layers import Network
from ddreplay.data.pool import Batch
from ddreplay.objectives.eager_gradient import settled
from ddreplay.objectives.term import Look, Side, Statistic, Term

__all__ = [
    "GradientMatching",
    "Metric",
    "Scope",
    "WarmUp",
    "gradient_distance",
]

Scope = Literal["class", "set"]


Metric = Literal["layerwise", "cosine", "mse", "l1"]


Layers = Literal["all", "conv"]


VECTORIZED_PIXELS = 1024  # of a group's images; up to here one call for all groups beats a loop on a CPU


ACCELERATOR_PIXELS = 2**22  # in one vectorised call elsewhere: 4,096 images of 32x32


def gradient_distance(real: Sequence[Tensor], syn: Sequence[Tensor], metric: Metric = "layerwise") -> Float[Tensor, ""]:
    """The distance between gradients, summed over groups; each side is a list of one tensor [groups, *shape] per parameter.

    ``layerwise`` (DC): sum over layers and output units of 1 - <a, b> / (|a| |b| + 1e-6), where a unit's gradient is a row of the
    weight reshaped to [out, everything else]; tensors of one axis (biases, norm affines) contribute nothing. ``cosine``: the same
    for the whole gradient as one vector. ``mse``, ``l1``: the sum of squared, or of absolute, differences.
    Reference: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, Eq. 10.
    """
    if metric == "mse":
        return torch.stack([(a - b).square().sum() for a, b in zip(real, syn, strict=True)]).sum()
    if metric == "l1":
        return torch.stack([(a - b).abs().sum() for a, b in zip(real, syn, strict=True)]).sum()
    if metric == "cosine":
        return _cosine_distance(torch.cat([a.flatten(1) for a in real], 1), torch.cat([b.flatten(1) for b in syn], 1))
    pairs = [(a.flatten(2), b.flatten(2)) for a, b in zip(real, syn, strict=True) if a.dim() > 2]
    return torch.stack([_cosine_distance(a, b) for a, b in pairs]).sum()


def _cosine_distance(a: Float[Tensor, "*rows d"], b: Float[Tensor, "*rows d"]) -> Float[Tensor, ""]:
    distance: Tensor = 1 - (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + 1e-6)
    return distance.sum()


@dataclass(frozen=True)
class WarmUp:
    """Which scope is matched when: DCC's bi-level warm-up.

    Class-wise while the network number is below ``rounds`` and its step below ``steps``, class-collective otherwise. ``None`` in
    one of them lets the other decide alone; both ``None`` means no warm-up.
    Args:
        rounds: networks that are shown before classes are matched together; ``None``: that is left to ``steps``.
        steps: steps of every network before classes are matched together; ``None``: that is left to ``rounds``.
    Departures: Algorithm 1 compares with ``>``, so that a warm-up of n steps lasts n + 1; this follows the released code.
    Reference: Lee et al., "Dataset Condensation with Contrastive Signals", ICML 2022, Algorithm 1.
    """

    rounds: int | None = 250
    steps: int | None = 10

    def __post_init__(self) -> None:
        for name, value in (("rounds", self.rounds), ("steps", self.steps)):
            if value is not None and value < 0:
                raise ValueError(f"{name} of a warm-up must be at least 0, or None to leave it out, got {value}")

    def __call__(self, round: int, step: int) -> Scope:
        if self.rounds is None and self.steps is None:
            return "set"
        outer = self.rounds is None or round < self.rounds
        inner = self.steps is None or step < self.steps
        return "class" if outer and inner else "set"


class GradientMatching(Term):
    """L = sum over groups of classes of D(grad_theta CE(real), grad_theta CE(syn)), with CE a mean over the group's images.

    A class holds as many images as any other, so a group's gradient is the mean over its classes of class-mean gradients.

    Args:
        scope: ``"class"``: every class is a group (DC, DSA). ``"set"``: all classes are one (the class-collective gradient of
            DCC). Or a `WarmUp` schedule from one to the other.
        metric: see `gradient_distance`.
        groups: divides the collective gradient, for many classes: a number of groups, to which classes are dealt anew under every
            look; or lists of class positions.
        mix: mixed-class augmentation (`ddreplay.augment.mixing`), drawn once for both sides.
        layers: ``"all"`` weights, or those of convolutions alone (``"conv"``: IDC, without biases, norms and linear layers).
        vectorize: one call for all groups instead of a loop. ``None``: where it is faster (on an accelerator, and for
            few and small images), and the network is one of `ddreplay.backbones`.
        compile: run the real images' forward and backward passes through ``torch.compile``, where they are looped over.
    Raises:
        ValueError: for an unknown scope or metric, and for groups that are no partition of the classes.
    Departures: the images' gradient is taken group by group where groups are looped over, so it cannot be differentiated again.
    Reference: Zhao, Mopuri and Bilen, ICLR 2021; Lee et al., "Dataset Condensation with Contrastive Signals", ICML 2022, Eq. 10.
    """

    weight_gradients = True
    discriminative = True

    def __init__(
        self,
        scope: Scope | WarmUp = "class",
        metric: Metric = "layerwise",
        *,
        groups: int | Sequence[Sequence[int]] | None = None,
        mix: Mix | None = None,
        layers: Layers = "all",
        vectorize: bool | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(scope, str) and scope not in ("class", "set"):
            raise ValueError(f"scope must be 'class', 'set' or a warmup schedule, got {scope!r}")
        if metric not in ("layerwise", "cosine", "mse", "l1"):
            raise ValueError(f"metric must be 'layerwise', 'cosine', 'mse' or 'l1', got {metric!r}")
        if layers not in ("all", "conv"):
            raise ValueError(f"layers must be 'all' or 'conv', got {layers!r}")
        if groups is not None and scope == "class":
            raise ValueError("groups divides the collective gradient, which scope='class' has not; use scope='set'")
        if isinstance(groups, int) and groups < 1:
            raise ValueError(f"groups must be at least 1, got {groups}")
        self.scope, self.metric, self.groups = scope, metric, groups
        self.mix, self.layers, self.vectorize = mix, layers, vectorize
        self.compiled = compile
        self.bankable = isinstance(scope, str)
        self.additive = scope == "class" and mix is None

    def summarise(self, real: Side) -> Statistic:
        parts = self._parts(real)
        with torch.enable_grad():
            if self._vectorized(real, parts):
                return tuple(layer.detach() for layer in _gradients_at_once(real.look.net, parts, self.layers))
            forward = compiled() if self.compiled else plain
            each = [_mean_gradient(real.look.net, x.detach(), y, real.chunk, self.layers, forward) for x, y in parts]
        return tuple(torch.stack(layer) for layer in zip(*each, strict=True))

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        parts, net = self._parts(syn), syn.look.net
        with torch.enable_grad():
            if self._vectorized(syn, parts):
                return gradient_distance(statistic, _gradients_at_once(net, parts, self.layers), self.metric)

            def of_group(x: Tensor, y: Tensor, k: int) -> Tensor:
                gradient = _gradient(F.cross_entropy(net(x), y), net, self.layers, create_graph=True)
                real = [layer[k : k + 1] for layer in statistic]
                return gradient_distance(real, [g[None] for g in gradient], self.metric)

            if len(parts) == 1:
                return of_group(*parts[0], 0)
            return torch.stack([settled(of_group, x, y, k) for k, (x, y) in enumerate(parts)]).sum()

    def describe(self) -> dict[str, Any]:
        return {
            "name": "GradientMatching",
            "scope": repr(self.scope),
            "metric": self.metric,
            "groups": self.groups,
            "mix": self.mix,
            "layers": self.layers,
        }

    def _parts(self, side: Side) -> list[tuple[Tensor, Tensor]]:
        """Every group's images as the network sees them, and their labels (int64, or soft where classes are mixed)."""
        x, y, look = side.x, side.labels, side.look
        if not self.additive and look.once((self, "classes"), lambda: side.classes) != side.classes:
            raise ValueError(
                "this gradient matching compares classes together, but step_per='class' shows one; use step_per='set'"
            )
        if self.mix is not None:
            mix, shape = self.mix, (x.shape[1], x.shape[2], x.shape[3])
            x, y = look.once((self, "mix"), lambda: mix.draw(shape, look.random)).mix(Batch(x, y), side.classes)
        partition = self._partition(side.look, side.classes)
        order = [k for group in partition for k in group]
        if order != sorted(order):
            x, y = (side.by_class(values)[order].flatten(0, 1) for values in (x, y))
        sizes = [len(group) * side.per_class for group in partition]
        return list(zip(x.split(sizes), y.split(sizes), strict=True))

    def _partition(self, look: Look, classes: int) -> list[list[int]]:
        scope = self.scope if isinstance(self.scope, str) else self.scope(look.round, look.step)
        if scope == "class":
            return [[k] for k in range(classes)]
        if self.groups is None:
            return [list(range(classes))]
        if isinstance(self.groups, int):
            order = look.once((self, "groups"), lambda: torch.randperm(classes, generator=look.random.cpu))
            return [part.tolist() for part in order.tensor_split(min(self.groups, classes))]
        fixed = [list(group) for group in self.groups if len(group)]
        if sorted(k for group in fixed for k in group) != list(range(classes)):
            raise ValueError(
                f"groups must hold each of the class positions 0 to {classes - 1} once, got {fixed}; "
                "give a number of groups to have classes dealt"
            )
        return fixed

    def _vectorized(self, side: Side, parts: list[tuple[Tensor, Tensor]]) -> bool:
        x = parts[0][0]
        if len(parts) == 1 or any(len(part) != len(x) for part, _ in parts):
            return False
        if self.vectorize is not None:
            return self.vectorize
        small = len(x) * x.shape[2] * x.shape[3] <= VECTORIZED_PIXELS
        return isinstance(side.look.net, Network) and (small or x.device.type != "cpu")


def _weights(net: nn.Module, layers: Layers = "all") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {
        name: p for name, p in net.named_parameters() if p.requires_grad and (layers == "all" or p.dim() == 4)
    }
    if not found:
        raise ValueError(f"the network has no weights to match with layers={layers!r}; use layers='all'")
    return found


def _gradient(loss: Tensor, net: nn.Module, layers: Layers = "all", *, create_graph: bool = False) -> list[Tensor]:
    weights = list(_weights(net, layers).values())
    return list(torch.autograd.grad(loss, weights, create_graph=create_graph, materialize_grads=True))


def _mean_gradient(
    net: nn.Module, x: Tensor, y: Tensor, chunk: int | None, layers: Layers, forward: Forward
) -> list[Tensor]:
    """The gradient of the mean cross-entropy, accumulated over chunks; no graph is kept."""
    total: list[Tensor] = []
    size = min(chunk or len(x), len(x))
    for part, labels in zip(x.split(size), y.split(size), strict=True):
        # a last smaller chunk would be compiled anew
        logits = forward(net, part) if len(part) == size else net(part)
        gradient = _gradient(F.cross_entropy(logits, labels, reduction="sum") / len(x), net, layers)
        if total:
            torch._foreach_add_(total, gradient)
        else:
            total = gradient
    return total


def _gradients_at_once(net: nn.Module, parts: list[tuple[Tensor, Tensor]], layers: Layers = "all") -> list[Tensor]:
    """The gradient of every group's mean cross-entropy, [groups, *shape] per parameter, without a loop."""
    x, y = torch.stack([x for x, _ in parts]), torch.stack([y for _, y in parts])

    def loss(weights: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, weights, (images,)), labels)

    groups = max(1, ACCELERATOR_PIXELS // (x.shape[1] * x.shape[3] * x.shape[4]))
    each = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different", chunk_size=min(groups, len(x)))
    return list(each(_weights(net, layers), x, y).values())

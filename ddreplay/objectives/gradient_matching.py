"""Gradient matching: the loss gradients of a network on real and on synthetic images must point the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.augment.mixing import Mix
from ddreplay.backbones import draws_itself
from ddreplay.backbones.capturing import captured
from ddreplay.backbones.compiling import compiled, plain
from ddreplay.backbones.layers import Network
from ddreplay.backbones.precision import full_precision
from ddreplay.eager_gradient import settled, with_gradient
from ddreplay.objectives.side import PIECE, WHOLE, Look, Side
from ddreplay.objectives.term import Statistic, Term
from ddreplay.objectives.weight_gradients import (
    Chosen,
    Layers,
    OfGroups,
    Part,
    gradients_at_once,
    groups_at_once,
    mean_gradient,
    mixed,
    vectorized_gradients,
    weight_gradient,
)

__all__ = [
    "GradientMatching",
    "Metric",
    "Scope",
    "WarmUp",
    "gradient_distance",
]

Scope = Literal["class", "set"]
Metric = Literal["layerwise", "cosine", "mse", "l1"]

VECTORIZED_PIXELS = 1024
"""Of a group's images; up to here one call for all groups beats a loop on a CPU."""
LOOPED_PIXELS = 131072
"""The same on an accelerator. Ten groups of a ConvNet-3-128 on an H100: with 50 images of 32 x 32 each 27 ms in one call and 33 in a loop
(second derivatives), with 256 each 40 and 33 (first ones)."""


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
    """When which scope is matched: DCC's bi-level warm-up.

    Gradients are matched class by class while the network's number is below ``rounds`` and its step below ``steps``, and collectively
    otherwise. ``None`` in one of them lets the other decide alone; both ``None`` means no warm-up.

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
    """The distance of the loss gradients of the real and of the synthetic images, summed over groups of classes.

        L = sum_groups D( grad_theta CE(real), grad_theta CE(syn) )          CE = a mean over the group's images

    A class holds as many images as any other, so a group's gradient is the mean over its classes of class-mean gradients. Under a network
    of `Bfloat16` the real side is computed in bfloat16, in less than half of the time: it is off by a few percent there, where other
    real images change it by more than half. The synthetic side is computed in full precision, because in bfloat16 the
    gradient of its gradient would be off by a tenth and more (docs/results.md has both, measured).

    Args:
        scope: ``"class"``: every class is a group (DC, DSA). ``"set"``: all classes are one (the class-collective gradient of
            DCC). Or a `WarmUp` schedule from one to the other.
        metric: see `gradient_distance`.
        groups: divides the collective gradient, for many classes: a number of groups, to which classes are dealt anew under every
            look; or lists of class positions.
        mix: mixed-class augmentation (`ddreplay.augment.mixing`), drawn once for both sides.
        layers: ``"all"`` weights, or those of convolutions alone (``"conv"``: IDC, without biases, norms and linear layers).
        vectorize: make one call for all groups instead of a loop. ``None``: where it is faster (on an accelerator, and for
            few and small images), and the network is one of `ddreplay.backbones`.
        compile: run the real images' forward and backward passes through ``torch.compile``, where they are looped over.
    Raises:
        ValueError: for an unknown scope or metric, and for groups that are no partition of the classes.
    Departures: the images' gradient is taken group by group where groups are looped over, chunk by chunk where a group has many images,
        and at once on a GPU, so it cannot be differentiated again there; with ``vectorize=True`` it can.
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
        self._real_by_class = isinstance(scope, WarmUp) and mix is None  # a later step may group classes in another way
        self.bankable = isinstance(scope, str) or self._real_by_class
        self.additive = scope == "class" and mix is None

    def summarise(self, real: Side) -> Statistic:
        parts, net = self._parts(real, apart=self._real_by_class), real.look.net
        if self._replayed(real, parts):
            step = OfGroups(self.layers, compiled() if self.compiled else plain, vectorize=_as_one(real, parts))
            return tuple(layer.clone() for layer in captured().of(net)(step, *_stacked(parts)))
        if self._vectorized(real, parts):
            with torch.no_grad():  # of what is differentiated inside, no graph is kept
                return tuple(gradients_at_once(net, parts, groups_at_once(real, parts), self.layers))
        forward = compiled() if self.compiled else plain
        with torch.enable_grad():
            each = [mean_gradient(net, part, real.chunk, self.layers, forward) for part in parts]
        return tuple(torch.stack(layer) for layer in zip(*each, strict=True))

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        parts, net = self._parts(syn), syn.look.net
        if self._real_by_class and (groups := self._partition(syn.look, syn.classes)) != _each(syn.classes):
            statistic = tuple(_means(layer, groups) for layer in statistic)
        with torch.enable_grad(), full_precision(net):
            if self._replayed(syn, parts):
                x, y = _stacked(parts)
                step = _Matched(self.metric, OfGroups(self.layers, plain, vectorize=_as_one(syn, parts)))
                value, gradient = captured().of(net)(step, x.detach(), y, *statistic)
                return with_gradient(value.clone(), [x], [gradient.clone()])
            if not self._vectorized(syn, parts):
                each = [(part, [layer[k : k + 1] for layer in statistic]) for k, part in enumerate(parts)]
                values = [self._of_group(part, real, syn, alone=len(parts) == 1) for part, real in each]
                return values[0] if len(values) == 1 else torch.stack(values).sum()
            size = groups_at_once(syn, parts)
            if not syn.splits:
                return gradient_distance(statistic, gradients_at_once(net, parts, size, self.layers), self.metric)

            def of_groups(x: Tensor, y: Tensor, real: list[Tensor]) -> Tensor:
                return gradient_distance(real, vectorized_gradients(net, x, y, self.layers), self.metric)

            total = []
            for k in range(0, len(parts), size):
                x, y = (torch.stack(values) for values in zip(*parts[k : k + size], strict=True))
                total.append(settled(of_groups, x, y, [layer[k : k + size] for layer in statistic]))
            return torch.stack(total).sum()

    def _of_group(self, part: Part, real: list[Tensor], syn: Side, *, alone: bool) -> Float[Tensor, ""]:
        """The distance of one group: ``alone`` with a graph; else, and where it has many images, with its gradient and none."""
        net, x = syn.look.net, part.x[:]
        if syn.chunk is not None and len(x) > WHOLE * syn.chunk and not draws_itself(net):
            return self._by_chunks(net, x, part.y, real, syn.chunk)

        def of_group(x: Tensor, y: Tensor) -> Tensor:
            gradient = weight_gradient(F.cross_entropy(net(x), y), net, self.layers, create_graph=True)
            return gradient_distance(real, [g[None] for g in gradient], self.metric)

        return of_group(x, part.y) if alone else settled(of_group, x, part.y)

    def _by_chunks(self, net: nn.Module, x: Tensor, y: Tensor, real: list[Tensor], chunk: int) -> Float[Tensor, ""]:
        """The distance of one group, whose gradient is a sum over chunks: first without a graph, then a chunk's graph at a time."""
        gradient = mean_gradient(net, Part(x.detach(), y), chunk, self.layers, plain)
        leaves = [g[None].requires_grad_() for g in gradient]
        value = gradient_distance(real, leaves, self.metric)
        outer = torch.autograd.grad(value, leaves, materialize_grads=True)
        if not x.requires_grad:
            return value.detach()
        found = []
        for images, labels in zip(x.detach().split(chunk), y.split(chunk), strict=True):
            images.requires_grad_()
            loss = F.cross_entropy(net(images), labels, reduction="sum") / len(x)
            inner = weight_gradient(loss, net, self.layers, create_graph=True)
            pairs = [(g, o[0]) for g, o in zip(inner, outer, strict=True) if g.requires_grad]
            gradients, given = zip(*pairs, strict=True)
            found += torch.autograd.grad(gradients, images, given)
        return with_gradient(value, [x], [torch.cat(found)])

    def describe(self) -> dict[str, Any]:
        return {
            "name": "GradientMatching",
            "scope": repr(self.scope),
            "metric": self.metric,
            "groups": self.groups,
            "mix": self.mix,
            "layers": self.layers,
        }

    def _parts(self, side: Side, *, apart: bool = False) -> list[Part]:
        """Every group's images as the network sees them, and their labels (int64, or soft where classes are mixed).

        apart: every class is a group, whatever is compared now.
        """
        x, y, look = side.x if _at_once(side) else side.seen, side.labels, side.look
        if not self.additive and look.once((self, "classes"), lambda: side.classes) != side.classes:
            raise ValueError(
                "this gradient matching compares classes together, but step_per='class' shows one; use step_per='set'"
            )
        if self.mix is not None:
            mix, source = self.mix, side.source
            shape = (source.shape[1], source.shape[2], source.shape[3])
            mixing = look.once((self, "mix"), lambda: mix.draw(shape, look.random))
            y = mixing.labels(y, side.classes, source.dtype, blocks=side.classes)
            x = mixed(x, mixing, side.classes, source.device)
        partition = _each(side.classes) if apart else self._partition(side.look, side.classes)
        order, sizes = [k for group in partition for k in group], [len(group) * side.per_class for group in partition]
        dealt = None if order == sorted(order) else torch.tensor(order).to(y.device, non_blocking=True)
        if isinstance(x, Tensor):
            if dealt is not None:
                x, y = (side.by_class(values)[dealt].flatten(0, 1) for values in (x, y))
            return [Part(*part) for part in zip(x.split(sizes), y.split(sizes), strict=True)]
        places = torch.arange(len(x), device=y.device)
        if dealt is not None:
            places = side.by_class(places)[dealt].flatten(0, 1)
        return [Part(Chosen(x, index), y[index]) for index in places.split(sizes)]

    def _partition(self, look: Look, classes: int) -> list[list[int]]:
        scope = self.scope if isinstance(self.scope, str) else self.scope(look.round, look.step)
        if scope == "class":
            return _each(classes)
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

    def _replayed(self, side: Side, parts: list[Part]) -> bool:
        """Whether all groups are compared in one step of a GPU, which is captured."""
        if self.vectorize is not None or any(len(part.y) != len(parts[0].y) for part in parts):
            return False
        return _at_once(side) and captured().serves(side.look.net, side.source.device)

    def _vectorized(self, side: Side, parts: list[Part]) -> bool:
        n = len(parts[0].y)
        if len(parts) == 1 or any(len(part.y) != n for part in parts):
            return False
        if self.vectorize is not None:
            return self.vectorize
        small = n * side.source.shape[2] * side.source.shape[3] <= VECTORIZED_PIXELS
        fits = (
            _as_one(side, parts)
            and side.source.device.type != "cpu"
            and (side.chunk is None or n <= PIECE * side.chunk)
        )
        return isinstance(side.look.net, Network) and (small or fits)


@dataclass(frozen=True)
class _Matched:
    """The distance of synthetic images' gradients to real ones, and its gradient to the images, as a step that a GPU replays."""

    metric: Metric
    of_groups: OfGroups

    def __call__(self, net: nn.Module, x: Tensor, y: Tensor, *real: Tensor) -> list[Tensor]:
        images = x.detach().requires_grad_()
        value = gradient_distance(real, self.of_groups.gradients(net, images, y, create_graph=True), self.metric)
        return [value.detach(), torch.autograd.grad(value, images)[0]]


def _as_one(side: Side, parts: Sequence[Part]) -> bool:
    """Whether an accelerator takes the groups in one call: it is faster until they are large enough to keep it busy one by one."""
    return len(parts) > 1 and len(parts[0].y) * side.source.shape[2] * side.source.shape[3] < LOOPED_PIXELS


def _at_once(side: Side) -> bool:
    """Whether all images of a side pass at once: on an accelerator, which is slow at many small pieces."""
    fits = side.chunk is None or len(side.source) <= WHOLE * side.chunk
    return fits and side.source.device.type != "cpu"


def _stacked(parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """The images of groups of one size, [groups, n, c, h, w], and their labels."""
    return torch.stack([part.x[:] for part in parts]), torch.stack([part.y for part in parts])


def _each(classes: int) -> list[list[int]]:
    """Every class as a group of its own."""
    return [[k] for k in range(classes)]


def _means(by_class: Float[Tensor, "classes ..."], groups: Sequence[Sequence[int]]) -> Float[Tensor, "groups ..."]:
    """The mean of every group's classes."""
    if len(groups) == 1:
        return by_class.mean(0, keepdim=True)
    classes = by_class.unbind()  # an index of places would have to be carried to the device
    return torch.stack([torch.stack([classes[k] for k in group]).mean(0) for group in groups])

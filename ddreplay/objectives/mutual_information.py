"""Mutual information between real and synthetic activations, raised through its contrastive lower bound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ddreplay.backbones import Activations
from ddreplay.eager_gradient import settled_sum
from ddreplay.objectives.side import Look, PerImage, Side
from ddreplay.objectives.term import Shared, Statistic, Term

__all__ = ["MutualInformation", "calibrated", "noise_contrast"]

PAIRS = 2**21  # of a synthetic and a real image that are scored at once; beyond, synthetic images go in groups


def noise_contrast(
    scores: Float[Tensor, "syn real"], positive: Bool[Tensor, "syn real"], classes: int
) -> Float[Tensor, ""]:
    """E_positive[log h] + (C - 1) E_negative[log(1 - h)] with h = sigmoid(score): at most 0, to be raised.

    Expectations are means over pairs of a synthetic and a real image of one class, and of two classes. No pairs, no part.
    Reference: Shang et al., "MIM4DD: Mutual Information Maximization for Dataset Distillation", NeurIPS 2023, Eq. 2.16.
    """
    alike = (F.logsigmoid(scores) * positive).sum() / positive.sum().clamp_min(1)
    apart = (F.logsigmoid(-scores) * ~positive).sum() / (~positive).sum().clamp_min(1)
    return alike + (classes - 1) * apart


def calibrated(scores: Float[Tensor, "syn real"], classes: int) -> Float[Tensor, "syn real"]:
    """Logits of a synthetic and a real image to share their class: log e^s - log mean_real e^s - log(C - 1).

    For every synthetic image, e^s over its mean over real images stands for the density of pairs of one class against that of any pair,
    and among C classes a pair of two classes is C - 1 times as likely (Eq. 2.12 of the paper). An image that is as near to all classes
    gets a probability of 1/C everywhere, where attraction to its own class and repulsion from the others weigh the same.
    """
    share = scores - (scores.logsumexp(1, keepdim=True) - math.log(scores.shape[1]))
    return share - math.log(max(1, classes - 1))


@dataclass(frozen=True)
class _Flat:
    """A tapped layer's activations, averaged down to at most ``pooled`` pixels a side, as one row per image."""

    name: str
    pooled: int | None

    def __call__(self, seen: Activations) -> Float[Tensor, "n d"]:
        maps = seen.maps[self.name]
        if maps.dim() == 4 and self.pooled is not None:
            size = (min(maps.shape[2], self.pooled), min(maps.shape[3], self.pooled))
            maps = F.adaptive_avg_pool2d(maps, size)
        return maps.flatten(1)


class MutualInformation(Term):
    """MIM4DD: noise-contrastive estimation between real and synthetic activations, at every layer.

        L = - sum_{k=1..K} 1 / beta^(K-1-k) [ E_pos log h_k + (C - 1) E_neg log(1 - h_k) ]          (lambda is the term's weight)
        h_k(s, r) = sigmoid( <g_k(a_k(s)), g_k(a_k(r))> / tau - log mean_r' e^(<g_k(a_k(s)), g_k(a_k(r'))> / tau) - log(C - 1) )

    Pairs of a synthetic and a real image are positive where they share the class; C is the number of classes; a_k is what
    layer k gives, before its nonlinearity (Eq. 2.5); the last of the K layers is the classifier. L is never negative.

    Args:
        layers: the K layers, as taps of a `Probe`.
        depth: fully connected layers of the critic's embedding g: 0, 1 or 2 (with a ReLU between). They learn along with
            the images, by the distiller's optimiser.
        width: the size of the embedding. Without layers it is the activation's own.
        temperature: tau. Related work: 0.07 to 0.1.
        beta: above 1, later layers weigh more. Paper: 2.
        normalise: embeddings are scaled to length 1.
        prior: h knows how rare pairs of one class are (`calibrated`). False: h = sigmoid(<g_k(a_k(s)), g_k(a_k(r))> / tau), as Eq. 2.15
            is printed.
        knowing: real images are seen by an expert's later weights where the method brings them (MTT, TESLA), synthetic ones by the
            network that is shown: the two sides of the paper's Fig. 2. False: both are seen by the network that is shown.
        images: real images per class in the pairs, the first of the batch; ``None``: all of them, and then it cannot be banked.
        pooled: maps are averaged down to at most this many pixels a side before the critic; ``None``: never.
        lr: step size of the critics, with momentum 0.9; the same whatever the term's weight, or a small weight would leave them as they
            were drawn.
    Raises:
        ValueError: for arguments out of range.
    Departures: the printed loss (Eq. 2.17) adds what must be maximised to what is minimised; here it has a minus sign. The printed h
        (Eq. 2.15) lacks the prior that Eq. 2.12 derives: with embeddings of length 1, a pair of two classes is out of reach of the
        probability that it has, repulsion outweighs attraction many times over, and images move away from their own class; so
        ``prior`` is the default, with h normalised over real images, since e^s alone is no density ratio. The paper leaves open the
        temperature, the embedding's width and length, its optimiser, and which networks are fed. Pooled maps and a subset of the real
        batch keep critics and statistics small. In steps per class each class's share counts 1/C, so that one round over the classes
        weighs as much as one step of all. Where there are many pairs, gradients are taken by groups of synthetic images, and cannot
        be differentiated again.
    Reference: Shang et al., "MIM4DD: Mutual Information Maximization for Dataset Distillation", NeurIPS 2023, Eq. 2.15-2.17.
    Example:
        >>> from ddreplay import ConvNet, methods
        >>> mim = methods.dm(ConvNet(width=8), steps=2).plus(MutualInformation(), weight=0.8)
        >>> mim(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """

    additive = True
    discriminative = True
    sized = True
    own_rate = True

    def __init__(
        self,
        layers: Sequence[str] = ("layers",),
        *,
        depth: int = 1,
        width: int = 128,
        temperature: float = 0.1,
        beta: float = 2.0,
        normalise: bool = True,
        prior: bool = True,
        knowing: bool = True,
        images: int | None = 64,
        pooled: int | None = 4,
        lr: float = 0.01,
    ) -> None:
        super().__init__()
        if depth not in (0, 1, 2):
            raise ValueError(f"depth must be 0, 1 or 2, got {depth}")
        if temperature <= 0 or beta <= 0 or lr <= 0:
            raise ValueError(f"temperature, beta and lr must be positive, got {temperature}, {beta} and {lr}")
        if width < 1 or (images is not None and images < 1) or (pooled is not None and pooled < 1):
            raise ValueError(f"width, images and pooled must be at least 1, got {width}, {images} and {pooled}")
        if not layers or isinstance(layers, str):
            raise ValueError(f'layers must be a sequence of taps such as ("layers",), got {layers!r}')
        self.taps = tuple(layers)
        self.depth, self.width, self.temperature, self.beta = depth, width, temperature, beta
        self.normalise, self.prior, self.knowing = normalise, prior, knowing
        self.images, self.pooled, self.lr = images, pooled, lr
        self.bankable = images is not None
        self.critics = nn.ModuleList()

    def reads(self, look: Look) -> Sequence[PerImage]:
        return [_Flat(name, self.pooled) for name in look.probe.names(*self.taps)]

    def prepare(self, syn: Side) -> None:
        seen = syn.look.probe(syn.seen[:2])
        self.critics = nn.ModuleList([self._critic(layer(seen).shape[1]) for layer in self.reads(syn.look)])

    def _critic(self, size: int) -> nn.Module:
        if self.depth == 0:
            return nn.Identity()
        if self.depth == 1:
            return nn.Linear(size, self.width)
        return nn.Sequential(nn.Linear(size, self.width), nn.ReLU(), nn.Linear(self.width, self.width))

    def parameter_groups(self) -> list[dict[str, Any]]:
        own = list(self.parameters())
        return [{"params": own, "lr": self.lr, "momentum": 0.9}] if own else []

    def summarise(self, real: Side) -> Statistic:
        n = real.per_class if self.images is None else min(self.images, real.per_class)
        later = _later(real.look) if self.knowing else None
        if n == real.per_class and later is None:
            layers = real.values(*self.reads(real.look))
        else:
            chosen = torch.arange(len(real.source), device=real.source.device).unflatten(0, (real.classes, -1))[:, :n]
            pieces = chosen.flatten().split(real.chunk or chosen.numel())
            seen = [real.look.probe(real.seen[piece], later) for piece in pieces]
            layers = [torch.cat([layer(part) for part in seen]) for layer in self.reads(real.look)]
        return (Shared(layer.unflatten(0, (real.classes, n)) for layer in layers),)

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        real: Shared = statistic[0]
        classes, n = real[0].shape[:2]
        if len(self.critics) != len(real):
            raise ValueError(
                "MutualInformation has no critics for these layers: call prepare(syn) once before distance"
            )
        owner = torch.arange(classes, device=syn.labels.device).repeat_interleave(n)
        total = syn.images.new_zeros(())
        layers = zip(self.critics, syn.values(*self.reads(syn.look)), real, strict=True)
        for k, (critic, a, b) in enumerate(layers, start=1):
            bound = self._bound(
                self._embed(critic, a), self._embed(critic, b.flatten(0, 1)), syn.labels, owner, classes
            )
            total = total - bound / self.beta ** (len(real) - 1 - k)
        share: Tensor = total * (syn.classes / classes)
        return share

    def _bound(self, syn: Tensor, real: Tensor, labels: Tensor, owner: Tensor, classes: int) -> Float[Tensor, ""]:
        """`noise_contrast` of embeddings [n, e] and [m, e], whose classes are ``labels`` and ``owner``."""

        def of_rows(syn: Tensor, real: Tensor, rows: slice) -> Tensor:
            scores = syn[rows] @ real.T / self.temperature
            scores = calibrated(scores, classes) if self.prior else scores
            return noise_contrast(scores, labels[rows, None] == owner, classes)

        n, group = len(syn), max(1, PAIRS // len(real))
        if n <= group:
            return of_rows(syn, real, slice(None))

        def share(syn: Tensor, real: Tensor, start: int, stop: int) -> Tensor:
            # every synthetic image has as many pairs of either kind as any other
            return of_rows(syn, real, slice(start, stop)) * ((stop - start) / n)

        return settled_sum(share, (syn, real), [(start, min(start + group, n)) for start in range(0, n, group)])

    def _embed(self, critic: nn.Module, activations: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        embedding: Tensor = critic(activations)
        return F.normalize(embedding, dim=1) if self.normalise else embedding


def _later(look: Look) -> Mapping[str, Tensor] | None:
    """An expert's later weights by name, where the look brings them as its target."""
    named = dict(look.net.named_parameters())
    if not isinstance(look.target, tuple) or len(look.target) != len(named):
        return None
    return dict(zip(named, look.target, strict=True))

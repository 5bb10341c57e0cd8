"""The two sides that an objective compares, as one network sees them under one augmentation draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ddreplay.augment.by_class import ClassTransforms
from ddreplay.augment.siamese import Augment, Transform
from ddreplay.backbones import Activations, Probe, draws_itself, mixes_images
from ddreplay.data.chunks import DrawnImages, Images
from ddreplay.objectives.pieces import Pass, by_pieces
from ddreplay.randomness import Random

__all__ = ["PIECE", "WHOLE", "Look", "PerImage", "Side", "of_embedding", "of_logits"]

PerImage = Callable[[Activations], Tensor]
"""A function of what a network made of images, [n, ...] -> [n, ...], of each image by itself; equal ones are computed once."""

PIECE = 4
"""Chunks in one forward and backward pass: 1,600 images of 32x32 in pieces take 0.5 to 0.6 of the time of all at once."""

WHOLE = 8
"""Chunks whose graph is held. With more, images pass chunk by chunk, twice (`by_pieces`): on a CPU as fast as one large graph."""


def of_embedding(seen: Activations) -> Tensor:
    """What the classifier reads."""
    return seen.embedding


def of_logits(seen: Activations) -> Tensor:
    """What the classifier says."""
    return seen.logits


@dataclass(eq=False)
class Look:
    """One look of one network at both sides, under one augmentation draw.

    round: the number of networks that were shown before this one. step: the number of image steps that this one has seen.
    accuracy: the network's running accuracy on real data, in [0, 1], a number or a scalar on the device; 0 if nobody trained it
    on real data.
    random: draws whatever else a term needs (inner steps, subsets). target: what a source gives besides the network, such as an expert's
    later weights.
    """

    net: nn.Module
    probe: Probe
    transform: Transform
    augment: Augment
    random: Random
    round: int = 0
    step: int = 0
    accuracy: float | Tensor = 0.0
    target: Any = None
    _kept: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gives when first asked under this key, and the same at every later comparison under this look."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def mark(self) -> Callable[[], None]:
        """Gives what takes back all draws from now on, so that a comparison can be made again."""
        state, kept = self.random.state_dict(), dict(self._kept)

        def back() -> None:
            self.random.load_state_dict(state)
            self._kept = dict(kept)

        return back


class Side:
    """One side of a comparison: class-major images, seen through a look; what the network makes of them is computed once and shared.

    Args:
        images: before augmentation, [len(positions) * n, c, h, w]: a tensor, or real images that are fetched piece by piece.
        positions: the class of every block of n images.
        chunk: images in one forward where no gradient is needed; with one, up to `PIECE` times as many, and the graph of up to `WHOLE`
            times as many is held. ``None``, or a network that mixes the images of a batch: all at once.
    Attributes:
        shares: what each term of a `Sum` that compared this side came to, its weight included: detached scalars by the term's name.
    """

    def __init__(
        self,
        look: Look,
        images: Float[Tensor, "n c h w"] | DrawnImages,
        positions: Sequence[int],
        *,
        chunk: int | None = None,
    ) -> None:
        self.look = look
        self.source = images
        self.positions = tuple(positions)
        self.chunk = None if mixes_images(look.net) else chunk
        self.shares: dict[str, Tensor] = {}
        self._found: dict[tuple[bool, PerImage], Tensor] = {}
        if len(images) % len(self.positions):
            raise ValueError(f"{len(images)} images do not divide into {len(self.positions)} classes")

    @property
    def classes(self) -> int:
        return len(self.positions)

    @property
    def per_class(self) -> int:
        return len(self.source) // self.classes

    @cached_property
    def images(self) -> Float[Tensor, "n c h w"]:
        """All of them at once, before augmentation."""
        return self.source if isinstance(self.source, Tensor) else self.source[:]

    @cached_property
    def x(self) -> Float[Tensor, "n c h w"]:
        """All images at once, as the network sees them."""
        return self.augmented(self.images, slice(None))

    @cached_property
    def seen(self) -> Images:
        """The images as the network sees them, piece by piece: ``seen[start:stop]``."""
        return self.x if isinstance(self.source, Tensor) else _Transformed(self)

    def augmented(self, images: Float[Tensor, "m c h w"], rows: slice | Tensor) -> Float[Tensor, "m c h w"]:
        """Images under the look's draw.

        Args:
            rows: which of all images of the side they are.
        """
        transform = self.look.transform
        if not isinstance(transform, ClassTransforms):
            return transform(images)
        index = range(len(self.source))[rows] if isinstance(rows, slice) else rows.tolist()
        return transform.of_classes(images, [self.positions[k // self.per_class] for k in index])

    @cached_property
    def labels(self) -> Int64[Tensor, " n"]:
        """Class positions, int64 [n]."""
        first, device = self.positions[0], self.source.device
        if self.positions == tuple(range(first, first + self.classes)):
            positions = torch.arange(first, first + self.classes, device=device)
        else:
            positions = torch.tensor(self.positions).to(device, non_blocking=True)
        return positions.repeat_interleave(self.per_class)

    @property
    def splits(self) -> bool:
        """Whether the graph of all images is too large to hold; a network that draws anything would draw anew in a second pass."""
        large = self.chunk is not None and len(self.source) > WHOLE * self.chunk
        return large and not draws_itself(self.look.net)

    @cached_property
    def activations(self) -> Activations:
        """Of all images, maps included, whatever their number; with gradients in pieces of `PIECE` chunks."""
        probe, size = self.look.probe, PIECE * (self.chunk or len(self.x))
        if not torch.is_grad_enabled() or len(self.x) <= size:
            return probe(self.x)
        *full, last = self.x.split(size)
        seen = [probe(x) for x in full]
        if probe.compile and len(last) < size:  # a size of its own would be compiled for tens of seconds
            seen.append(_last(probe(self.x[-size:]), len(last)))
        else:
            seen.append(probe(last))
        maps = {name: torch.cat([part.maps[name] for part in seen]) for name in seen[0].maps}
        return Activations(torch.cat([s.logits for s in seen]), torch.cat([s.embedding for s in seen]), maps)

    @property
    def embedding(self) -> Float[Tensor, "n d"]:
        """What the classifier reads of every image."""
        return self.values(of_embedding)[0]

    @property
    def logits(self) -> Float[Tensor, "n k"]:
        """What the classifier says of every image."""
        return self.values(of_logits)[0]

    def by_class(self, values: Tensor) -> Tensor:
        """[classes * n, ...] -> [classes, n, ...]."""
        blocks: Tensor = values.unflatten(0, (self.classes, self.per_class))
        return blocks

    def values(self, *functions: PerImage) -> list[Tensor]:
        """Functions of every image's activations: a list of [n, ...], without ever holding the activations of more than `WHOLE` chunks."""
        if self._whole:
            return [f(self.activations) for f in functions]
        self.share(values=functions)
        return [self._found[False, f] for f in functions]

    def class_means(self, *functions: PerImage) -> list[Tensor]:
        """The mean over every class's images of functions of their activations: a list of [classes, ...]."""
        if self._whole:
            return [self.by_class(f(self.activations)).mean(1) for f in functions]
        self.share(means=functions)
        return [self._found[True, f] for f in functions]

    def share(self, *, means: Sequence[PerImage] = (), values: Sequence[PerImage] = ()) -> None:
        """Compute in one pass what `class_means` and `values` will be asked for, where images pass in pieces."""
        wanted = dict.fromkeys([(True, f) for f in means] + [(False, f) for f in values])
        missing = [key for key in wanted if key not in self._found]
        if self._whole or not missing or self.chunk is None:
            return
        probe, learned = self.look.probe, torch.is_grad_enabled()
        averaged, functions = tuple(mean for mean, _ in missing), [f for _, f in missing]

        def see(images: Tensor, rows: slice) -> list[Tensor]:
            seen = probe(self.augmented(images, rows))
            return [f(seen) for f in functions]

        how = Pass(see, averaged, self.classes, self.chunk, even=probe.compile and learned)
        found = by_pieces(how, self.images) if learned else how.over(self.source)
        self._found.update(zip(missing, found, strict=True))

    @property
    def _whole(self) -> bool:
        """Whether all images pass at once."""
        if torch.is_grad_enabled():
            return not self.splits
        return self.chunk is None or len(self.source) <= self.chunk


@dataclass(frozen=True, eq=False)
class _Transformed:
    """A side's images, which undergo the augmentation when they are taken; it must treat each by itself."""

    side: Side

    def __len__(self) -> int:
        return len(self.side.source)

    def __getitem__(self, index: slice | Tensor, /) -> Float[Tensor, "m c h w"]:
        return self.side.augmented(self.side.source[index], index)


def _last(seen: Activations, n: int) -> Activations:
    return Activations(seen.logits[-n:], seen.embedding[-n:], {name: values[-n:] for name, values in seen.maps.items()})

"""What data is: a batch, and a pool of real images indexed by class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from ddreplay.data.space import Shape
from ddreplay.randomness import Random

__all__ = ["Batch", "ClassPool", "concatenate", "pick_device"]


class Batch(NamedTuple):
    """Images in the network's input space (normalised) and their labels.

    x: float [n, c, h, w]. y: int64 [n], or soft labels [n, classes].
    """

    x: Tensor
    y: Tensor


def pick_device(device: torch.device | str = "auto") -> torch.device:
    """``"auto"`` is CUDA where there is one, else the CPU.

    Raises:
        ValueError: for what is no device, or CUDA where there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda or another that torch knows, got {device!r}") from error
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device {str(device)!r} needs CUDA, which torch does not find here; use device='cpu' or 'auto'"
        )
    return picked


class ClassPool:
    """Real data, indexed by class, on one device; never mutated.

    Images keep the type they come in (uint8 or float) and are normalised when drawn: 50,000 CIFAR images take 150 MB, not 600.
    Inside, classes are the positions 0..C-1 of the sorted ``class_ids``; ids may be any integers.

    Network space is ``(pixel - mean) / std`` with pixels in [0, 1]. uint8 images are normalised with ``mean`` and ``std``; float
    images are taken to be in network space already, and ``mean`` and ``std`` say how they came there.

    Attributes:
        shape: (channels, height, width) of an image.
        class_ids: sorted original label of every class, int64 [C].
        counts: images in every class.
        class_names: a name for every class.
        mean, std: normalisation, one number per channel.
        normalization: ``"given"``, or ``"from data"`` where the caller gave none.
        augmentation: the DSA operations that keep what these images are, as their data set says; ``None``: it does not.
        origin: where some images stand in it several times, because they stand for others that are gone: a number for every row, equal
            for copies of one image, int64 [n]; ``None``: every row is an image of its own.
    """

    origin: Tensor | None = None

    def __init__(
        self,
        images: Shaped[Tensor, "n c h w"],
        labels: Shaped[Tensor, " labels"],
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        class_names: Mapping[int, str] | Sequence[str] | None = None,
        device: torch.device | str = "auto",
        augmentation: str | None = None,
    ) -> None:
        _check_images(images, labels)
        self.augmentation = augmentation
        order = torch.argsort(labels.cpu().long(), stable=True)
        self.class_ids, counts = torch.unique(labels.cpu().long(), return_counts=True)
        self.counts: tuple[int, ...] = tuple(counts.tolist())
        self.device = pick_device(device)
        kept = images if images.dtype == torch.uint8 else images.float()
        self._images = kept[order.to(kept.device)].to(self.device).contiguous()
        self.shape: Shape = (images.shape[1], images.shape[2], images.shape[3])
        if (mean is None) != (std is None):
            raise ValueError("mean and std go together: give both or neither")
        self.normalization = "from data" if mean is None else "given"
        if mean is None or std is None:
            mean, std = _moments(self._images) if kept.dtype == torch.uint8 else _value_range(self._images)
        self.mean = _per_channel("mean", mean, self.shape[0])
        self.std = _per_channel("std", std, self.shape[0])
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive in every channel, got {self.std}")
        self.class_names = _names(class_names, self.class_ids.tolist())
        self._index()

    def _index(self) -> None:
        counts = torch.tensor(self.counts, device=self.device)
        self._counts = counts
        self._starts = counts.cumsum(0) - counts
        self._scale = 1 / (255 * torch.tensor(self.std, device=self.device).view(-1, 1, 1))
        self._shift = -(torch.tensor(self.mean) / torch.tensor(self.std)).to(self.device).view(-1, 1, 1)

    @classmethod
    def from_tensors(cls, images: Tensor, labels: Tensor, **how: Any) -> ClassPool:
        """The same as ``ClassPool(images, labels, **how)``."""
        return cls(images, labels, **how)

    @classmethod
    def from_dataset(cls, dataset: Any, **how: Any) -> ClassPool:
        """Any map-style dataset whose items begin with (image tensor [c, h, w], integer label).

        Raises:
            ValueError: when it is empty, an image is no tensor, or images differ in shape.
        """
        images, labels = [], []
        for index in range(len(dataset)):
            item = dataset[index]
            if not isinstance(item[0], Tensor):
                raise ValueError(
                    f"item {index} holds a {type(item[0]).__name__}, not a tensor; add a ToTensor() transform"
                )
            images.append(item[0])
            labels.append(int(item[1]))
        if not images:
            raise ValueError("the dataset is empty: a pool needs at least one image")
        shapes = {tuple(x.shape) for x in images}
        if len(shapes) > 1:
            raise ValueError(f"images differ in shape ({sorted(shapes)[:3]} ...): resize or crop them to one")
        return cls(torch.stack(images), torch.tensor(labels), **how)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.counts)

    def __len__(self) -> int:
        return len(self._images)

    def __repr__(self) -> str:
        kind = str(self._images.dtype).removeprefix("torch.")
        return f"ClassPool({len(self)} images of shape {self.shape}, {self.classes} classes, {kind}, {self.device})"

    def normalise(self, images: Tensor) -> Float[Tensor, "n c h w"]:
        """Images as the pool keeps them -> network space."""
        if images.dtype != torch.uint8:
            return images
        normalised: Tensor = images.float().mul_(self._scale).add_(self._shift)
        return normalised

    def stored(self, index: Int64[Tensor, " n"]) -> Shaped[Tensor, "n c h w"]:
        """Images at these rows as the pool keeps them: uint8, or float in network space."""
        return self._images[index]

    def first(self, per_class: int) -> ClassPool:
        """The pool of the first ``per_class`` images of every class alone."""
        ends = zip(self._starts.tolist(), self.counts, strict=True)
        return self.subset(torch.cat([torch.arange(start, start + min(n, per_class)) for start, n in ends]))

    def rows(self, index: Int64[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Images at these rows (rows are sorted by class), in network space."""
        return self.normalise(self._images[index])

    def draw_rows(self, n: int, random: Random) -> Int64[Tensor, "classes n"]:
        """Rows of ``n`` random images of every class.

        Without replacement where a class has ``n``; a smaller class repeats each image as evenly as can be. ``n`` above the
        largest class means whole classes, as in the released code.
        """
        n = min(n, max(self.counts))
        keys = torch.rand(self.classes, max(self.counts), generator=random.device, device=self.device)
        position = torch.arange(max(self.counts), device=self.device)
        keys.masked_fill_(position >= self._counts[:, None], 2.0)
        order = keys.argsort(1)
        rows: Tensor = self._starts[:, None] + order.gather(1, position[:n] % self._counts[:, None])
        return rows

    def draw(self, n: int, random: Random) -> Batch:
        """``n`` images of every class in one gather: x [C*n, c, h, w], class-major; y are positions 0..C-1."""
        rows = self.draw_rows(n, random)
        return Batch(self.rows(rows.flatten()), self.positions(rows.shape[1]))

    def draw_any(self, n: int, random: Random) -> Batch:
        """``n`` images of any class, uniformly, with replacement."""
        rows = torch.randint(len(self), (n,), generator=random.device, device=self.device)
        return Batch(self.rows(rows), torch.searchsorted(self._starts, rows, right=True) - 1)

    def of_class(self, position: int) -> Float[Tensor, "n c h w"]:
        """All images of one class, in network space."""
        start = sum(self.counts[:position])
        return self.normalise(self._images[start : start + self.counts[position]])

    def all(self) -> Batch:
        """Everything, class-major, in network space; y are positions."""
        return Batch(self.normalise(self._images), self.all_labels())

    def all_labels(self) -> Int64[Tensor, " n"]:
        """The position of every image's class."""
        return torch.arange(self.classes, device=self.device).repeat_interleave(self._counts)

    def positions(self, per_class: int) -> Int64[Tensor, " n"]:
        """The labels of a class-major batch."""
        return torch.arange(self.classes, device=self.device).repeat_interleave(per_class)

    def select(self, positions: Sequence[int]) -> ClassPool:
        """The pool of these classes alone (positions, in ascending order), normalised alike."""
        keep = sorted(positions)
        if not keep:
            raise ValueError("select needs at least one class")
        starts = self._starts.tolist()
        rows = torch.cat([torch.arange(starts[k], starts[k] + self.counts[k], device=self.device) for k in keep])
        pool = object.__new__(ClassPool)
        pool.__dict__.update(self.__dict__)
        pool._images = self._images[rows]
        pool.origin = _copies(self.origin, rows)
        pool.class_ids = self.class_ids[keep]
        pool.counts = tuple(self.counts[k] for k in keep)
        pool.class_names = tuple(self.class_names[k] for k in keep)
        pool._index()
        return pool

    def subset(self, rows: Int64[Tensor, " n"]) -> ClassPool:
        """The pool of these rows alone, which must hold every class; normalised alike. A row may be named several times (`origin`)."""
        rows = rows.to(self.device).sort().values
        counts = torch.bincount(torch.searchsorted(self._starts, rows, right=True) - 1, minlength=self.classes)
        if int(counts.min()) == 0:
            raise ValueError("subset needs at least one row of every class; use select to leave classes out")
        pool = object.__new__(ClassPool)
        pool.__dict__.update(self.__dict__)
        pool._images = self._images[rows]
        pool.origin = _copies(self.origin, rows)
        pool.counts = tuple(counts.tolist())
        pool._index()
        return pool

    def distinct_rows(self) -> Int64[Tensor, " n"]:
        """Every image once: the first row of each, ascending."""
        rows = torch.arange(len(self), device=self.device)
        if self.origin is None:
            return rows
        order = self.origin.argsort(stable=True)
        changes = self.origin[order].diff(prepend=self.origin.new_full((1,), -1)) != 0
        return rows[order[changes]].sort().values

    def distinct(self) -> ClassPool:
        """The pool without copies; itself where there are none."""
        return self if self.origin is None else self.subset(self.distinct_rows())

    def relabel(self, y: Tensor) -> Int64[Tensor, " n"]:
        """Positions -> original class ids (on the CPU)."""
        ids: Tensor = self.class_ids[y.cpu()]
        return ids


def _copies(origin: Tensor | None, rows: Tensor) -> Tensor | None:
    """The origin of every row of a part of a pool; None where no two are one."""
    found = rows if origin is None else origin[rows]
    return found if len(found.unique()) < len(found) else None


def concatenate(pools: Iterable[ClassPool]) -> ClassPool:
    """One pool out of several, in the network space of the first; classes of the same id are joined.

    Raises:
        ValueError: when image shapes differ.
    """
    pools = list(pools)
    first = pools[0]
    if any(pool.shape != first.shape for pool in pools):
        raise ValueError(f"pools hold images of different shapes: {[pool.shape for pool in pools]}")
    batches = [pool.all() for pool in pools]
    names = {int(c): name for pool in reversed(pools) for c, name in zip(pool.class_ids, pool.class_names, strict=True)}
    images = torch.cat([batch.x.to(first.device) for batch in batches])
    labels = torch.cat([pool.relabel(batch.y) for pool, batch in zip(pools, batches, strict=True)])
    how: dict[str, Any] = {"mean": first.mean, "std": first.std, "augmentation": first.augmentation}
    return ClassPool(images, labels, class_names=names, device=first.device, **how)


def _check_images(images: Tensor, labels: Tensor) -> None:
    if len(images) == 0:
        raise ValueError("a pool needs at least one image, got none")
    if len(images) != len(labels):
        raise ValueError(f"images and labels differ in number: {len(images)} and {len(labels)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"images must be uint8 or float, got {images.dtype}")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if images.is_floating_point() and not bool(torch.isfinite(images).all()):
        bad = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"image {bad} holds NaN or infinity; clean the data before condensing it")


def _moments(images: Tensor) -> tuple[list[float], list[float]]:
    total, squares, n = 0.0, 0.0, images.numel() / images.shape[1]
    for part in images.split(4096):
        values = part.double().div(255)
        total = total + values.sum((0, 2, 3))
        squares = squares + values.square().sum((0, 2, 3))
    mean = torch.as_tensor(total) / n
    std = (torch.as_tensor(squares) / n - mean.square()).clamp_min(0).sqrt()
    return mean.tolist(), torch.where(std > 1e-6, std, torch.ones_like(std)).tolist()


def _value_range(images: Tensor) -> tuple[list[float], list[float]]:
    """The normalisation under which the float images at hand are pixels in [0, 1]."""
    low, high = images.amin((0, 2, 3)), images.amax((0, 2, 3))
    std = torch.where(high > low, high - low, torch.ones_like(low))
    # network = (pixel - mean) / std'   with   pixel = (network - low) / (high - low)
    return (-low / std).tolist(), (1 / std).tolist()


def _per_channel(name: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    out = tuple(float(v) for v in values)
    if len(out) == 1:
        out *= channels
    if len(out) != channels:
        raise ValueError(f"{name} has {len(out)} numbers but images have {channels} channels")
    return out


def _names(names: Mapping[int, str] | Sequence[str] | None, ids: list[int]) -> tuple[str, ...]:
    if names is None:
        return tuple(str(i) for i in ids)
    if isinstance(names, Mapping):
        return tuple(str(names.get(i, i)) for i in ids)
    if ids[0] < 0 or ids[-1] >= len(names):
        raise ValueError(
            f"class_names has {len(names)} names but labels run from {ids[0]} to {ids[-1]}; give a mapping"
        )
    return tuple(str(names[i]) for i in ids)

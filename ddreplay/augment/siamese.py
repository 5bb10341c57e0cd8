"""What both sides undergo: differentiable augmentation whose parameters are drawn first and applied to any batch.

An augmentation *draws* a transform; a transform is deterministic, so the same one shown to real and synthetic images is
siamese augmentation.

Reference: Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.space import Shape
from ddreplay.randomness import Random

__all__ = [
    "Augment",
    "Composed",
    "DIGITS",
    "Drawn",
    "Identity",
    "NATURAL",
    "Siamese",
    "Step",
    "Transform",
]

NATURAL = "color_crop_cutout_flip_scale_rotate"


DIGITS = "color_crop_cutout_scale_rotate"


_BRIGHTNESS = 1.0


_SATURATION = 2.0


_CONTRAST = 0.5


_CROP_RATIO = 0.125


_CUTOUT_RATIO = 0.5


_SCALE_RATIO = 1.2


_ANGLE_DEGREES = 15.0


Value = float | int | bool | Tensor


@runtime_checkable
class Transform(Protocol):
    """Images to images of the same shape; differentiable and deterministic."""

    def __call__(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]: ...


@runtime_checkable
class Augment(Protocol):
    """Draws transforms for images of one shape (channels, height, width).

    ``n=None``: one set of parameters, shared by every image of every batch the transform is shown (siamese).
    ``n`` given: the same operations for the whole batch, magnitudes for each of its ``n`` images.
    """

    def draw(self, shape: Shape, random: Random, *, n: int | None = None) -> Transform: ...


@dataclass(frozen=True)
class Step:
    """One operation and its parameters: a number shared by all images, or a tensor [n] with one for each image.

    Names and parameters: ``color`` brightness, saturation, contrast; ``crop`` down, right (pixels); ``cutout`` row,
    column (of the centre); ``flip`` mirrored; ``scale`` vertical, horizontal (sampling factors, above 1 shrinks);
    ``rotate`` angle_degrees.
    """

    name: str
    parameters: Mapping[str, Value]

    def __call__(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        for value in self.parameters.values():
            if isinstance(value, Tensor) and len(value) != len(x):
                raise ValueError(
                    f"this transform was drawn for n={len(value)} images, got {len(x)}; "
                    "draw with n=None to share parameters between batches"
                )
        return _APPLY[self.name](x, **self.parameters)


@dataclass(frozen=True)
class Drawn:
    """A drawn transform: its steps, applied in order. No step: the identity."""

    steps: tuple[Step, ...] = ()

    def __call__(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        for step in self.steps:
            x = step(x)
        return x


@dataclass(frozen=True)
class Identity:
    """Leaves images as they are."""

    def draw(self, shape: Shape, random: Random, *, n: int | None = None) -> Drawn:
        return Drawn()


@dataclass(frozen=True)
class Siamese:
    """Differentiable siamese augmentation (DSA): one operation, drawn uniformly from ``strategy``, for every draw.

    Magnitudes are relative to the image size, so any height, width and number of channels will do:

        color    x + U(-0.5, 0.5); then the distance to the mean over channels times U(0, 2) (saturation);
                 then the distance to the mean of the image times U(0.5, 1.5) (contrast)
        crop     shift by whole pixels, up to an eighth of either side, zeros move in
        cutout   zeros in a window half as high and half as wide as the image, centred anywhere on it
        flip     left-right, with probability 1/2
        scale    bilinear resampling by U(1/1.2, 1.2) for either side, zeros outside
        rotate   bilinear, U(-15, 15) degrees, zeros outside

    Args:
        strategy: operations joined by underscores. ``DIGITS`` leaves out flip: a mirrored digit is another thing.
        per_step: operations applied one after the other, each drawn uniformly. Paper and released code: 1.
    Raises:
        ValueError: for an unknown operation, or ``per_step`` below 1.
    Departures: resampling treats pixels as areas (``align_corners=False``, which the released code leaves to the
        version of the library); a non-square image turns by the true angle; randomness comes from ``random``, never
        from the clock.
    Reference: Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021.
    Example:
        >>> transform = Siamese("rotate").draw((3, 8, 8), Random(0))
        >>> transform(torch.zeros(5, 3, 8, 8)).shape
        torch.Size([5, 3, 8, 8])
        >>> transform.steps[0].name
        'rotate'
    """

    strategy: str = NATURAL
    _: KW_ONLY
    per_step: int = 1

    def __post_init__(self) -> None:
        _check_names("strategy", self.strategy.split("_"))
        if self.per_step < 1:
            raise ValueError(f"per_step must be at least 1, got {self.per_step}")

    def draw(self, shape: Shape, random: Random, *, n: int | None = None) -> Drawn:
        return _draw((tuple(self.strategy.split("_")),) * self.per_step, shape, random, n)


@dataclass(frozen=True)
class Composed:
    """IDC's form of the augmentation: flip, color and cutout always when listed, and one drawn among the others listed.

    They apply in the order flip, color, the drawn one, cutout; magnitudes are those of ``Siamese``. With
    ``Composed("color_crop_cutout")``, the paper's choice while condensing, all three apply every time.

    Args:
        strategy: operations joined by underscores, each once.

    Raises:
        ValueError: for an unknown operation, one listed twice, or none.
    Reference: Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022 (its code).
    """

    strategy: str

    def __post_init__(self) -> None:
        names = self.strategy.split("_")
        _check_names("strategy", names)
        if len(set(names)) < len(names):
            raise ValueError(f"strategy must name every operation once, got {self.strategy!r}")

    def draw(self, shape: Shape, random: Random, *, n: int | None = None) -> Drawn:
        names = self.strategy.split("_")
        rest = tuple(name for name in names if name not in ("flip", "color", "cutout"))
        order = (("flip",), ("color",), rest, ("cutout",))
        stages = tuple(stage for stage in order if stage and set(stage) <= set(names))
        return _draw(stages, shape, random, n)


def _check_names(argument: str, names: tuple[str, ...] | list[str]) -> None:
    for name in names:
        if name not in _APPLY:
            raise ValueError(f"{argument} names the unknown operation {name!r}; known: {', '.join(_APPLY)}")


# ---- drawing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """Numbers for all images (n=None) or a tensor [n] of them, on the random source's device."""

    random: Random
    n: int | None

    def uniform(self, low: float, high: float) -> Value:
        if self.n is None:
            return self.random.uniform(low, high)
        generator = self.random.device
        return torch.rand(self.n, generator=generator, device=generator.device) * (high - low) + low

    def integer(self, low: int, high: int) -> Value:
        """Uniform from low to high, both included."""
        if self.n is None:
            return low + self.random.integer(high - low + 1)
        generator = self.random.device
        return torch.randint(low, high + 1, (self.n,), generator=generator, device=generator.device)


def _draw(stages: tuple[tuple[str, ...], ...], shape: Shape, random: Random, n: int | None) -> Drawn:
    """One operation from each stage."""
    source = _Source(random, n)
    names = [stage[random.integer(len(stage))] if len(stage) > 1 else stage[0] for stage in stages]
    return Drawn(tuple(Step(name, _PARAMETERS[name](shape, source)) for name in names))


def _draw_color(shape: Shape, source: _Source) -> dict[str, Value]:
    return {
        "brightness": source.uniform(-_BRIGHTNESS / 2, _BRIGHTNESS / 2),
        "saturation": source.uniform(0.0, _SATURATION),
        "contrast": source.uniform(1 - _CONTRAST, 1 + _CONTRAST),
    }


def _draw_crop(shape: Shape, source: _Source) -> dict[str, Value]:
    down, right = (int(_CROP_RATIO * size + 0.5) for size in shape[1:])
    return {"down": source.integer(-down, down), "right": source.integer(-right, right)}


def _window(size: int) -> int:
    """Pixels along one side of the cutout window."""
    return int(_CUTOUT_RATIO * size + 0.5)


def _draw_cutout(shape: Shape, source: _Source) -> dict[str, Value]:
    # the centre of an even window lies between pixels: one more place along each side, as in the released code
    last_row, last_column = (size - _window(size) % 2 for size in shape[1:])
    return {"row": source.integer(0, last_row), "column": source.integer(0, last_column)}


def _draw_flip(shape: Shape, source: _Source) -> dict[str, Value]:
    return {"mirrored": source.integer(0, 1) == 1}


def _draw_scale(shape: Shape, source: _Source) -> dict[str, Value]:
    low, high = 1 / _SCALE_RATIO, _SCALE_RATIO
    return {"vertical": source.uniform(low, high), "horizontal": source.uniform(low, high)}


def _draw_rotate(shape: Shape, source: _Source) -> dict[str, Value]:
    return {"angle_degrees": source.uniform(-_ANGLE_DEGREES, _ANGLE_DEGREES)}


# ---- applying --------------------------------------------------------------------------------------------------------


def _spread(value: Value, x: Tensor, *sizes: int) -> Value:
    """A tensor [n] as [n, *sizes] in the images' type; a number stays a number."""
    return value.to(x).view(-1, *sizes) if isinstance(value, Tensor) else value


def _color(x: Tensor, brightness: Value, saturation: Value, contrast: Value) -> Tensor:
    # brightness b, saturation s and contrast c in one pass, with m the mean over channels and g the mean over all:
    #   c ((s x + (1 - s) m + b) - (g + b)) + (g + b)  =  c s x + c (1 - s) m + (1 - c) g + b
    b, s, c = (_spread(value, x, 1, 1, 1) for value in (brightness, saturation, contrast))
    channels = x.mean(1, keepdim=True)
    offset = c * (1 - s) * channels + ((1 - c) * channels.mean((2, 3), keepdim=True) + b)
    if isinstance(c, Tensor) or isinstance(s, Tensor):
        return offset + c * s * x
    return torch.add(offset, x, alpha=c * s)


def _crop(x: Tensor, down: Value, right: Value) -> Tensor:
    # out[i, j] = x[i + down, j + right], zero outside
    if not isinstance(down, Tensor) or not isinstance(right, Tensor):
        down, right = int(down), int(right)
        return F.pad(x, (-right, right, -down, down))
    n, channels, height, width = x.shape
    rows = torch.arange(height, device=x.device) + down[:, None]
    columns = torch.arange(width, device=x.device) + right[:, None]
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[:, None, None, :]
    image = torch.arange(n, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[None, :, None, None]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    return x[image, channel, rows[:, None, :, None], columns[:, None, None, :]] * inside


def _cutout(x: Tensor, row: Value, column: Value) -> Tensor:
    height, width = x.shape[2:]

    def covered(centre: Value, size: int) -> Tensor:
        window = _window(size)
        start = (centre[:, None] if isinstance(centre, Tensor) else centre) - window // 2
        places = torch.arange(size, device=x.device)
        return (places >= start) & (places < start + window)

    hole = covered(row, height)[..., :, None] & covered(column, width)[..., None, :]
    return x * ~(hole if hole.dim() == 2 else hole[:, None])


def _flip(x: Tensor, mirrored: Value) -> Tensor:
    if isinstance(mirrored, Tensor):
        return torch.where(mirrored[:, None, None, None], x.flip(3), x)
    return x.flip(3) if mirrored else x


def _scale(x: Tensor, vertical: Value, horizontal: Value) -> Tensor:
    return _resample(x, ((vertical, 0.0), (0.0, horizontal)))


def _rotate(x: Tensor, angle_degrees: Value) -> Tensor:
    height, width = x.shape[2:]
    if isinstance(angle_degrees, Tensor):
        cos, sin = torch.deg2rad(angle_degrees).cos(), torch.deg2rad(angle_degrees).sin()
        return _resample(x, ((cos, sin * (width / height)), (-sin * (height / width), cos)))
    cos_, sin_ = math.cos(math.radians(angle_degrees)), math.sin(math.radians(angle_degrees))
    return _resample(x, ((cos_, sin_ * (width / height)), (-sin_ * (height / width), cos_)))


def _resample(x: Tensor, matrix: tuple[tuple[Value, Value], tuple[Value, Value]]) -> Tensor:
    """Bilinear, zeros outside: out at (v, u) is x at (m00 v + m01 u, m10 v + m11 u); v, u go from -1 to 1 across x."""
    n, channels, height, width = x.shape
    v = ((torch.arange(height, device=x.device, dtype=x.dtype) * 2 + 1) / height - 1)[:, None]
    u = ((torch.arange(width, device=x.device, dtype=x.dtype) * 2 + 1) / width - 1)[None, :]
    (a, b), (c, d) = ((_spread(value, x, 1, 1) for value in row) for row in matrix)
    grid = torch.stack([c * v + d * u, a * v + b * u], dim=-1)
    if grid.dim() == 4:
        return F.grid_sample(x, grid, align_corners=False)
    if x.device.type == "cpu":
        # one grid for all: folded into channels, sampling weights are computed once for the batch
        folded = x.reshape(1, n * channels, height, width)
        return F.grid_sample(folded, grid[None], align_corners=False).view(n, channels, height, width)
    return F.grid_sample(x, grid.expand(n, -1, -1, -1), align_corners=False)


_PARAMETERS: dict[str, Callable[[Shape, _Source], dict[str, Value]]] = {
    "color": _draw_color,
    "crop": _draw_crop,
    "cutout": _draw_cutout,
    "flip": _draw_flip,
    "scale": _draw_scale,
    "rotate": _draw_rotate,
}


_APPLY: dict[str, Callable[..., Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}

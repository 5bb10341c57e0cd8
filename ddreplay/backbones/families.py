"""Networks of the condensation literature, as factories: (image shape, number of classes) to a fresh network.

Sizes follow the released code of DC, DSA and DM; weights start as PyTorch starts them, from the global generator.
Images of one channel and 28x28 pixels are padded to 32x32 by the first convolution. Any other size that leaves maps of
a pixel or more will do, square or not.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.backbones.layers import AvgPool2x2, Network, Size, check_names, conv_block, make_norm, pads_to_32
from ddreplay.data.space import Shape

__all__ = ["MLP", "VGG11", "AlexNet", "ConvNet", "LeNet", "ResNet18"]


@dataclass(frozen=True)
class ConvNet:
    """``depth`` blocks of 3x3 convolution, norm, activation, 2x2 pooling; then one linear layer.

    Modules: ``blocks.<i>.conv``, ``.norm``, ``.act``, ``.pool`` (those that there are) and ``classifier``.

    Args:
        width: channels of every block.
        depth: blocks; None goes by the image: round(log2(s / 4)), at least 2, with s the smaller side. That is 2 for 4
            to 22 pixels, 3 up to 45, 4 up to 90, 5 up to 181, then 6: maps end at about 4x4, and at 2x2 for 8 pixels.
        norm: none, batch, layer, instance or group (4 groups).
        activation: sigmoid, relu, leakyrelu or swish.
        pooling: none, max or avg.
    Raises:
        ValueError: for an unknown name, and when a network is made, for an image too small for the depth.
    Reference: Gidaris and Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting", CVPR 2018; Zhao et al.,
        "Dataset Condensation with Gradient Matching", ICLR 2021.
    Example:
        >>> ConvNet(width=8)((3, 32, 32), 10).classifier
        Linear(in_features=128, out_features=10, bias=True)
    """

    width: int = 128
    depth: int | None = None
    norm: str = "instance"
    activation: str = "relu"
    pooling: str = "avg"

    def __post_init__(self) -> None:
        check_names(self.norm, self.activation, self.pooling)
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")
        if self.depth is not None and self.depth < 1:
            raise ValueError(f"depth must be at least 1, or None to go by the image, got {self.depth}")

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        channels, size = shape[0], (shape[1], shape[2])
        first = 3 if pads_to_32(shape) else 1
        depth = self.depth or max(2, round(math.log2((min(size) + 2 * first - 2) / 4)))
        if self.pooling != "none" and (min(size) + 2 * first - 2) >> depth < 1:
            raise ValueError(
                f"depth={depth} halves {size[0]}x{size[1]} images to nothing; lower depth or use pooling='none'"
            )
        blocks = []
        for index in range(depth):
            block, size = conv_block(
                (channels, self.width),
                size,
                padding=first if index == 0 else 1,
                norm=self.norm,
                activation=self.activation,
                pooling=self.pooling,
            )
            blocks.append(block)
            channels = self.width
        return Network(nn.Sequential(*blocks), self.width * size[0] * size[1], classes)


@dataclass(frozen=True)
class LeNet:
    """Two 5x5 convolutions (6 and 16 channels) with max pooling, linear layers of 120 and 84, and the classifier.

    No norm. Images of 16 pixels or more.
    """

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        size = (shape[1], shape[2])
        first, size = conv_block((shape[0], 6), size, kernel=5, padding=2 if pads_to_32(shape) else 0, pooling="max")
        second, size = conv_block((6, 16), size, kernel=5, padding=0, pooling="max")
        third = nn.Sequential(OrderedDict(flat=nn.Flatten(), fc=nn.Linear(16 * size[0] * size[1], 120), act=nn.ReLU()))
        fourth = nn.Sequential(OrderedDict(fc=nn.Linear(120, 84), act=nn.ReLU()))
        return Network(nn.Sequential(first, second, third, fourth), 84, classes)


@dataclass(frozen=True)
class AlexNet:
    """Small AlexNet: convolutions of 128, 192 (5x5), 256, 192, 192 (3x3) channels, three max poolings, a linear layer.

    Args:
        norm: after every convolution; the released ``AlexNetBN`` is ``"batch"``.
    """

    norm: str = "none"

    def __post_init__(self) -> None:
        check_names(self.norm)

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        size = (shape[1], shape[2])
        plan = ((128, 5, "max"), (192, 5, "max"), (256, 3, "none"), (192, 3, "none"), (192, 3, "max"))
        channels, blocks = shape[0], []
        for index, (width, kernel, pooling) in enumerate(plan):
            padding = kernel // 2 + (2 if index == 0 and pads_to_32(shape) else 0)
            block, size = conv_block(
                (channels, width), size, kernel=kernel, padding=padding, norm=self.norm, pooling=pooling
            )
            blocks.append(block)
            channels = width
        return Network(nn.Sequential(*blocks), channels * size[0] * size[1], classes)


@dataclass(frozen=True)
class VGG11:
    """Eight 3x3 convolutions of 64 to 512 channels, each with norm and ReLU, five max poolings, one linear layer.

    On images under 32 pixels the first poolings are left out, so that no map shrinks to a pixel before the last one.

    Args:
        norm: after every convolution: none, batch, layer, instance or group.
    """

    norm: str = "instance"

    def __post_init__(self) -> None:
        check_names(self.norm)

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        size = (shape[1], shape[2])
        padded = pads_to_32(shape)
        plan = (
            (64, True),
            (128, True),
            (256, False),
            (256, True),
            (512, False),
            (512, True),
            (512, False),
            (512, True),
        )
        left_out = max(0, 5 - int(math.log2(32 if padded else min(size))))
        channels, blocks = shape[0], []
        for index, (width, ends_stage) in enumerate(plan):
            pools = ends_stage and left_out == 0
            left_out -= ends_stage and left_out > 0
            block, size = conv_block(
                (channels, width),
                size,
                padding=3 if padded and index == 0 else 1,
                norm=self.norm,
                pooling="max" if pools else "none",
            )
            blocks.append(block)
            channels = width
        return Network(nn.Sequential(*blocks), channels * size[0] * size[1], classes)


@dataclass(frozen=True)
class ResNet18:
    """ResNet18 with a 3x3 stem and no first pooling.

    Args:
        norm: the released code's default is instance; its ``BN`` variants are ``"batch"``.
        pooling: how stages shrink. ``"stride"``: strided convolutions, and the classifier sees the mean map.
            ``"avg"``, the released ``_AP`` variants: stride 1 and average pooling, and it sees the whole last map.
    Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
    """

    norm: str = "instance"
    pooling: str = "stride"

    def __post_init__(self) -> None:
        check_names(self.norm)
        if self.pooling not in ("stride", "avg"):
            raise ValueError(f"pooling must be stride or avg, got {self.pooling!r}")

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        size = (shape[1], shape[2])
        stem, size = conv_block((shape[0], 64), size, bias=False, norm=self.norm)
        blocks: list[nn.Module] = [stem]
        channels = 64
        for width in (64, 128, 256, 512):
            for index in range(2):
                shrinks = width > 64 and index == 0
                if shrinks:
                    size = _halved(size, up=self.pooling == "stride")
                blocks.append(ResidualBlock((channels, width), size, shrinks, self.norm, self.pooling))
                channels = width
        if self.pooling == "stride":
            blocks.append(GlobalAvgPool())
            size = (1, 1)
        return Network(nn.Sequential(*blocks), channels * size[0] * size[1], classes)


def _halved(size: Size, *, up: bool) -> Size:
    return ((size[0] + up) // 2, (size[1] + up) // 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut. ``size``: of the maps that come out."""

    def __init__(self, channels: tuple[int, int], size: Size, shrinks: bool, norm: str, pooling: str) -> None:
        super().__init__()
        if min(size) < 1:
            raise ValueError("the image is too small for this network: maps have shrunk to nothing; use larger images")
        stride = 2 if shrinks and pooling == "stride" else 1
        pools = shrinks and pooling == "avg"
        before = (size[0] * 2, size[1] * 2) if pools else size
        self.conv1 = nn.Conv2d(*channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = make_norm(norm, channels[1], before) or nn.Identity()
        self.act1 = nn.ReLU()
        self.pool = AvgPool2x2() if pools else nn.Identity()
        self.conv2 = nn.Conv2d(channels[1], channels[1], 3, padding=1, bias=False)
        self.norm2 = make_norm(norm, channels[1], size) or nn.Identity()
        self.act2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if channels[0] != channels[1]:
            self.shortcut = nn.Sequential(
                nn.Conv2d(*channels, 1, stride=stride, bias=False),
                AvgPool2x2() if pools else nn.Identity(),
                make_norm(norm, channels[1], size) or nn.Identity(),
            )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c2 h2 w2"]:
        y = self.pool(self.act1(self.norm1(self.conv1(x))))
        out: Tensor = self.act2(self.norm2(self.conv2(y)) + self.shortcut(x))
        return out


class GlobalAvgPool(nn.Module):
    """Mean over the map."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
        return x.mean((2, 3))


@dataclass(frozen=True)
class MLP:
    """Two hidden layers of ``width`` with ReLU.

    Args:
        width: of a hidden layer.
    """

    width: int = 128

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        first = nn.Sequential(OrderedDict(flat=nn.Flatten(), fc=nn.Linear(math.prod(shape), self.width), act=nn.ReLU()))
        second = nn.Sequential(OrderedDict(fc=nn.Linear(self.width, self.width), act=nn.ReLU()))
        return Network(nn.Sequential(first, second), self.width, classes)

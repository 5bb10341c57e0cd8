"""What a network is: the literature's backbones, any other network, and a probe that looks into all of them alike."""

from __future__ import annotations

from ddreplay.backbones.factory import Net, NetFactory, as_factory
from ddreplay.backbones.families import MLP, VGG11, AlexNet, ConvNet, LeNet, ResNet18
from ddreplay.backbones.layers import AvgPool2x2, Network
from ddreplay.backbones.precision import bfloat16
from ddreplay.backbones.probe import (
    Activations,
    Probe,
    find_classifier,
    has_batchnorm,
    mixes_images,
    settle_batchnorm,
)

__all__ = [
    "Activations",
    "AvgPool2x2",
    "Net",
    "NetFactory",
    "Network",
    "Probe",
    "alexnet",
    "as_factory",
    "bfloat16",
    "convnet",
    "find_classifier",
    "has_batchnorm",
    "mixes_images",
    "lenet",
    "mlp",
    "resnet18",
    "settle_batchnorm",
    "vgg11",
]


def convnet(
    width: int = 128,
    depth: int | None = None,
    norm: str = "instance",
    activation: str = "relu",
    pooling: str = "avg",
) -> ConvNet:
    """The ConvNet of the condensation literature; ``ConvNet`` explains the arguments."""
    return ConvNet(width, depth, norm, activation, pooling)


def lenet() -> LeNet:
    """LeNet for images of 16 pixels or more."""
    return LeNet()


def alexnet(norm: str = "none") -> AlexNet:
    """The small AlexNet of the condensation literature."""
    return AlexNet(norm)


def vgg11(norm: str = "instance") -> VGG11:
    """VGG11; ``norm="batch"`` is VGG11BN."""
    return VGG11(norm)


def resnet18(norm: str = "instance", pooling: str = "stride") -> ResNet18:
    """ResNet18 with a 3x3 stem; ``pooling="avg"`` is the released ``_AP`` variant."""
    return ResNet18(norm, pooling)


def mlp(width: int = 128) -> MLP:
    """Two hidden layers."""
    return MLP(width)

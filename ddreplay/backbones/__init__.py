"""What a network is: the literature's backbones, any other network, and a probe that looks into all of them alike."""

from __future__ import annotations

from ddreplay.backbones.factory import Net, NetFactory, as_factory
from ddreplay.backbones.families import MLP, VGG11, AlexNet, ConvNet, LeNet, ResNet18
from ddreplay.backbones.layers import AvgPool2x2, Network
from ddreplay.backbones.precision import Bfloat16
from ddreplay.backbones.probe import (
    Activations,
    Probe,
    draws_itself,
    find_classifier,
    has_batchnorm,
    mixes_images,
    settle_batchnorm,
)

__all__ = [
    "Activations",
    "AlexNet",
    "AvgPool2x2",
    "Bfloat16",
    "ConvNet",
    "LeNet",
    "MLP",
    "Net",
    "NetFactory",
    "Network",
    "Probe",
    "ResNet18",
    "VGG11",
    "as_factory",
    "draws_itself",
    "find_classifier",
    "has_batchnorm",
    "mixes_images",
    "settle_batchnorm",
]

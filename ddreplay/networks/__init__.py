"""Which networks look at the images: from a fresh one at every step to a bank with its real side paid once."""

from ddreplay.networks.bank import Bank, Banked
from ddreplay.networks.experts import ExpertSegments
from ddreplay.networks.fresh import Fresh
from ddreplay.networks.queue import ModelQueue, Pretrained
from ddreplay.networks.snapshots import Snapshots
from ddreplay.networks.source import Context, Networks, NetworkSource, with_net
from ddreplay.networks.trained_on_real import TrainedOnReal
from ddreplay.networks.trained_on_synthetic import Loops, Rounds, TrainedOnSynthetic
from ddreplay.networks.trained_pool import TrainedPool
from ddreplay.networks.until_settled import UntilSettled

__all__ = [
    "Bank",
    "Banked",
    "ExpertSegments",
    "Fresh",
    "Loops",
    "ModelQueue",
    "NetworkSource",
    "Networks",
    "Pretrained",
    "Rounds",
    "Context",
    "Snapshots",
    "TrainedOnReal",
    "TrainedOnSynthetic",
    "TrainedPool",
    "UntilSettled",
    "with_net",
]

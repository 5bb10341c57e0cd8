"""Which networks look at the images: from a fresh one at every step to a bank with its real side paid once."""

from ddreplay.networks.bank import Bank, banked
from ddreplay.networks.experts import expert_segments
from ddreplay.networks.fresh import fresh
from ddreplay.networks.queue import Pretrained, model_queue
from ddreplay.networks.source import Networks, NetworkSource, Setting
from ddreplay.networks.trained_on_real import trained_on_real
from ddreplay.networks.trained_on_synthetic import Loops, Rounds, trained_on_synthetic

__all__ = [
    "Bank",
    "Loops",
    "NetworkSource",
    "Networks",
    "Pretrained",
    "Rounds",
    "Setting",
    "banked",
    "expert_segments",
    "fresh",
    "model_queue",
    "trained_on_real",
    "trained_on_synthetic",
]

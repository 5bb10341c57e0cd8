"""Condensed replay inside Avalanche: storage policies, plugins and a helper for strategies that hold a policy of their own.

    memory = CondensedBuffer(images_per_class=10, total_num_classes=100, mean=MEAN, std=STD)
    strategy = Naive(..., plugins=[CondensedReplayPlugin(memory)])

The only part of the package that imports Avalanche.
"""

from ddreplay.avalanche.balanced_finish import FinishPlugin
from ddreplay.avalanche.class_group import ClassGroup
from ddreplay.avalanche.codec_consistency import CodecPlugin
from ddreplay.avalanche.dark_experience import DarkExperiencePlugin
from ddreplay.avalanche.nearest_mean import NearestMean, NearestMeanPlugin
from ddreplay.avalanche.online_buffer import OnlineCondensedBuffer
from ddreplay.avalanche.plugins import AugmentPlugin, CondensedReplayPlugin, MemoryOnlyPlugin
from ddreplay.avalanche.reference_gradient import ReferenceGradientPlugin
from ddreplay.avalanche.storage_policies import CondensedBuffer, RingBuffer
from ddreplay.avalanche.stream_networks import SnapshotPlugin
from ddreplay.avalanche.stream_state import Stateful, load_stream, save_stream
from ddreplay.avalanche.use_in import use_in

__all__ = [
    "AugmentPlugin",
    "ClassGroup",
    "CodecPlugin",
    "CondensedBuffer",
    "CondensedReplayPlugin",
    "DarkExperiencePlugin",
    "FinishPlugin",
    "MemoryOnlyPlugin",
    "NearestMean",
    "NearestMeanPlugin",
    "OnlineCondensedBuffer",
    "ReferenceGradientPlugin",
    "RingBuffer",
    "SnapshotPlugin",
    "Stateful",
    "load_stream",
    "save_stream",
    "use_in",
]

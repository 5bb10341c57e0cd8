"""Another storage policy for strategies that come with their own."""

from __future__ import annotations

import logging
from typing import Any

from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import MIRPlugin
from avalanche.training.supervised import DER, ER_ACE, ER_AML

from ddreplay.avalanche.plugins import CondensedReplayPlugin
from ddreplay.avalanche.storage_policies import CondensedBuffer

__all__ = ["use_in"]

log = logging.getLogger(__name__)


def use_in(strategy: Any, policy: Any) -> Any:
    """Put a storage policy into a ready strategy, and return the strategy: ``use_in(ER_ACE(...), memory)``.

    Sets ``storage_policy`` and ``mem_size`` of the strategy or of the plugin that holds them. A ``batch_size_mem`` larger than the
    memory, with which these replay nothing, is cut to the memory after every experience. On streams without task labels, ER_ACE and
    MIR need ``task_labels="always"``. Of Avalanche's strategies and plugins it serves:

        ================  ===  ================================================================================
        Replay            yes
        ER_ACE            yes  it updates its memory before it trains: new classes are condensed first
        ER_AML            yes  with at least ``train_mb_size`` images per class
        MIR               yes
        MER               yes
        GDumb             yes
        RARPlugin         yes
        CoPEPlugin        yes
        SCR               yes
        FeatureReplay     yes  it stores feature vectors, which selections (`RingBuffer`) take and networks do not
        DER               no   it replays outputs with the images: `DarkExperiencePlugin`
        AGEM              no   it holds no policy: `ReferenceGradientPlugin`
        ICaRL             no   it holds no policy: `NearestMeanPlugin` behind `CondensedReplayPlugin`
        LwF               no   it has no memory: `CondensedReplayPlugin` before its plugin, as for EWC, SI, MAS, ...
        ================  ===  ================================================================================

    New images pass the memory's codec, and experiences are finished, where `CodecPlugin` and `FinishPlugin` are in the strategy's
    plugins; `CondensedReplayPlugin` has both in it.

    Raises:
        TypeError: when the strategy holds no storage policy, or needs more than images and labels in it (DER: logits).
        ValueError: with ER_AML, when a class is less than a training batch: it would wait for one for ever.
    """
    parts = [
        strategy,
        *strategy.plugins,
        *[part for name, part in vars(strategy).items() if name == "buffer"],
    ]  # MER: .buffer
    holders = [part for part in parts if "storage_policy" in vars(part)]
    if not holders:
        raise TypeError(
            f"{type(strategy).__name__} holds no storage policy; add CondensedReplayPlugin(policy) to its plugins"
        )
    if isinstance(strategy, DER):
        raise TypeError("DER replays logits, which a memory of images and labels does not have")
    if isinstance(strategy, ER_AML):
        _check_aml(strategy, policy)
    if isinstance(strategy, (ER_ACE, ER_AML)):
        log.warning("%s updates its memory before it trains: new classes are condensed first", type(strategy).__name__)
    for holder in holders:
        holder.storage_policy = policy
        if "mem_size" in vars(holder):
            holder.mem_size = policy.max_size
        if "batch_size_mem" in vars(holder) and not isinstance(holder, CondensedReplayPlugin):
            strategy.plugins.append(FittingBatch(holder))
    return strategy


def _check_aml(strategy: Any, policy: Any) -> None:
    fixed = isinstance(policy, CondensedBuffer) and not policy.budget.in_bytes and not policy.adaptive_size
    held = int(policy.budget.share(0)) if fixed else None
    if held is not None and held < strategy.train_mb_size:
        raise ValueError(
            f"ER_AML draws whole batches of each class: train_mb_size {strategy.train_mb_size} must not exceed the "
            f"{held} images per class; lower train_mb_size or raise images_per_class"
        )


class FittingBatch(SupervisedPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
    """Keeps ``batch_size_mem`` of a strategy or plugin within its memory."""

    def __init__(self, holder: Any) -> None:
        super().__init__()
        self.holder, self.wanted = holder, holder.batch_size_mem

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        policy = self.holder.storage_policy
        held = len(policy.buffer)
        if isinstance(policy, CondensedBuffer) and policy.adaptive_size:
            held //= 2  # shares are rounded down: with more classes the memory may hold less, but never less than half
        if isinstance(self.holder, MIRPlugin):
            held -= 1  # replays only from a memory that is larger
        self.holder.batch_size_mem = max(1, min(self.wanted or strategy.train_mb_size, held))

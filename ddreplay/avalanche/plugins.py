"""Avalanche plugins: replay from a small memory, training on the memory alone, and augmentation of what is trained on."""

from __future__ import annotations

import copy
import logging
import time
from typing import Any, Literal

from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metric_results import MetricValue
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.storage_policy import ExemplarsBuffer
from avalanche.training.supervised import ER_ACE, ER_AML
from torch import Tensor, nn

from ddreplay.augment.siamese import Augment
from ddreplay.avalanche.balanced_finish import finish
from ddreplay.avalanche.codec_consistency import CodecPlugin
from ddreplay.avalanche.storage_policies import CondensedBuffer
from ddreplay.randomness import Random

__all__ = ["AugmentPlugin", "CondensedReplayPlugin", "MemoryOnlyPlugin"]

log = logging.getLogger(__name__)


class CondensedReplayPlugin(ReplayPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
    """Experience replay from any storage policy: every batch of new data is followed by a batch of memory.

    Avalanche's ``ReplayPlugin`` with the batch of memory cut to what the memory holds. Where the memory is smaller than a batch,
    the stock plugin replays nothing under ``drop_last=True``. Where the memory's codec is lossy, new images are shown as it gives
    them back (`CodecPlugin`). After every experience the seconds of the update, the images and, for a `CondensedBuffer`, the bytes are
    published as metrics.

    Args:
        storage_policy: a `CondensedBuffer`, a `RingBuffer` or any policy of Avalanche.
        batch_size: new samples a step; ``None``: the strategy's ``train_mb_size``.
        batch_size_mem: replayed samples a step; ``None``: the strategy's ``train_mb_size``; ``"balanced"``: as many of every class of
            the memory as there are of a class of the experience, ``batch_size`` x classes held / classes that are new. With the others
            the network sees a new class ever more often than an old one.
        task_balanced_dataloader: replayed samples come in equal parts from all tasks of the memory.
        crisp: share of the new images that do not pass the memory's codec; 1: all.
        finish_steps: steps on the memory alone at the end of an experience, all classes alike, in batches as large as the mixed ones
            (`FinishPlugin`).
        update: when the memory takes in an experience. ``"after"`` it was trained on, as in Avalanche; or ``"before"``, so that what is
            remembered of new classes is replayed beside the old ones at once, and being remembered tells nothing of a class. The memory's
            codec is then known in the first experience too; a memory that looks with the strategy's own network looks with one that has
            not seen the new classes, and ``seconds="training"`` are those of the experience before.
        seed: of the crisp images, and of training transforms that draw.
    Raises:
        ValueError: when an argument is out of its range.
    """

    batch_size_mem: int | Literal["balanced"] | None

    def __init__(
        self,
        storage_policy: Any,
        *,
        batch_size: int | None = None,
        batch_size_mem: int | Literal["balanced"] | None = None,
        task_balanced_dataloader: bool = False,
        crisp: float = 0.0,
        finish_steps: int = 0,
        update: Literal["after", "before"] = "after",
        seed: int = 0,
    ) -> None:
        if finish_steps < 0:
            raise ValueError(f"finish_steps must be at least 0, got {finish_steps}")
        if update not in ("after", "before"):
            raise ValueError(f"update must be 'after' or 'before', got {update!r}")
        if isinstance(batch_size_mem, str) and batch_size_mem != "balanced":
            raise ValueError(f"batch_size_mem must be a number, None or 'balanced', got {batch_size_mem!r}")
        super().__init__(
            mem_size=storage_policy.max_size,
            batch_size=batch_size,
            batch_size_mem=batch_size_mem,
            task_balanced_dataloader=task_balanced_dataloader,
            storage_policy=storage_policy,
        )
        self.finish_steps, self.update = finish_steps, update
        self.coding = CodecPlugin(storage_policy, crisp=crisp, seed=seed)
        self._began = time.perf_counter()

    def before_train_dataset_adaptation(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Update the memory with the experience to come, where it is to be remembered before."""
        if self.update == "before":
            update_and_publish(self, self.storage_policy, strategy)

    def after_train_dataset_adaptation(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Put new images through the memory's codec, where it is lossy."""
        self.coding.storage_policy = self.storage_policy
        self.coding.after_train_dataset_adaptation(strategy)

    def before_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Draw anew what coding draws in every epoch."""
        self.coding.before_training_epoch(strategy)

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Install the loader of mixed batches, where the memory holds anything."""
        self._began = time.perf_counter()
        wanted = self.batch_size_mem
        self.batch_size_mem = self.replayed(strategy)
        try:
            super().before_training_exp(strategy, *args, **kwargs)
        finally:
            self.batch_size_mem = wanted

    def replayed(self, strategy: Any) -> int:
        """Images of a batch of memory in the current experience: as asked for, at most what is held, and at least one."""
        wanted = self.batch_size_mem
        size = self._balanced(strategy) if wanted == "balanced" else wanted or strategy.train_mb_size
        return max(1, min(size, len(self.storage_policy.buffer)))

    def _balanced(self, strategy: Any) -> int:
        buffer, new = self.storage_policy.buffer, len(strategy.experience.dataset.targets.uniques)
        held = len(buffer.targets.uniques) if len(buffer) else 0
        size: int = self.batch_size or strategy.train_mb_size
        return round(size * held / new)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Update the memory with the experience that is over, where it was not before; then finish it."""
        self.coding.after_training_exp(strategy)
        tell_training_time(self.storage_policy, self._began)
        if self.update == "after":
            update_and_publish(self, self.storage_policy, strategy)
        finish(strategy, self.storage_policy.buffer, self.finish_steps, self._mixed(strategy))

    def _mixed(self, strategy: Any) -> int:
        """Images of a batch of new and replayed ones, if the memory held this experience already."""
        if self.batch_size_mem == "balanced":
            return self._balanced(strategy)
        new: int = self.batch_size or strategy.train_mb_size
        return new + (self.batch_size_mem or strategy.train_mb_size)


class MemoryOnlyPlugin(SupervisedPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
    """Train from scratch on the memory alone (GDumb), with any storage policy.

    In every experience the memory is updated first; then the network starts again from a copy of the weights it had before its
    first experience (layers that grew since are new), with the optimiser's state cleared, and trains for the strategy's epochs on
    the memory. Sub-experiences of an online stream are no exception: the optimiser always holds the network in training.

    An empty memory (everything still staged) trains nothing. ``drop_last`` is left aside when the memory is less than a batch.

    Args:
        storage_policy: a `CondensedBuffer`, a `RingBuffer` or any policy of Avalanche.
    Reference: Prabhu, Torr and Dokania, "GDumb: A Simple Approach that Questions Our Progress in Continual Learning", ECCV 2020.
    """

    def __init__(self, storage_policy: Any) -> None:
        super().__init__()
        self.storage_policy = storage_policy
        self.fresh: nn.Module | None = None
        self._began = time.perf_counter()

    def before_train_dataset_adaptation(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Put the fresh network in the place of the trained one."""
        if self.fresh is None:  # the first network is as it was given, and the one that the optimiser knows
            self.fresh = copy.deepcopy(strategy.model)
            strategy.model_adaptation(self.fresh)
            return
        strategy.model_adaptation(self.fresh)
        strategy.model = copy.deepcopy(self.fresh)

    def after_train_dataset_adaptation(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Update the memory and put it in the place of the experience's data."""
        update_and_publish(self, self.storage_policy, strategy)
        if len(self.storage_policy.buffer):
            strategy.adapted_dataset = self.storage_policy.buffer.train()

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Hand the fresh network to the optimiser, whatever Avalanche made of the experience's place in the stream."""
        self._began = time.perf_counter()
        strategy.model.train()
        strategy.make_optimizer(reset_optimizer_state=True)
        held = len(self.storage_policy.buffer)
        if held == 0:
            log.warning("the memory is empty: nothing is trained in this experience")
            strategy.stop_training()
        elif kwargs.get("drop_last", False) and held < strategy.train_mb_size:
            strategy.make_train_dataloader(**{**kwargs, "drop_last": False})

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Tell the memory how long training took, which its next update may take as well."""
        tell_training_time(self.storage_policy, self._began)


class AugmentPlugin(SupervisedPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
    """Augment every training batch, new and replayed images alike, on the strategy's device.

    Also where a strategy keeps its replayed images apart (ER_ACE, ER_AML); not the batches that MIR and A-GEM draw for themselves.
    Condensed images are made under an augmentation and teach most under the same one, as they are evaluated (`ddreplay.evaluation`).

    Args:
        augment: e.g. ``Siamese(strategy)``; the same operations for a batch, magnitudes for each of its images.
        seed: everything drawn follows from it.
    """

    def __init__(self, augment: Augment, *, seed: int = 0) -> None:
        super().__init__()
        self.augment, self.seed = augment, seed
        self.random: Random | None = None

    def before_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Put the augmented images in the place of the batch's."""
        strategy.mbatch[0] = self._augmented(strategy.mb_x)
        if isinstance(strategy, (ER_ACE, ER_AML)) and strategy.replay_loader is not None:
            strategy.mb_buffer_x = self._augmented(strategy.mb_buffer_x)

    def _augmented(self, x: Tensor) -> Tensor:
        self.random = self.random or Random(self.seed, x.device)
        augmented: Tensor = self.augment.draw((x.shape[1], x.shape[2], x.shape[3]), self.random, n=len(x))(x)
        return augmented


def tell_training_time(policy: Any, began: float) -> None:
    """Let a memory know how long the training that began then has taken (``seconds="training"``)."""
    if isinstance(policy, CondensedBuffer):
        policy.training_seconds = time.perf_counter() - began


def update_and_publish(plugin: Any, policy: Any, strategy: Any) -> None:
    """Update a storage policy; publish ``Memory_Update_Seconds``, ``Memory_Images`` and ``Memory_Bytes``."""
    started = time.perf_counter()
    if type(policy).post_adapt is ExemplarsBuffer.post_adapt:  # does nothing: an older policy, which has update alone
        policy.update(strategy)
    else:
        policy.post_adapt(strategy, strategy.experience)
    values = {"Update_Seconds": time.perf_counter() - started, "Images": len(policy.buffer)}
    if isinstance(policy, CondensedBuffer):
        values["Bytes"] = policy.nbytes
    for name, value in values.items():
        metric = MetricValue(plugin, f"Memory_{name}/train_phase/train_stream", value, strategy.clock.train_iterations)
        strategy.evaluator.publish_metric_value(metric)

"""Avalanche storage policies over the condensed memory."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch
from avalanche.training.storage_policy import BalancedExemplarsBuffer
from torch import Tensor, nn

from ddreplay.avalanche.buffer_sizes import Size, budget_asked
from ddreplay.avalanche.class_group import ClassGroup, Group
from ddreplay.avalanche.datasets import Samples, Transform, join, memory_dataset, read
from ddreplay.condense.condenser import Condenser, OnProgress, stored_by
from ddreplay.data.pool import ClassPool
from ddreplay.memory import CondensedMemory, damaged, read_seconds
from ddreplay.methods import selections
from ddreplay.methods.practical import Practical
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import Codec
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["CondensedBuffer", "RingBuffer"]

log = logging.getLogger(__name__)


class CondensedBuffer(BalancedExemplarsBuffer):  # type: ignore[misc]
    """A replay memory of condensed images, wherever Avalanche takes a storage policy.

    Stands where ``ClassBalancedBuffer`` stands. An experience is condensed when it is over, from its own data and from what is
    stored of its classes: nothing else is ever looked at. The groups are classes; where samples carry task labels, classes of
    a task, each task with a `ddreplay.CondensedMemory` of its own.

    Args:
        max_size: stored images in all. A condenser whose stored images hold several each (``Partitioned``) replays more.
        adaptive_size: ``max_size`` is shared, rounded down, by the classes seen so far. When new ones come, old ones keep their
            first images, since the real data are gone.
        total_num_classes: how many groups the stream has; each gets ``max_size // total_num_classes``.
        condenser: any of ``ddreplay.methods`` or ``ddreplay.selections``; ``None``: `ddreplay.methods.Practical`.
        images_per_class: stored images of every group. With ``total_num_classes`` it sets ``max_size``, with ``max_size`` it sets
            ``total_num_classes``; alone, ``max_size`` grows with the classes seen.
        bytes_per_class, max_bytes: a budget in bytes instead: of every group, or in all, shared by the groups seen so far (with
            ``total_num_classes``: by all). Number and quality of the images follow; ``max_size`` is then what is held.
        codec: how images are stored, or the name of a codec; ``None``: as the condenser has it.
        seed: everything drawn follows from it; the caller's random state is untouched.
        mean, std: normalisation of the stream's evaluation transform, one number per channel. Without them the range of each
            experience's values is taken for pixels 0 to 255, and the uint8 codec rounds real images.
        task_labels: samples of ``buffer`` are (x, y, task) or (x, y). ``"auto"``: as in the experience; ``"always"``: with a
            task label, which ER_ACE and MIR need even on streams without; ``"never"``: without, tasks are not told apart.
        device: where condensing runs; ``"auto"``: CUDA where there is one. Stored images are on the CPU.
        replay_transform: augmentation of replayed images. They are normalised already, and get no other transform.
        condense_every: condense after so many updates, and keep the real samples of the updates between (`staged`; they are beyond
            the budget). For online streams, where every sub-experience updates the policy: see `flush`.
        on_progress: is told how far condensing is (`ddreplay.condense.Progress`).
        seconds: that an update may take: a number, or ``"training"``: as long as the training just before it took, which the plugins of
            this package measure (`CondensedReplayPlugin`, `MemoryOnlyPlugin`: there, the training of the experience before). A
            condenser that cannot stop takes as long as it takes. ``None``: no limit.
    Attributes:
        budget: what may be stored, as a `ddreplay.Budget`.
        memories: task label -> `ddreplay.CondensedMemory`; 0 where there are no task labels.
        buffer_groups: int -> `ClassGroup`. The key is the class id; where a task before has the same id, -1, -2, ...
        limit: ``seconds`` as it was given. training_seconds: wall time of the last training, where a plugin measured it.
        seconds: wall time of each update so far.
    Raises:
        ValueError: on sizes that do not fit each other, and from an update that shows more groups than the budget is for; then
            nothing has changed.
    """

    def __init__(
        self,
        max_size: int | None = None,
        adaptive_size: bool = False,
        total_num_classes: int | None = None,
        *,
        condenser: Condenser | None = None,
        images_per_class: int | None = None,
        bytes_per_class: int | float | None = None,
        max_bytes: int | None = None,
        codec: Codec | str | None = None,
        seed: int = 0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        task_labels: Literal["auto", "always", "never"] = "auto",
        device: torch.device | str = "auto",
        replay_transform: Transform | None = None,
        condense_every: int = 1,
        on_progress: OnProgress | None = None,
        seconds: float | Literal["training"] | None = None,
    ) -> None:
        if isinstance(seconds, str) and seconds != "training":
            raise ValueError(f"seconds must be a number, 'training' or None, got {seconds!r}")
        if task_labels not in ("auto", "always", "never"):
            raise ValueError(f"task_labels must be 'auto', 'always' or 'never', got {task_labels!r}")
        if condense_every < 1:
            raise ValueError(f"condense_every must be at least 1, got {condense_every}")
        self.budget = budget_asked(
            max_size, adaptive_size, total_num_classes, images_per_class, bytes_per_class, max_bytes
        )
        super().__init__(max_size or 0, adaptive_size=True)  # the rules of sizes are those of `Budget`
        self.adaptive_size, self._given_size = adaptive_size, max_size
        self.total_num_groups = self.total_num_classes = self.budget.classes
        self.condenser: Condenser = stored_by(Practical() if condenser is None else condenser, codec)
        self.seed, self.mean, self.std = seed, mean, std
        self.task_labels, self.device, self.replay_transform = task_labels, device, replay_transform
        self.condense_every, self.on_progress = condense_every, on_progress
        self.limit = seconds
        self.training_seconds: float | None = None
        self.memories: dict[int, CondensedMemory] = {}
        self.seconds: list[float] = []
        self._staged: list[Samples] = []
        self._keys: dict[Group, int] = {}
        self._task_aware, self._tensor_labels = task_labels != "never", False
        self._sample_shape: tuple[int, ...] = (1, 1, 1)
        self._renew()

    def update(self, strategy: Any, **kwargs: Any) -> None:
        """Condense the strategy's current experience."""
        self.post_adapt(strategy, strategy.experience)

    def post_adapt(self, agent: Any, exp: Any) -> None:
        """Condense an experience; only its dataset is looked at."""
        self.update_from_dataset(exp.dataset, agent)

    def update_from_dataset(self, new_data: Any, strategy: Any = None) -> None:
        """Condense a dataset of Avalanche, read through its evaluation transforms, or any other with items (tensor, label)."""
        started = time.perf_counter()
        if len(new_data) == 0:
            log.warning("an experience without samples leaves the memory as it is")
            return
        samples = read(new_data, self.task_labels)
        self._check_shape(samples)
        if isinstance(self.condenser, Practical) and isinstance(getattr(strategy, "model", None), nn.Module):
            self.condenser = self.condenser.knowing(strategy.model)
        seen = set(self._keys).union(samples.groups(), *(part.groups() for part in self._staged))
        self.budget.share(len(seen))
        self._staged.append(samples)
        if len(self._staged) >= self.condense_every:
            try:
                self._condense()
            except BaseException:
                self._staged.pop()
                raise
        self.seconds.append(time.perf_counter() - started)

    def _check_shape(self, samples: Samples) -> None:
        known = {tuple(part.x.shape[1:]) for part in self._staged} | ({self._sample_shape} if self.memories else set())
        if known - {tuple(samples.x.shape[1:])}:
            raise ValueError(
                f"samples must be of the shape that the memory holds, {known.pop()}, got {tuple(samples.x.shape[1:])}; resize them in "
                "the stream's evaluation transform"
            )

    def flush(self) -> None:
        """Condense what is staged now: at the end of an experience whose parts came one by one."""
        if self._staged:
            started = time.perf_counter()
            self._condense()
            self.seconds[-1] += time.perf_counter() - started

    def _condense(self) -> None:
        samples = join(self._staged)
        groups = sorted(samples.groups())
        share = self.budget.of_each(len(set(self._keys).union(groups)))
        log.info("condensing %d classes (of a task each) into %s", len(groups), share)
        memories = {task: memory.copy() for task, memory in self.memories.items()}
        tasks = sorted({task for task, _ in groups})
        for task in tasks:
            rows = samples.task == task
            pool = ClassPool(
                _as_images(samples.x[rows]), samples.y[rows], mean=self.mean, std=self.std, device=self.device
            )
            memory = memories.setdefault(task, self._memory(task, share))
            memory.budget, memory.condenser = share, self.condenser
            memory.update(pool, seconds=self._allowed(len(tasks)))
        for memory in memories.values():
            memory.resize(share)
        # all tasks are condensed: from here on nothing can fail, so that an update is whole or has not been
        self.memories, self._sample_shape = memories, tuple(samples.x.shape[1:])
        self._staged, self._task_aware, self._tensor_labels = [], samples.task_aware, samples.tensor_labels
        self._name(groups)
        self._renew()

    def _allowed(self, parts: int) -> float | None:
        """Seconds that condensing one of so many parts may take."""
        allowed = self.training_seconds if self.limit == "training" else self.limit
        return None if allowed is None else allowed / parts

    def _memory(self, task: int, share: Budget) -> CondensedMemory:
        seed = self.seed + 1_000_003 * task
        return CondensedMemory(self.condenser, share, seed=seed, on_progress=self.on_progress)

    def _name(self, groups: Sequence[Group]) -> None:
        taken = set(self._keys.values())
        for group in groups:
            if group not in self._keys:
                class_id = group[1]
                self._keys[group] = class_id if class_id not in taken else min(0, *taken) - 1
                taken.add(self._keys[group])

    def _renew(self) -> None:
        self._flat: Any = None
        held, groups = sum(len(memory) for memory in self.memories.values()), len(self._keys)
        self.max_size = Size(held if self.budget.in_bytes else self._size(groups))
        quota = 0
        if groups:
            quota = held // groups if self.budget.in_bytes else int(self.budget.share(groups))
        self.buffer_groups = {key: ClassGroup(self, group, quota) for group, key in self._keys.items()}

    def _size(self, groups: int) -> int:
        """Stored images in all: as they were given, or as many as the classes seen, or to be seen, may hold."""
        if self._given_size is not None or self.budget.shared:
            return int(self._given_size or self.budget.amount)
        return int(self.budget.amount * (self.budget.classes or groups))

    @property
    def buffer(self) -> Any:
        """All stored images as one dataset of Avalanche, built once after every change."""
        if self._flat is None:
            self._flat = self._dataset(list(self._keys))
        return self._flat

    def _dataset(self, groups: Sequence[Group]) -> Any:
        images, labels, tasks = [torch.zeros(0, *self._sample_shape)], [], []
        for task in sorted({task for task, _ in groups}):
            x, y = self.memories[task].batch()
            rows = torch.isin(y, torch.tensor([c for t, c in groups if t == task]))
            images.append(x[rows].reshape(-1, *self._sample_shape))
            labels += y[rows].tolist()
            tasks += [task] * int(rows.sum())
        how = {"tensor_labels": self._tensor_labels}
        return memory_dataset(
            torch.cat(images), labels, tasks if self._task_aware else None, self.replay_transform, **how
        )

    def resize(self, strategy: Any, new_size: int) -> None:
        """Change ``max_size``; classes above their new share keep their first images, classes below it stay as they are."""
        self.budget = self.budget.resized(new_size, len(self._keys))
        if self._given_size is not None or self.budget.classes is not None:
            self._given_size = new_size
        if self._keys:
            for memory in self.memories.values():
                memory.resize(self.budget.of_each(len(self._keys)))
        self._renew()

    def _shorten(self, group: Group, new_size: int) -> None:
        memory, kept = self.memories[group[0]], Budget.images(new_size)
        own = memory.condensed.select([group[1]]).take(int(kept.amount))
        others = memory.condensed.select([c for c in memory.condensed.class_ids if c != group[1]])
        memory.condensed = CondensedSet((*others.parts, *own.parts), memory.condensed.provenance)
        self._renew()

    @property
    def condensed(self) -> CondensedSet:
        """Everything stored, as one set.

        Raises:
            ValueError: when tasks share class ids; `memories` has each task's set.
        """
        sets = [memory.condensed for memory in self.memories.values()]
        ids = [c for one in sets for c in one.class_ids]
        if len(ids) != len(set(ids)):
            raise ValueError("tasks share class ids, so their sets do not make one; use memories[task].condensed")
        whole = CondensedSet(())
        for one in sets:
            whole = whole.join(one)
        return whole

    @property
    def nbytes(self) -> int:
        """Bytes of everything stored; what is staged comes on top (`staged_nbytes`)."""
        return sum(memory.nbytes for memory in self.memories.values())

    @property
    def staged(self) -> int:
        """Real samples that wait to be condensed."""
        return sum(len(part.y) for part in self._staged)

    @property
    def staged_nbytes(self) -> int:
        """Their bytes."""
        return sum(part.nbytes for part in self._staged)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values (``torch.load(..., weights_only=True)`` reads them): the memory, budget and seeds' state."""
        return {
            "budget": asdict(self.budget),
            "memories": {task: memory.state_dict() for task, memory in self.memories.items()},
            "groups": [[task, class_id, key] for (task, class_id), key in self._keys.items()],
            "staged": [
                {"x": s.x, "y": s.y, "task": s.task, "task_aware": s.task_aware, "tensor_labels": s.tensor_labels}
                for s in self._staged
            ],
            "task_aware": self._task_aware,
            "given_size": self._given_size,
            "tensor_labels": self._tensor_labels,
            "sample_shape": list(self._sample_shape),
            "seconds": list(self.seconds),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; the condenser, seed and normalisation stay those given at construction.

        Raises:
            ValueError: when the state is damaged, or no buffer's; nothing has changed then.
        """
        with damaged("CondensedBuffer"):
            budget, share = Budget(**state["budget"]), Budget.images(1)
            memories = {int(task): self._memory(int(task), share) for task in state["memories"]}
            for task, memory in state["memories"].items():
                memories[int(task)].load_state_dict(memory)
            keys = {(int(task), int(class_id)): int(key) for task, class_id, key in state["groups"]}
            held = {(task, c) for task, memory in memories.items() for c in memory.condensed.class_ids}
            if held != set(keys) or len(set(keys.values())) != len(keys):
                raise ValueError(f"groups {sorted(keys)} are not those of the memories, {sorted(held)}, or share keys")
            staged = [Samples(**part) for part in state["staged"]]
            for part in staged:
                part.check()
            shape = tuple(int(n) for n in state["sample_shape"])
            shapes = [m.condensed.shape for m in memories.values()]  # none: the shape is not known yet
            if any(math.prod(known) != math.prod(shape) for known in shapes):
                raise ValueError(f"samples of shape {shape} do not fit images of {shapes}")
            seconds, task_aware, size = read_seconds(state["seconds"]), bool(state["task_aware"]), state["given_size"]
            if size is not None and (type(size) is not int or size < 1):
                raise ValueError(f"given_size must be a number of images, got {size!r}")
            tensor_labels = bool(state["tensor_labels"])
        # everything is read before anything changes
        self.budget, self.memories, self._keys, self._staged = budget, memories, keys, staged
        self._sample_shape, self.seconds, self._task_aware, self._given_size = shape, seconds, task_aware, size
        self.total_num_groups = self.total_num_classes = budget.classes
        self._tensor_labels = tensor_labels
        self._renew()


class RingBuffer(CondensedBuffer):
    """The same budget with real images, a random choice of every class (ER-RB).

    A class that comes back is chosen anew among its new images and the stored ones. With a budget in bytes, images are stored as AVIF
    (where no codec is named), as many as fit at a low quality, then at the highest quality that fits (the idea of compressed replay:
    Wang et al., "Memory Replay with Data Compression for Continual Learning", ICLR 2022).

    Args:
        codec: how images are stored, or the name of a codec; ``None``: uint8, and AVIF for a budget in bytes.
        more: every other argument of `CondensedBuffer` but ``condenser``.
    """

    def __init__(
        self,
        max_size: int | None = None,
        adaptive_size: bool = False,
        total_num_classes: int | None = None,
        *,
        codec: Codec | str | None = None,
        **more: Any,
    ) -> None:
        if "condenser" in more:
            raise TypeError("a RingBuffer holds real images; give a condenser to CondensedBuffer")
        condenser = stored_by(selections.random(), codec)
        super().__init__(max_size, adaptive_size, total_num_classes, condenser=condenser, **more)


def _as_images(x: Tensor) -> Tensor:
    """Feature vectors [n, d] are images of one pixel with d channels."""
    if x.dim() not in (2, 4):
        raise ValueError(f"samples must be images [c, h, w] or vectors [d], got shape {tuple(x.shape[1:])}")
    return x if x.dim() == 4 else x[:, :, None, None]

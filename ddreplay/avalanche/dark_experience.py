"""DER++ with any memory: the network's own outputs are stored with the images, in a few bits, and paid for."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

import torch
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metric_results import MetricValue
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader

from ddreplay.avalanche.balanced_finish import Alike
from ddreplay.avalanche.plugins import CondensedReplayPlugin
from ddreplay.storage.bit_packing import pack_bits, unpack_bits

__all__ = ["DarkExperiencePlugin", "StoredLogits"]


@dataclass(frozen=True)
class StoredLogits:
    """Outputs for the first images of a class, in a few bits each.

    Attributes:
        packed: of the classes known when they were stored, in the order in which they came, image by image.
        shape: images, and classes known.
        low, high: what the lowest and the highest code stand for.
        bits: of a code.
    Example:
        >>> stored = StoredLogits.of(torch.tensor([[0.0, 1.0, 3.0]]), bits=2)
        >>> stored.values(), stored.nbytes
        (tensor([[0., 1., 3.]]), 9)
    """

    packed: UInt8[Tensor, " bytes"]
    shape: tuple[int, int]
    low: float
    high: float
    bits: int = 8

    @classmethod
    def of(cls, logits: Float[Tensor, "n known"], bits: int = 8) -> StoredLogits:
        """Rounded to evenly spaced levels between the lowest and the highest."""
        low, high = (float(logits.min()), float(logits.max())) if logits.numel() else (0.0, 0.0)
        levels, span = 2**bits - 1, high - low or 1.0
        codes = ((logits - low) / span * levels).round().clamp(0, levels).to(torch.uint8).cpu()
        return cls(pack_bits(codes, bits), (len(codes), codes.shape[1]), low, high, bits)

    def __len__(self) -> int:
        """Images that have outputs."""
        return self.shape[0]

    @property
    def codes(self) -> UInt8[Tensor, "n known"]:
        """The levels, unpacked."""
        return unpack_bits(self.packed, self.shape, self.bits)

    def values(self) -> Float[Tensor, "n known"]:
        """As they come back."""
        found: Tensor = self.codes.float() * ((self.high - self.low) / (2**self.bits - 1)) + self.low
        return found

    def select(self, rows: Sequence[int]) -> StoredLogits:
        """Those of these images alone."""
        kept = self.codes[list(rows)]
        return StoredLogits(pack_bits(kept, self.bits), (len(kept), self.shape[1]), self.low, self.high, self.bits)

    @property
    def nbytes(self) -> int:
        """The packed codes, and two float32."""
        return len(self.packed) + 8


class DarkExperiencePlugin(SupervisedPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
    """Dark experience replay (DER++) from any storage policy.

    With a batch of memory (x', y') and what the network said of it when it was stored, z':

        L = CE(f(x), y) + beta CE(f(x'), y') + alpha || f(x') - z' ||^2 / outputs

    z' are the outputs of the classes known at the time, without augmentation, rounded to ``logit_bits``. What they cost `nbytes` and the
    metric ``Memory_Logit_Bytes`` tell; a memory of 4 kB per class with them is one of 3.2 kB and ``logit_bytes_per_class=800``.
    New images pass the memory's codec, and experiences are finished, as in `CondensedReplayPlugin`.

    Args:
        storage_policy: a `CondensedBuffer`, a `RingBuffer` or any policy of Avalanche.
        alpha, beta: weights of the remembered outputs and labels.
        batch_size_mem: remembered images of a step, all classes alike; ``None``: the strategy's ``train_mb_size``; ``"balanced"``: as
            many of every class as there are of a new one.
        logit_bytes_per_class: at most so many for outputs; images beyond have none and are replayed with their label alone.
            ``None``: every image has them.
        logit_bits: of every output, 1 to 8.
        crisp, finish_steps, seed: see `CondensedReplayPlugin`.
    Attributes:
        logits: class -> `StoredLogits`.
    Raises:
        ValueError: when an argument is out of its range.
    Departures: one batch of memory serves both terms, where the released code draws two; outputs are stored when the experience is
        over, and not while it is trained on.
    Reference: Buzzega et al., "Dark Experience for General Continual Learning: a Strong, Simple Baseline", NeurIPS 2020.
    """

    def __init__(
        self,
        storage_policy: Any,
        *,
        alpha: float = 0.1,
        beta: float = 0.5,
        batch_size_mem: int | Literal["balanced"] | None = None,
        logit_bytes_per_class: int | float | None = None,
        logit_bits: int = 8,
        crisp: float = 0.0,
        finish_steps: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if alpha < 0 or beta < 0:
            raise ValueError(f"alpha and beta are weights and must not be negative, got {alpha} and {beta}")
        if logit_bytes_per_class is not None and logit_bytes_per_class < 0:
            raise ValueError(f"logit_bytes_per_class must be at least 0, got {logit_bytes_per_class}")
        if not 1 <= logit_bits <= 8:
            raise ValueError(f"logit_bits must lie between 1 and 8, got {logit_bits}")
        self.alpha, self.beta = alpha, beta
        self.logit_bytes_per_class, self.logit_bits = logit_bytes_per_class, logit_bits
        self.replay = CondensedReplayPlugin(
            storage_policy, batch_size_mem=batch_size_mem, crisp=crisp, finish_steps=finish_steps, seed=seed
        )
        self.logits: dict[int, StoredLogits] = {}
        self.known: list[int] = []
        self._memory: _Memory | None = None
        self._wanted: Tensor | None = None

    @property
    def storage_policy(self) -> Any:
        """What images are replayed from."""
        return self.replay.storage_policy

    @property
    def nbytes(self) -> int:
        """Bytes of all stored outputs, and of the order of the classes."""
        return sum(stored.nbytes for stored in self.logits.values()) + 2 * len(self.known)

    def after_train_dataset_adaptation(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Put new images through the memory's codec, where it is lossy."""
        self.replay.after_train_dataset_adaptation(strategy)

    def before_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Draw anew what coding draws in every epoch."""
        self.replay.before_training_epoch(strategy)

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Lay the memory and its outputs out for drawing."""
        images = self.storage_policy.buffer
        if len(images):
            labels = [int(label) for label in images.targets]
            batches = iter(Alike(labels, self.replay.replayed(strategy), sys.maxsize))
            self._memory = _Memory(images, self._lay_out(labels), batches)

    def before_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Put a batch of memory behind the batch of new images."""
        if self._memory is None:
            return
        replayed, self._wanted = self._memory.draw()
        strategy.mbatch = [
            torch.cat([new, old.to(new.device)]) for new, old in zip(strategy.mbatch, replayed, strict=True)
        ]

    def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Weigh the terms, in the place of the criterion of the whole batch."""
        if self._wanted is None:
            return
        n, out, y = -len(self._wanted), strategy.mb_output, strategy.mb_y
        wanted = self._wanted.to(out.device)
        told = ~wanted.isnan()
        apart = strategy._criterion(out[:n], y[:n]) + self.beta * strategy._criterion(out[n:], y[n:])
        if bool(told.any()):
            apart = apart + self.alpha * (out[n:, : wanted.shape[1]][told] - wanted[told]).square().mean()
        strategy.loss = strategy.loss - strategy.criterion() + apart
        self._wanted = None

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Update the memory, finish the experience, and store what the network says of what is new in the memory."""
        self._memory = None
        before = _by_class(self.storage_policy.buffer)
        self.replay.after_training_exp(strategy)
        own = {int(label) for label in strategy.experience.dataset.targets}
        self.known += sorted(own - set(self.known))
        self.logits = {
            label: self._carried_over(label, images, before[label])
            if label in self.logits and label not in own and label in before
            else self._asked(strategy, images)
            for label, images in _by_class(self.storage_policy.buffer).items()
        }
        name = "Memory_Logit_Bytes/train_phase/train_stream"
        strategy.evaluator.publish_metric_value(MetricValue(self, name, self.nbytes, strategy.clock.train_iterations))

    @torch.no_grad()
    def _asked(self, strategy: Any, images: Tensor) -> StoredLogits:
        """What the network says of the first images, as many as may be stored."""
        rows = len(images)
        if self.logit_bytes_per_class is not None:
            rows = min(rows, max(0, int(8 * (self.logit_bytes_per_class - 8)) // (self.logit_bits * len(self.known))))
        training = strategy.model.training
        strategy.model.eval()
        found = [strategy.model(part.to(strategy.device))[:, self.known] for part in images[:rows].split(256)]
        strategy.model.train(training)
        return StoredLogits.of(torch.cat(found) if rows else torch.zeros(0, len(self.known)), self.logit_bits)

    def _carried_over(self, label: int, images: Tensor, before: Tensor) -> StoredLogits:
        """The outputs of images that stayed: found by their pixels, or in their place where those were encoded anew."""
        places = {_key(image): row for row, image in enumerate(before)}
        stored = self.logits[label]
        rows = [places.get(_key(image), row) for row, image in enumerate(images)]
        return stored.select(list(takewhile(lambda row: row < len(stored), rows)))

    def _lay_out(self, labels: Sequence[int]) -> Tensor:
        """Outputs for every image of the memory, NaN where there are none."""
        y, width = torch.tensor(labels), max(self.known) + 1
        table = torch.full((len(y), width), float("nan"))
        for label, stored in self.logits.items():
            rows = (y == label).nonzero().flatten()[: len(stored)]
            table[rows[:, None], torch.tensor(self.known[: stored.shape[1]])] = stored.values()
        return table


@dataclass
class _Memory:
    """Images to draw from, and the outputs stored with them: NaN where there are none."""

    images: Any
    table: Float[Tensor, "n known"]
    batches: Iterator[list[int]]

    def draw(self) -> tuple[Any, Tensor]:
        """The next batch, collated, and its outputs."""
        rows = next(self.batches)
        return self.images.collate_fn([self.images[row] for row in rows]), self.table[rows]


def _by_class(memory: Any) -> dict[int, Tensor]:
    """The images of every class, not augmented, in the order of the memory."""
    memory = memory.eval()
    batches = (
        [batch[:2] for batch in DataLoader(memory, batch_size=256, collate_fn=memory.collate_fn)] if len(memory) else []
    )
    if not batches:
        return {}
    x, y = (torch.cat(part) for part in zip(*batches, strict=True))
    return {int(label): x[y == label] for label in y.unique()}


def _key(image: Tensor) -> bytes:
    return bytes(image.contiguous().numpy().tobytes())

"""How networks are trained on a set: protocols, which have names because rows of the literature mix them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from ddreplay.augment.siamese import NATURAL, Augment, Composed, Identity, Siamese
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["PROTOCOLS", "Protocol"]

_COSINE_END = 0.01  # of the learning rate, as in FRePo's script of evaluation


@dataclass(frozen=True)
class Protocol:
    """How a network is trained on a condensed set.

    ``epochs`` counts as the released code does: ``epochs`` + 1 passes, and after pass number ``epochs // 2 + 2`` the learning rate
    drops by ``drop`` with a new optimiser, whose momentum starts from zero. The accuracy is that of the last pass.

    lr: or ``"learned"``: the step size that the method learned along with the set (MTT).
    milestones: instead, ``epochs`` passes, and the learning rate drops in place after these shares of them (IDC).
    mix: how often a batch is mixed by CutMix; cutout is then left out.
    together: flip, color and one drawn operation at once, as `Composed` has them, instead of one in all.
    loss: ``"squared_error"``: outputs against learned targets (FRePo); labels that are no targets are centred one-hot ones.
    warm_up: with Adam, in whose place SGD is else: passes over which the learning rate rises, before it falls as a cosine to a hundredth.
    steps: rows of (images trained on, steps): instead of ``epochs``, which are then as many as make so many steps; a number of images
        between two rows takes the larger one's.
    """

    name: str
    epochs: int
    augment: str | None = None
    lr: float | Literal["learned"] = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    drop: float = 0.1
    milestones: tuple[float, ...] = ()
    mix: float = 0.0
    together: bool = False
    loss: Literal["cross_entropy", "squared_error"] = "cross_entropy"
    warm_up: int | None = None
    steps: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"epochs of protocol {self.name} must be at least 0, got {self.epochs}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size of protocol {self.name} must be at least 1, got {self.batch_size}")
        if self.lr != "learned" and not self.lr > 0:
            raise ValueError(f"lr of protocol {self.name} must be above 0 or 'learned', got {self.lr!r}")

    def of(self, condensed: CondensedSet) -> Protocol:
        """The same with what depends on the set: the step size that came with it, where it asks for that, and the number of epochs.

        Raises:
            ValueError: when the set has no step size.
        """
        if self.steps:
            images = len(condensed)
            wanted = next((steps for most, steps in self.steps if images <= most), self.steps[-1][1])
            batches = -(-images // self.batch_size)
            warm_up = None if self.warm_up is None else self.warm_up // batches
            return replace(self, epochs=max(1, wanted // batches), warm_up=warm_up, steps=()).of(condensed)
        if self.lr != "learned":
            return self
        learned = condensed.provenance.get("learned")
        lr = learned.get("lr") if isinstance(learned, dict) else None
        if not isinstance(lr, float) or not 0 < lr < math.inf:
            method = condensed.provenance.get("method")
            raise ValueError(
                f"protocol {self.name} wants a learned step size, but {method} learned no step size; give lr"
            )
        return replace(self, lr=lr)

    def scaled(self, epochs: int) -> Protocol:
        """The same with another number of epochs, and a name that says so."""
        if epochs == self.epochs and not self.steps:
            return self
        return replace(self, name=f"{self.name}, {epochs} epochs", epochs=epochs, steps=())

    def on(self, strategy: str) -> Protocol:
        """The same with these DSA operations, if it augments at all: digits are not mirrored.

        A protocol that does not take all operations (bptt2022) takes those of its own that are among them.
        """
        if self.augment is None:
            return self
        known = strategy.split("_")
        own = strategy if self.augment == NATURAL else "_".join(n for n in self.augment.split("_") if n in known)
        return self if own == self.augment else replace(self, name=f"{self.name}, {own or 'none'}", augment=own or None)

    @property
    def passes(self) -> int:
        """Epochs that training takes: as the released code of DC counts them, one more (see above)."""
        return self.epochs if self.milestones or self.warm_up is not None else self.epochs + 1

    def targets(self, labels: Tensor) -> Tensor:
        """Labels as the loss takes them: for cross-entropy, centred regression targets become shares of classes.

        Args:
            labels: int64 [n], or float [n, classes].
        """
        if self.loss == "squared_error" or labels.dim() == 1 or bool((labels >= 0).all()):
            return labels
        shares = (labels + 1 / labels.shape[1]).clamp_min(0)
        return shares / shares.sum(1, keepdim=True).clamp_min(torch.finfo(shares.dtype).tiny)

    def augmentation(self) -> Augment:
        if self.augment is None:
            return Identity()
        names = [name for name in self.augment.split("_") if not (self.mix and name == "cutout")]
        return Composed("_".join(names)) if self.together else Siamese("_".join(names))

    def optimizer(self, net: nn.Module) -> torch.optim.Optimizer:
        """SGD over a network's weights, as the first epoch has it.

        Raises:
            ValueError: when the step size is one that comes with a set (see `of`).
        """
        if self.lr == "learned":
            raise ValueError(f"protocol {self.name} wants a learned step size: train(..., protocol.of(condensed), ...)")
        if self.warm_up is not None:
            return torch.optim.Adam(net.parameters(), lr=self.lr * self._warmed(0), weight_decay=self.weight_decay)
        return torch.optim.SGD(net.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def _warmed(self, epoch: int) -> float:
        """The share of the learning rate in an epoch, counted from 0, where it is warmed up."""
        warm = min(self.warm_up or 0, self.epochs // 2)
        if epoch < warm:
            return (epoch + 1) / warm
        done = (epoch - warm) / max(1, self.epochs - warm)
        return _COSINE_END + (1 - _COSINE_END) * 0.5 * (1 + math.cos(math.pi * done))

    def anneal(self, optimizer: torch.optim.Optimizer, epoch: int) -> None:
        """What the learning rate does after epoch number ``epoch``, counted from 0."""
        if self.warm_up is not None and self.lr != "learned":
            for group in optimizer.param_groups:
                group["lr"] = self.lr * self._warmed(epoch + 1)
            return
        drops = [round(share * self.epochs) for share in self.milestones]
        if epoch + 1 in drops or (not drops and epoch == self.epochs // 2 + 1):
            for group in optimizer.param_groups:
                group["lr"] *= self.drop
            if not drops:
                optimizer.state.clear()  # the released code makes a new optimiser, whose momentum starts from zero


PROTOCOLS = {
    "dc2021": Protocol("dc2021", epochs=300),
    "dm2023": Protocol("dm2023", epochs=1000, augment=NATURAL),
    "mtt2022": Protocol("mtt2022", epochs=1000, augment=NATURAL, lr="learned"),
    "bptt2022": Protocol(
        "bptt2022", epochs=300, augment="flip_rotate", weight_decay=0.0, batch_size=640, drop=1.0, milestones=(1.0,)
    ),
    "idc2022": Protocol(
        "idc2022",
        epochs=1000,
        augment=NATURAL,
        batch_size=64,
        drop=0.2,
        milestones=(2 / 3, 5 / 6),
        mix=0.5,
        together=True,
    ),
    "frepo2022": Protocol(
        "frepo2022",
        epochs=1000,
        augment=NATURAL,
        lr=3e-4,
        weight_decay=0.0,
        batch_size=500,
        loss="squared_error",
        warm_up=500,
        steps=((10, 1000), (100, 2000), (500, 5000), (1000, 10000), (5000, 40000)),
    ),
}
"""``dc2021``: 300 epochs, no augmentation (DC, DCC). ``dm2023``: 1000 epochs with DSA (DSA, DSAC, DM, IDM, DDM). ``mtt2022``: the same
with the learned step size (MTT, TESLA). ``bptt2022``: 300 epochs at one step size, without weight decay (BPTT). ``idc2022``: small batches,
CutMix (IDC, DREAM). ``frepo2022``: Adam with warm-up and cosine, squared error to learned targets, steps by the number of images (FRePo,
which also translates images, trains a network without norms, and takes 20,000 steps for 200 images, of Tiny ImageNet). The papers of MTT,
TESLA, BPTT, IDC and DREAM report the best accuracy met during training or condensing, which is selection on the test images; here it is
the last."""

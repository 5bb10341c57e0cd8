"""What several commands say alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

__all__ = ["WORTH_SAYING", "Reading", "ReadingOptions", "Resize", "Trials", "TrialsOptions"]

Resize = Literal["crop", "squash"]

WORTH_SAYING = 60
"""Seconds that something must take before its time is said."""

TEN_MINUTES = 600

EPOCHS = 200
"""Of the protocol where none is named."""

A_PAGE = 1.5e8
"""Pixels that networks are trained on for one page where nobody says more: a minute and a half of one core with a ConvNet of width 32."""

FEWEST_EPOCHS = 50
"""Below them networks on a few images have learned too little to be told apart."""


@dataclass(frozen=True)
class Reading:
    """How real data are read. Where a set was condensed from them, what is not given is as it was then.

    Attributes:
        size: for a folder of photos of different sizes (and imagenet, gtsrb): pixels a side that all get.
        resize: crop (the default): resize the shorter side and cut out the centre; squash: resize both sides.
        test_fraction: of every class of a folder without test/ or val/, held out for testing; 0.3 by default.
        augment: operations that keep what the images are, joined by underscores: color, crop, cutout, flip, scale, rotate. Default: all,
            without flip for digits, mnist, svhn and gtsrb. For letters or signs: color_crop_cutout_scale_rotate.
        normalization: own (the default: the published constants of a named data set, else those of the training images), train, or those of
            a paper for a named data set, such as cifar100:dcc. A set is always shown with the constants that it was condensed with.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        device: auto, cpu or cuda.
    """

    size: int | None = None
    resize: Resize | None = None
    test_fraction: float | None = None
    augment: str | None = None
    normalization: str | None = None
    root: Path | None = None
    download: bool = False
    device: str = "auto"

    @property
    def said(self) -> dict[str, Any]:
        """What was given of how images are read, as `ddreplay.datasets.load` names it."""
        named: dict[str, Any] = {"size": self.size, "resize": self.resize, "test_fraction": self.test_fraction}
        named |= {"augmentation": self.augment, "normalization": self.normalization}
        return {k: v for k, v in named.items() if v is not None}

    @property
    def found(self) -> dict[str, Any]:
        """Where they are."""
        return {"root": self.root, "download": self.download}


@dataclass(frozen=True)
class Trials:
    """How networks are trained on a set.

    Attributes:
        protocol: dc2021 (300 epochs), dm2023 (1000 with DSA), mtt2022 (learned step size), bptt2022, idc2022 (CutMix) or frepo2022.
            Without one: dm2023 cut down to 200 epochs, which takes minutes and falls a little short of it; for a report of many or
            large images to fewer, not below 50.
        epochs: another number of epochs; the protocol's name then says so.
        seeds: networks to train, of every kind and on every set.
        seed: every network's own seed is derived from this one.
    """

    protocol: str | None = None
    epochs: int | None = None
    seeds: int = 3
    seed: int = 0

    def chosen(self) -> Any:
        """The protocol.

        Raises:
            ValueError: when there is none of that name; for fewer than one network.
        """
        from ddreplay import names

        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1 network, got {self.seeds}")
        epochs = EPOCHS if self.protocol is None and self.epochs is None else self.epochs
        found = names.protocol(self.protocol or "dm2023")
        return found if epochs is None else found.scaled(epochs)

    def within(self, work: float) -> Trials:
        """The same with as many epochs as fit into `A_PAGE` where none were asked for: the same on every machine, so that numbers are too.

        Args:
            work: pixels of all images that all networks see in one epoch.
        """
        if self.protocol is not None or self.epochs is not None:
            return self
        fitting = int(A_PAGE / max(1.0, work))
        return self if fitting >= EPOCHS else replace(self, epochs=max(FEWEST_EPOCHS, fitting))

    def shorter(self, expected: float, passes: int) -> str:
        """Flags by which networks that take so many seconds would take less."""
        fewer = max(1, int(passes * TEN_MINUTES / max(expected, TEN_MINUTES)))
        ways = {"--seeds 1": self.seeds > 1, f"--epochs {fewer}": fewer < passes}
        return ", ".join(way for way, helps in ways.items() if helps)


ReadingOptions = Annotated[Reading, tyro.conf.arg(name="")]
TrialsOptions = Annotated[Trials, tyro.conf.arg(name="")]

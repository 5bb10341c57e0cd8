"""``python -m benchmarks scaling``: what condensing would take at other sizes, from measured rates: hours, memory, traffic."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.checks import at_least
from benchmarks.report.records import Record, read
from ddreplay import ConvNet, names
from ddreplay.backbones import Net, as_factory
from ddreplay.data.space import Shape
from ddreplay.forecast import in_words
from ddreplay.methods.gradient import DCC_LOOPS

__all__ = ["IMAGENET", "RECORD", "TABLE", "Plan", "Rates", "multiply_adds", "page_tables", "scaling"]

RECORD = Path(__file__).parent / "records" / "speed_32x32.json"

Loops = tuple[int, int]


@dataclass(frozen=True)
class Rates:
    """What one pass of one image costs, measured.

    Attributes:
        multiply_adds: in a second of forward passes without gradients.
        learn: a synthetic image forward and backward to its pixels, in forward passes.
        train: an image of a step of a network's weights, in forward passes.
        match: a synthetic image whose gradient of the weights is differentiated again, in forward passes.
    """

    multiply_adds: float
    learn: float
    train: float
    match: float

    @classmethod
    def of(cls, record: Record) -> Rates:
        """From the rows dm, dm banked, dc and epoch of ``python -m benchmarks speed``.

        dm passes real images forward, and synthetic ones forward and backward; with a bank only the latter. dc takes the weights' gradient
        of real images, as training does, and differentiates that of synthetic ones.
        """
        about, seconds = record.protocol, {r["row"]: statistics.median(r["seconds"]) for r in record.results}
        syn, real = about["classes"] * about["images_per_class"], about["classes"] * about["batch_real"]
        forward = (seconds["dm"] - seconds["dm, banked"]) / real
        train = seconds["epoch"] / syn / forward
        work = multiply_adds(names.network(about["net"]), tuple(about["image"]), about["classes"])
        return cls(
            multiply_adds=work / forward,
            learn=seconds["dm, banked"] / syn / forward,
            train=train,
            match=(seconds["dc"] / forward - train * real) / syn,
        )


def multiply_adds(net: Net, shape: Shape, classes: int) -> int:
    """Of convolutions and linear layers in a forward pass of one image, counted on shapes alone.

    >>> multiply_adds(ConvNet(width=64), (3, 32, 32), 10)
    13576192
    """
    found: list[int] = []

    def count(module: nn.Module, _: object, out: Tensor) -> None:
        weight: Tensor = module.weight  # type: ignore[assignment]
        found.append(weight.numel() * (out[0, 0].numel() if isinstance(module, nn.Conv2d) else 1))

    with torch.device("meta"):
        model = as_factory(net)(shape, classes).eval()
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.register_forward_hook(count)
        model(torch.zeros(1, *shape))
    return sum(found)


@dataclass(frozen=True)
class Plan:
    """A condensation at some size, and networks trained on its set.

    Attributes:
        classes, shape, train: of the data: classes, an image, real images of every class.
        steps: of the images. batch_real: real images of every class and step.
        bank: networks whose real side is computed once on ``bank_images`` real images of every class; 0: a new network at every step.
        loops: of gradient matching, image steps of every network and its own steps after each; ``None``: means of embeddings are matched.
        epochs, networks: of an evaluation. test: images in it.
    """

    name: str
    classes: int
    shape: Shape
    train: int
    images_per_class: int
    net: Net = ConvNet()
    steps: int = 20000
    batch_real: int = 256
    bank: int = 0
    bank_images: int = 512
    loops: Loops | None = None
    epochs: int = 1000
    networks: int = 5
    test: int = 10000

    @property
    def pixels(self) -> int:
        """Values of an image."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def images(self) -> int:
        """Synthetic images."""
        return self.classes * self.images_per_class

    def passes(self, rates: Rates) -> float:
        """Of condensing, in forward passes of one image."""
        if self.loops is not None:
            step = self.classes * self.batch_real * rates.train + self.images * rates.match
            own = self.loops[1] * self.images * rates.train  # epochs on the synthetic images after every image step
            return self.steps * (step + own)
        real = self.bank * self.classes * min(self.bank_images, self.train)
        real = real or self.steps * self.classes * self.batch_real
        return real + self.steps * self.images * rates.learn

    def evaluation_passes(self, rates: Rates) -> float:
        """Of training and testing the networks."""
        return self.networks * (self.epochs * self.images * rates.train + self.test)

    def seconds(self, passes: float, rates: Rates, speed: float | None = None) -> float:
        """Wall time of so many passes; ``speed``: multiply-adds a second, where not the measured ones."""
        return passes * multiply_adds(self.net, self.shape, self.classes) / (speed or rates.multiply_adds)

    @property
    def pool_bytes(self) -> int:
        """Real images in 8 bits."""
        return self.classes * self.train * self.pixels

    @property
    def learned_bytes(self) -> int:
        """Synthetic images, their gradient and their momentum, in float32."""
        return 3 * 4 * self.images * self.pixels

    @property
    def bank_bytes(self) -> int:
        """Weights of a bank's networks and the mean embedding of every class under each, in float32."""
        with torch.device("meta"):
            model = as_factory(self.net)(self.shape, self.classes)
        weights = sum(p.numel() for p in model.parameters())
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        return 4 * max(1, self.bank) * (weights + self.classes * last.in_features)

    @property
    def step_traffic(self) -> int:
        """Bytes of real images that a step reads from the pool; none under a bank."""
        return 0 if self.bank else self.classes * self.batch_real * self.pixels

    @property
    def reduced_bytes(self) -> int:
        """Bytes that an all-reduce of several processes adds up in a step: the gradient of all synthetic images."""
        return 4 * self.images * self.pixels


_CIFAR = Plan("", classes=10, shape=(3, 32, 32), train=5000, images_per_class=10)


def _matching(name: str, images: int) -> Plan:
    outer, inner = DCC_LOOPS(images)
    return replace(_CIFAR, name=name, images_per_class=images, steps=1000 * outer, loops=(outer, inner), epochs=300)


TABLE = tuple(
    plan
    for n in (1, 10, 50)
    for plan in (
        replace(_CIFAR, name="DM", images_per_class=n),
        replace(_CIFAR, name="DM, 40 networks banked", images_per_class=n, bank=40),
        _matching("DC, DSA, DCC", n),
    )
)
"""Cells of the papers' tables: CIFAR-10, ConvNet-3-128."""

_IMAGENET = Plan("", 1000, (3, 64, 64), 1281, 10, net=ConvNet(depth=4), networks=3, epochs=300, test=50000)
IMAGENET = tuple(
    replace(_IMAGENET, name=name, images_per_class=n, bank=bank)
    for n in (1, 10, 50)
    for name, bank in (("DM", 0), ("DM, 100 networks banked", 100))
)
"""ImageNet-1K at 64 x 64, ConvNet-4-128."""


def scaling(record: Path = RECORD, speed: float = 1e13, classes: int | None = None) -> None:
    """Print what condensing would take at the sizes of the papers' tables and of ImageNet-1K, from a record's rates.

    Args:
        record: of ``python -m benchmarks speed``.
        speed: multiply-adds a second of the machine that the last column of hours is for.
        classes: of ImageNet, instead of 1,000.
    """
    at_least(1, classes=classes)
    for text in page_tables(Rates.of(read(record)), speed, classes):
        print(text)
        print()


def page_tables(rates: Rates, speed: float = 1e13, classes: int | None = None) -> tuple[str, str, str]:
    """Rates, cells of the papers' tables, ImageNet: as docs/scaling.md has them."""
    big = [plan if classes is None else replace(plan, classes=classes) for plan in IMAGENET]
    return _rates_table(rates), _cells_table(rates, TABLE, speed), _imagenet_table(rates, big, speed)


def _rates_table(rates: Rates) -> str:
    rows = [
        ["multiply-adds a second, forward, one core", f"{rates.multiply_adds / 1e9:.1f} 10^9"],
        ["synthetic image, to its pixels", f"{rates.learn:.1f} forward passes"],
        ["image of a training step", f"{rates.train:.1f} forward passes"],
        ["synthetic image, second derivatives", f"{rates.match:.1f} forward passes"],
    ]
    return _markdown(["measured", "value"], rows)


def _cells_table(rates: Rates, plans: Sequence[Plan], speed: float) -> str:
    rows = []
    for plan in plans:
        condense, evaluate = plan.passes(rates), plan.evaluation_passes(rates)
        rows.append(
            [
                plan.name,
                str(plan.images_per_class),
                in_words(plan.seconds(condense, rates)),
                in_words(plan.seconds(evaluate, rates)),
                in_words(plan.seconds(5 * (condense + evaluate), rates)),
                in_words(plan.seconds(5 * (condense + evaluate), rates, speed)),
            ]
        )
    header = ["CIFAR-10", "images a class", "one set", "5 networks on it", "5 sets", f"5 sets at {speed:.0e}/s"]
    return _markdown(header, rows)


def _imagenet_table(rates: Rates, plans: Sequence[Plan], speed: float) -> str:
    rows = [
        [
            plan.name,
            str(plan.images_per_class),
            in_words(plan.seconds(plan.passes(rates), rates)),
            in_words(plan.seconds(plan.passes(rates), rates, speed)),
            _size(plan.pool_bytes),
            _size(plan.learned_bytes),
            _size(plan.bank_bytes),
            _size(plan.step_traffic),
            _size(plan.reduced_bytes),
        ]
        for plan in plans
    ]
    header = ["ImageNet-1K, 64 px", "images a class", "one core", f"at {speed:.0e}/s", "real images", "learned images"]
    return _markdown([*header, "networks", "read a step", "all-reduced a step"], rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _size(nbytes: float) -> str:
    """
    >>> _size(0), _size(1.5e6), _size(15.7e9)
    ('0', '1.5 MB', '16 GB')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            value = nbytes / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{nbytes:.0f}"

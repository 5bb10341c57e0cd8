"""Evaluation: fresh networks trained on a set, tested on real images, under a protocol that has a name."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ddreplay.augment.mixing import CutMix
from ddreplay.backbones import ConvNet, Net, as_factory
from ddreplay.backbones.compiling import compiled, plain
from ddreplay.backbones.digest import network_digest
from ddreplay.data.chunks import in_memory
from ddreplay.data.pool import Batch, ClassPool
from ddreplay.data.space import Shape
from ddreplay.protocol import PROTOCOLS, Protocol
from ddreplay.randomness import Random
from ddreplay.ranks import Ranks
from ddreplay.storage.checkpoint import Checkpoint, fingerprint
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.training import ByOptimizer, LabelledImages, Shuffled, squared_error, train_network

__all__ = [
    "PROTOCOLS",
    "Evaluation",
    "Protocol",
    "accuracy",
    "choose_protocol",
    "evaluate",
    "interval",
    "matching_classes",
    "train",
]


@dataclass(frozen=True)
class Evaluation:
    """Accuracies in percent, one a seed, and what they cost.

    per_class: mean accuracy of every class, by class id. nbytes: of the set. seconds: wall time of all seeds. confusion: for each class
    of the test images, in the order of ``per_class``, how many were taken for each class of the set by ascending id, all networks together.
    """

    accuracies: tuple[float, ...]
    protocol: Protocol
    per_class: dict[int, float]
    seconds: float
    nbytes: int
    images: int
    confusion: tuple[tuple[int, ...], ...] = ()

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float:
        """Sample standard deviation over seeds; NaN for one seed."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else math.nan

    @property
    def ci95(self) -> float:
        """Half the width of the 95 % interval of the mean (Student's t); NaN for one seed."""
        return interval(self.accuracies)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the confusion, which grows with the square of the classes."""
        known = {name: value for name, value in asdict(self).items() if name != "confusion"}
        return {**known, "mean": self.mean, "std": self.std, "ci95": self.ci95}

    def __str__(self) -> str:
        n = len(self.accuracies)
        said = f"{self.mean:.2f} ± {self.ci95:.2f} %" if n > 1 else f"{self.mean:.2f} %"
        return f"{said} ({n} seed{'s' * (n > 1)}, {self.protocol.name}, {self.nbytes} bytes)"


def interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % interval of the mean, by Student's t; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def train(
    net: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Tensor,
    protocol: Protocol,
    random: Random,
    *,
    compile: bool = False,
    on_epoch: Callable[[int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> nn.Module:
    """Train a network on images and labels under a protocol; returns it.

    Args:
        y: int64 [n], or soft [n, classes].
        compile: run the network through ``torch.compile``.
        on_epoch: called after every epoch with its number, from 0.
        stop: asked before every step; true ends the training there.
    Raises:
        ValueError: when the protocol wants a learned step size and nobody gave it one (`Protocol.of`).
    """
    optimizer = protocol.optimizer(net)

    def after(epoch: int) -> None:
        protocol.anneal(optimizer, epoch)
        if on_epoch is not None:
            on_epoch(epoch)

    with random.scope():
        train_network(
            net,
            LabelledImages.of_batch(Batch(x, y)),
            Shuffled(protocol.batch_size),
            ByOptimizer(optimizer),
            random,
            epochs=protocol.passes,
            augment=protocol.augmentation(),
            mix=CutMix(p=protocol.mix) if protocol.mix else None,
            compile=compile,
            loss=F.cross_entropy if protocol.loss == "cross_entropy" else squared_error,
            on_epoch=after,
            stop=stop,
        )
    return net


@torch.no_grad()
def predict(net: nn.Module, test: ClassPool, *, chunk: int | None = None, compile: bool = False) -> Int64[Tensor, " n"]:
    """The most likely output column for every image of a pool, in its class-major order; the network is in eval mode during it."""
    was_training, forward = net.training, compiled() if compile else plain
    net.eval()

    def attempt(size: int) -> Tensor:
        # the last piece starts anew where the pool ends, so that all are of one size
        rows = torch.arange(math.ceil(len(test) / size) * size, device=test.device) % len(test)
        return torch.cat([forward(net, test.rows(part)).argmax(1) for part in rows.split(size)])

    found, _ = in_memory(attempt, min(len(test), chunk or (64 if test.device.type == "cpu" else 4096)), test.device)
    net.train(was_training)
    return found[: len(test)]


def accuracy(net: nn.Module, test: ClassPool, columns: Sequence[int] | None = None, *, compile: bool = False) -> float:
    """Percent of a pool's images that a network names rightly; ``columns``: the output column of each of the pool's classes."""
    return statistics.fmean((predict(net, test, compile=compile) == _truth(test, columns)).float().tolist()) * 100


def _truth(test: ClassPool, columns: Sequence[int] | None) -> Tensor:
    """The output column that is right for every image of a pool."""
    return test.all_labels() if columns is None else torch.tensor(columns, device=test.device)[test.all_labels()]


def evaluate(
    condensed: CondensedSet,
    test: ClassPool,
    net: Net | None = None,
    *,
    protocol: Literal["dc2021", "dm2023", "mtt2022", "bptt2022", "idc2022", "frepo2022"] | Protocol = "dm2023",
    seeds: int = 20,
    seed: int = 0,
    compile: bool = False,
    on_epoch: Callable[[int, int], None] | None = None,
    ranks: Ranks | None = None,
    checkpoint: str | Path | None = None,
) -> Evaluation:
    """Train ``seeds`` fresh networks on a set and test each on a pool of real images.

    The network's outputs are the classes of the set; every class of the test pool must be among them: by name where both have names,
    else by id (`matching_classes`). The test images are used for nothing but the final count. A set made on whitened images is trained
    on, and tested, whitened.

    Args:
        protocol: a name of `PROTOCOLS` or your own `Protocol`.
        seeds: how many networks.
        seed: every network's own seed is derived from this one.
        compile: train and test through ``torch.compile``: worth its tens of seconds from some minutes of training on.
        on_epoch: called with (number of the network, epoch).
        ranks: the processes that share the networks (`ddreplay.ranks.Ranks`). Each is given the same arguments and ends with the same
            evaluation, that of one process.
        checkpoint: a file that keeps what every network answered as soon as it is tested; where it exists, the evaluation goes on with
            the next network. For one process.
    Raises:
        ValueError: when the pool has classes that the set lacks, another image shape or another normalisation; when the protocol
            wants a learned step size and the set has none; when there is no network to train; when a checkpoint is damaged or belongs
            to another evaluation, or several processes are given one.
        AlreadyInUse: when another run is writing the checkpoint.
        StopRequested: when the process was told to stop, after the network at hand was tested and kept.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1 network, got {seeds}")
    if ranks is not None and checkpoint is not None:
        raise ValueError(
            f"checkpoint keeps the networks of one process, got {str(checkpoint)!r} and ranks; leave one out"
        )
    protocol = (PROTOCOLS[protocol] if isinstance(protocol, str) else protocol).of(condensed)
    answers = _Answers()
    matched = matching_classes(condensed, test)
    _check_fit(condensed, test)
    ids, space = condensed.class_ids, condensed.space
    batch = condensed.in_space()
    test = test if space is None else space.pool(test)
    y = condensed.soft_labels
    y = torch.searchsorted(torch.tensor(sorted(ids)), batch.y.cpu()) if y is None else protocol.targets(y)
    columns = [sorted(ids).index(c) for c in matched]
    factory, seeds_of = as_factory(net or ConvNet()), Random(seed)
    truth, labels = _truth(test, columns).cpu(), test.all_labels().cpu()

    def network(random: Random) -> nn.Module:
        with random.scope():
            return factory(test.shape, len(ids)).to(test.device)

    own = [(k, seeds_of.seed()) for k in range(seeds)]
    run = _identity(condensed, test, network(Random(own[0][1], test.device)), protocol, own) if checkpoint else {}
    with Checkpoint(checkpoint, 1, run).opened() as file:
        file.restore(answers)
        with file.guard():
            for k, own_seed in (own if ranks is None else ranks.share(own))[answers.step :]:
                random = Random(own_seed, test.device)
                model = network(random)
                hook = None if on_epoch is None else _numbered(on_epoch, k)
                train(
                    model, batch.x.to(test.device), y.to(test.device), protocol, random, compile=compile, on_epoch=hook
                )
                answers.add(predict(model, test, compile=compile).cpu())
                file.keep(answers)
    found = answers.found if ranks is None else [one for of_rank in ranks.gather(answers.found) for one in of_rank]
    hits = [(one == truth).float() for one in found]
    confusion = torch.zeros(len(test.counts), len(ids), dtype=torch.int64)
    for one in found:
        confusion += _counted(labels, one, confusion.shape)
    per_class = torch.stack(hits).mean(0).split(list(test.counts))
    return Evaluation(
        accuracies=tuple(float(h.double().mean()) * 100 for h in hits),
        protocol=protocol,
        per_class={c: float(h.mean()) * 100 for c, h in zip(test.class_ids.tolist(), per_class, strict=True)},
        seconds=answers.seconds,
        nbytes=condensed.nbytes,
        images=len(batch.x),
        confusion=tuple(map(tuple, confusion.tolist())),
    )


@dataclass
class _Answers:
    """What the networks so far have answered for every test image, and the seconds that it took, earlier processes' too."""

    found: list[Tensor] = field(default_factory=list)
    before: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def step(self) -> int:
        """How many networks are tested."""
        return len(self.found)

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.started

    def add(self, found: Int64[Tensor, " n"]) -> None:
        self.found.append(found)

    def state_dict(self) -> dict[str, Any]:
        return {"answers": self.found, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.found, self.before = list(state["answers"]), float(state["seconds"])


def _identity(
    condensed: CondensedSet, test: ClassPool, net: nn.Module, protocol: Protocol, own: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """What makes an evaluation this one, wherever the set comes from; the first network stands for what makes all of them."""
    content = hashlib.sha256(replace(condensed, provenance={}).to_bytes()).hexdigest()
    names = {"set": content, "test": fingerprint(test), "net": network_digest(net)}
    return {"evaluation": names, "protocol": repr(protocol), "networks": list(own)}


def choose_protocol(
    condensed: CondensedSet,
    held_out: ClassPool,
    net: Net | None = None,
    *,
    among: Sequence[str | Protocol],
    seeds: int = 3,
    seed: int = 0,
) -> Protocol:
    """Of several protocols, that under which networks trained on a set do best on images held out of the training data.

    So step sizes, epochs and augmentation are chosen without the test images, which are read once, when the set is evaluated under
    what this gives. The held-out images must be none that the set was condensed from (`ddreplay.datasets.ImageData.for_tuning`).

    Args:
        among: names of `PROTOCOLS`, or your own.
        seeds: networks for each.
        seed: that of the first network, the same for each.
    Raises:
        ValueError: when there is none to choose from.
    """
    protocols = [PROTOCOLS[one] if isinstance(one, str) else one for one in among]
    if not protocols:
        raise ValueError("among must name at least one protocol, got none")
    found = [evaluate(condensed, held_out, net, protocol=one, seeds=seeds, seed=seed).mean for one in protocols]
    return protocols[found.index(max(found))]


def _counted(rows: Tensor, columns: Tensor, shape: torch.Size) -> Tensor:
    """How often each pair of a row and a column occurs, int64 [rows, columns]."""
    return torch.bincount(rows * shape[1] + columns, minlength=shape.numel()).view(shape).cpu()


def _numbered(on_epoch: Callable[[int, int], None], k: int) -> Callable[[int], None]:
    return lambda epoch: on_epoch(k, epoch)


def matching_classes(condensed: CondensedSet, test: ClassPool) -> list[int]:
    """The class id in the set of every class of a pool.

    Where both sides have names (one class at least is not called by its id), classes of one name are the same; of several of that
    name, the one of the same id. Otherwise classes of one id are the same.

    Raises:
        ValueError: naming the classes of the pool that the set lacks.
    """
    known, asked = _named(condensed.class_ids, condensed.class_names), _named(test.class_ids.tolist(), test.class_names)
    by_name = all(any(name != str(c) for c, name in side.items()) for side in (known, asked))
    found: dict[int, int] = {}
    for class_id, name in asked.items():
        alike = [c for c in known if (known[c] == name if by_name else c == class_id)]
        if alike:
            found[class_id] = class_id if class_id in alike else alike[0]
    missing = [f"{name} ({c})" if name != str(c) else name for c, name in asked.items() if c not in found]
    if missing:
        raise ValueError(
            f"the test data have classes that the set lacks: {', '.join(missing)}; the set has {', '.join(known.values())}; "
            "leave them out (test.select), or condense them too"
        )
    if len(set(found.values())) < len(found):
        raise ValueError(
            f"several classes of the test data have one name, {', '.join(asked.values())}; give them their own"
        )
    return list(found.values())


def _named(ids: Sequence[int], names: Sequence[str]) -> dict[int, str]:
    return dict(zip(ids, names, strict=True))


def _check_fit(condensed: CondensedSet, test: ClassPool) -> None:
    shape: Shape = condensed.shape
    if shape != test.shape:
        raise ValueError(f"the set holds images of shape {shape}, the test pool {test.shape}")
    for part in condensed.parts:
        given = torch.tensor([part.mean, part.std]), torch.tensor([test.mean, test.std])
        if not torch.allclose(*given, atol=1e-4):
            raise ValueError(
                f"the set is normalised with mean {part.mean} and std {part.std}, the test pool with {test.mean} and {test.std}: "
                "build the test pool with the set's own constants"
            )

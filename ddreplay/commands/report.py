"""``ddreplay report``: a page about sets, for people who did not make them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from ddreplay.commands.words import EPOCHS, WORTH_SAYING, Reading, ReadingOptions, Trials, TrialsOptions
from ddreplay.terminal import Bars, check_writable, epochs_bar, say
from ddreplay.terminal import report as tell

if TYPE_CHECKING:
    from ddreplay import ClassPool, CondensedSet
    from ddreplay.backbones import NetFactory
    from ddreplay.evaluation import Protocol

__all__ = ["report"]


def report(
    files: tyro.conf.Positional[tuple[Path, ...]],
    data: str,
    out: Path = Path("report.html"),
    nets: tuple[str, ...] = ("convnet(width=32)",),
    trials: TrialsOptions = Trials(),
    baselines: bool = True,
    reading: ReadingOptions = Reading(),
    json: bool = False,
) -> None:
    """Write one page about sets: their images, what networks learn from them beside real images, mistakes, near copies.

    The page needs nothing beside it and no script; it may be printed.

    Args:
        files: sets written by condense, of the same data.
        data: the data that they were condensed from, as in condense.
        out: the page.
        nets: backbones that are trained on them, such as convnet "resnet18(width=16)".
        trials: how networks are trained.
        baselines: real images at no more bytes beside every set, chosen at random and by herding.
        reading: how data are read; for all sets as for the first.
        json: print one JSON object instead of text.
    """
    from ddreplay import CondensedSet, names
    from ddreplay.baselines import BASELINES
    from ddreplay.commands.reading import about_data, read_as_condensed, real_pool
    from ddreplay.data import pick_device
    from ddreplay.report import check_available, look_into, write_page

    if not files:
        raise ValueError("files must be one set or more, got none; write ddreplay report set.safetensors --data ...")
    trials.chosen()
    check_available()
    pick_device(reading.device)
    factories = {net: names.network(net) for net in nets}
    sets = {name: CondensedSet.load(file) for name, file in zip(_names(files), files, strict=True)}
    check_writable(out)
    read = read_as_condensed(data, next(iter(sets.values())), reading)
    rivals = BASELINES if baselines else ()
    fitted = trials.within(_work(sets, len(factories) * trials.seeds * (1 + len(rivals))))
    chosen = fitted.chosen().on(read.augmentation)

    def pools(condensed: CondensedSet) -> tuple[ClassPool, ClassPool]:
        return real_pool(read, condensed, "train", reading.device), real_pool(read, condensed, "test", reading.device)

    if not json:
        say(about_data(read, "test"))
        if fitted is not trials:
            say(f"{_why(fitted)}; --epochs {EPOCHS} trains them as ddreplay evaluate does")
        _say_time(sets, factories, chosen, fitted, lambda one: pools(one)[1], 1 + len(rivals))
    findings = look_into(
        sets,
        pools,
        factories,
        chosen,
        seeds=trials.seeds,
        seed=trials.seed,
        watch=lambda name, total: epochs_bar(name, total, quiet=json),
        bars=lambda: Bars(quiet=json),
        data=f"{read.name}, {len(read.train_images):,} images to condense, {len(read.test_images):,} to test on",
        command=shlex.join(["ddreplay", *sys.argv[1:]]),
        baselines=rivals,
        notes=() if fitted is trials else (f"The {_why(fitted)}; ddreplay evaluate takes {EPOCHS}.",),
    )
    page = write_page(findings, out)
    accuracies = {
        one.name: {net: str(found["condensed"]) for net, found in one.evaluations.items()} for one in findings.sets
    }
    tell({"page": str(page), "bytes_of_the_page": page.stat().st_size, **accuracies}, json)


def _work(sets: Mapping[str, CondensedSet], networks: int) -> float:
    """Pixels of all images that so many networks on each set see in one epoch; a set's rivals count as itself."""
    return networks * float(sum(len(one) * one.shape[1] * one.shape[2] for one in sets.values()))


def _why(fitted: Trials) -> str:
    return f"networks are trained for {fitted.epochs} epochs, so that so many images of this size take minutes on a processor"


def _say_time(
    sets: Mapping[str, CondensedSet],
    nets: Mapping[str, NetFactory],
    protocol: Protocol,
    trials: Trials,
    test: Callable[[CondensedSet], ClassPool],
    rivals: int,
) -> None:
    """How long all networks will take, and the ways to less; a set's rivals take as long as itself."""
    from ddreplay.forecast import evaluating_seconds, in_words

    how: dict[str, Any] = {"protocol": protocol, "seeds": trials.seeds}
    one = sum(evaluating_seconds(s, test(s), net, **how) for s in sets.values() for net in nets.values())
    expected = rivals * one
    if expected >= WORTH_SAYING:
        networks = trials.seeds * len(sets) * len(nets) * rivals
        ways = ", ".join(filter(None, [trials.shorter(expected, protocol.epochs), "--no-baselines" * (rivals > 1)]))
        say(f"{networks} networks of {protocol.epochs} epochs take about {in_words(expected)} here; less: {ways}")


def _names(files: tuple[Path, ...]) -> list[str]:
    """By the files' names, or by their paths where two are named alike."""
    short = [file.name.removesuffix(".safetensors") for file in files]
    return short if len(set(short)) == len(short) else [str(file) for file in files]

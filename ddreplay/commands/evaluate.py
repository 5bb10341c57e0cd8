"""``ddreplay evaluate``: what networks learn from a set, beside what they learn from real images of as many bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from ddreplay.commands.words import WORTH_SAYING, Resize
from ddreplay.terminal import epochs_bar, report, say

if TYPE_CHECKING:
    from ddreplay.evaluation import Evaluation, Protocol

__all__ = ["evaluate"]

TEN_MINUTES = 600


def evaluate(
    file: tyro.conf.Positional[Path],
    test: str,
    net: str = "convnet",
    protocol: str = "dm2023",
    epochs: int | None = None,
    seeds: int = 5,
    baselines: bool = False,
    per_class: bool = False,
    augment: str | None = None,
    seed: int = 0,
    size: int | None = None,
    resize: Resize | None = None,
    test_fraction: float | None = None,
    root: Path | None = None,
    download: bool = False,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Train fresh networks on a condensed set and test them on real images.

    Args:
        file: a set written by condense.
        test: the data whose test split is used, as in condense.
        net: a backbone and its arguments, such as convnet or "convnet(width=64)".
        protocol: dc2021 (300 epochs), dm2023 (1000 with DSA), mtt2022 (learned step size), bptt2022, idc2022 (CutMix) or frepo2022.
        epochs: another number of epochs; the protocol's name then says so.
        seeds: networks to train.
        baselines: beside it, real images of the train split at no more bytes, chosen at random and by herding, under the same protocol.
        per_class: a row for every class besides.
        augment: operations of a protocol that augments, as in condense. Default: what the set was condensed with.
        seed: every network's own seed is derived from this one.
        size: pixels a side of a folder's images. Default: as they were condensed.
        resize: crop or squash. Default: as they were condensed.
        test_fraction: of every class of a folder without a test split. Default: as it was condensed.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        device: auto, cpu or cuda.
        json: print one JSON object instead of text.
    """
    from ddreplay import CondensedSet, names
    from ddreplay import evaluate as run_evaluation
    from ddreplay.baselines import BASELINES, baseline
    from ddreplay.commands.reading import about_data, read_as_condensed, real_pool
    from ddreplay.data import pick_device
    from ddreplay.forecast import evaluating_seconds

    if seeds < 1:
        raise ValueError(f"seeds must be at least 1 network, got {seeds}")
    pick_device(device)
    factory, chosen = names.network(net), names.protocol(protocol)
    chosen = chosen if epochs is None else chosen.scaled(epochs)
    condensed = CondensedSet.load(file)
    given: dict[str, Any] = {"resize": resize, "test_fraction": test_fraction, "augmentation": augment}
    data = read_as_condensed(test, condensed, root=root, download=download, size=size, **given)
    chosen, pool = chosen.on(data.augmentation).of(condensed), real_pool(data, condensed, "test", device)
    if not json:
        say(about_data(data, "test"))
        expected = evaluating_seconds(condensed, pool, factory, protocol=chosen, seeds=seeds)
        _say_time(expected * (1 + len(BASELINES) * baselines), chosen, seeds, net)
    results: dict[str, Evaluation] = {}
    for name in ("condensed", *(BASELINES if baselines else ())):
        tested = condensed
        if name != "condensed":
            train = real_pool(data, condensed, "train", device)
            tested = baseline(condensed, train, name, net=factory, seed=seed)
        total = seeds * (chosen.epochs + (not chosen.milestones))
        with epochs_bar(name, total, quiet=json) as update:
            how: dict[str, Any] = {"protocol": chosen, "seeds": seeds, "seed": seed, "on_epoch": lambda *_: update()}
            results[name] = run_evaluation(tested, pool, factory, **how)
    classes = dict(enumerate(data.class_names))
    found: dict[str, Any] = {"file": str(file), "net": net, **results["condensed"].as_dict()}
    if baselines:
        found["baselines"] = {name: results[name].as_dict() for name in BASELINES}
    found["summary"] = _text(results, classes if per_class else {})
    report(found, json, "summary")


def _text(results: dict[str, Evaluation], classes: dict[int, str]) -> str:
    """One line, or a row for every set; and a row for every class."""
    if len(results) == 1 and not classes:
        return str(results["condensed"])
    width = max(map(len, [*results, *classes.values(), "per class, %"]))
    lines = [f"{name:<{width}}  {found}, {found.images} images" for name, found in results.items()]
    if len(results) == 1:
        lines = [str(results["condensed"])]
    if classes:
        lines += ["", f"{'per class, %':<{width}}  " + "  ".join(f"{name:>9}" for name in results)]
        for class_id, name in classes.items():
            values = "  ".join(f"{found.per_class[class_id]:>9.1f}" for found in results.values())
            lines.append(f"{name:<{width}}  {values}")
    return "\n".join(lines)


def _say_time(expected: float, protocol: Protocol, seeds: int, net: str) -> None:
    """How long the networks will take, and the ways to less."""
    from ddreplay.forecast import in_words

    if expected < WORTH_SAYING:
        return
    fewer = max(1, int(protocol.epochs * TEN_MINUTES / max(expected, TEN_MINUTES)))
    small = '--net "convnet(width=32)"'
    given = {"--seeds 1": seeds > 1, f"--epochs {fewer}": fewer < protocol.epochs, small: net == "convnet"}
    ways = ", ".join(way for way, helps in given.items() if helps)
    time_taken = f"{seeds} networks of {protocol.epochs} epochs take about {in_words(expected)} here"
    say(f"{time_taken}; less: {ways}" if ways else time_taken)

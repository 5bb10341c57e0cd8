"""``ddreplay evaluate``: what networks learn from a set, beside what they learn from real images of as many bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from ddreplay.commands.words import WORTH_SAYING, Reading, ReadingOptions, Trials, TrialsOptions
from ddreplay.terminal import Bars, check_writable, epochs_bar, report, say

if TYPE_CHECKING:
    from ddreplay.evaluation import Evaluation, Protocol

__all__ = ["evaluate"]


def evaluate(
    file: tyro.conf.Positional[Path],
    test: str,
    net: str = "convnet(width=32)",
    trials: TrialsOptions = Trials(),
    baselines: bool = False,
    per_class: bool = False,
    checkpoint: Path | None = None,
    reading: ReadingOptions = Reading(),
    json: bool = False,
) -> None:
    """Train fresh networks on a condensed set and test them on real images.

    Args:
        file: a set written by condense.
        test: the data whose test split is used, as in condense.
        net: a backbone and its arguments; the papers' is convnet, four times as wide as the default.
        trials: how networks are trained.
        baselines: beside it, real images of the train split at no more bytes, chosen at random and by herding, under the same protocol.
        per_class: a row for every class besides.
        checkpoint: a file that keeps what every network answered, to go on from after an interruption; baselines have one each beside it.
        reading: how data are read.
        json: print one JSON object instead of text.
    """
    from ddreplay import CondensedSet, names
    from ddreplay import evaluate as run_evaluation
    from ddreplay.baselines import BASELINES, baseline
    from ddreplay.commands.reading import about_data, read_as_condensed, real_pool
    from ddreplay.data import pick_device
    from ddreplay.forecast import evaluating_seconds

    if checkpoint is not None:
        check_writable(checkpoint)
    chosen = trials.chosen()
    pick_device(reading.device)
    factory, condensed = names.network(net), CondensedSet.load(file)
    data = read_as_condensed(test, condensed, reading)
    chosen, pool = chosen.on(data.augmentation).of(condensed), real_pool(data, condensed, "test", reading.device)
    if not json:
        say(about_data(data, "test"))
        expected = evaluating_seconds(condensed, pool, factory, protocol=chosen, seeds=trials.seeds)
        _say_time(expected * (1 + len(BASELINES) * baselines), chosen, trials, baselines)
    results: dict[str, Evaluation] = {}
    for name in ("condensed", *(BASELINES if baselines else ())):
        tested = condensed
        if name != "condensed":
            train = real_pool(data, condensed, "train", reading.device)
            with Bars(quiet=json) as bars:
                tested = baseline(condensed, train, name, net=factory, seed=trials.seed, on_progress=bars)
        with epochs_bar(name, trials.seeds * chosen.passes, quiet=json) as update:
            how: dict[str, Any] = {"protocol": chosen, "seeds": trials.seeds, "seed": trials.seed}
            if checkpoint is not None:
                how["checkpoint"] = (
                    checkpoint if name == "condensed" else checkpoint.with_name(f"{checkpoint.name}.{name}")
                )
            results[name] = run_evaluation(tested, pool, factory, **how, on_epoch=lambda *_: update())
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


def _say_time(expected: float, protocol: Protocol, trials: Trials, baselines: bool) -> None:
    """How long the networks will take, and the ways to less."""
    from ddreplay.forecast import in_words

    if expected < WORTH_SAYING:
        return
    on = " on each of three sets" if baselines else ""
    said = f"{trials.seeds} networks of {protocol.epochs} epochs{on} take about {in_words(expected)} here"
    ways = trials.shorter(expected, protocol.epochs)
    say(f"{said}; less: {ways}" if ways else said)

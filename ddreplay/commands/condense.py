"""``ddreplay condense``: a data set becomes a few images per class."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ddreplay.commands.words import WORTH_SAYING, Reading, ReadingOptions
from ddreplay.terminal import Bars, check_writable, report, say

if TYPE_CHECKING:
    from ddreplay.condense.condenser import Condenser
    from ddreplay.datasets import ImageData

__all__ = ["condense"]


def condense(
    data: tyro.conf.Positional[str],
    out: Path = Path("set.safetensors"),
    method: str | None = None,
    images_per_class: int | None = None,
    bytes_per_class: float | None = None,
    max_bytes: int | None = None,
    codec: str | None = None,
    net: str | None = None,
    option: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = (),
    seed: int = 0,
    seconds: float | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
    reading: ReadingOptions = Reading(),
    json: bool = False,
) -> None:
    """Condense a data set into a few images per class.

    Args:
        data: digits, mnist, fashion-mnist, cifar10, cifar100, svhn, gtsrb, imagenet:woof, an .npz file or a folder of class folders.
        out: where the set goes (safetensors).
        method: a paper's method with the paper's settings, or a selection of real images: ddreplay methods lists them. Without one: the
            practical default, in minutes.
        images_per_class: stored images of every class; 10 where no budget is given.
        bytes_per_class: a budget in bytes instead; how many images at which quality follows.
        max_bytes: the same for all classes together.
        codec: float32, float16, uint8, bits, jpeg, webp, avif, thumb or dct, with arguments if any: "jpeg(quality=30)". Default: uint8, and
            avif where the budget is in bytes.
        net: a backbone and its arguments, such as convnet or "convnet(width=64)". Default: the ConvNet of the papers where a method is
            named, else one of width 32.
        option: arguments of the method, such as steps=500 lr=0.5 "networks=banked(size=40)"; ddreplay methods dm explains them.
        seed: the same seed gives the same set.
        seconds: stop after this long, whatever is done by then.
        checkpoint: a file that keeps the state, to go on from after an interruption.
        checkpoint_every: steps from one writing of it to the next.
        reading: how data are read.
        json: print one JSON object instead of text.
    """
    from ddreplay import Budget, datasets, names
    from ddreplay.commands.reading import about_data
    from ddreplay.condense.condenser import taken
    from ddreplay.condense.loss_curve import LossCurve, TermCurves
    from ddreplay.forecast import condensing_seconds

    given: dict[str, Any] = {
        "images_per_class": images_per_class,
        "bytes_per_class": bytes_per_class,
        "max_bytes": max_bytes,
    }
    budget = Budget.of(**given) if any(v is not None for v in given.values()) else Budget.images(10)
    _check(seconds, checkpoint_every, reading.device)
    how: dict[str, Any] = {"method": method, "net": net, "options": option, "codec": codec}
    _condenser(**how)  # what cannot be read is refused before the data are read
    for path in (out, *([] if checkpoint is None else [checkpoint])):
        check_writable(path)
    read = {"resize": "crop", "test_fraction": 0.3, **reading.said}
    found = datasets.load(data, **reading.found, **read)
    condenser, pool = _condenser(**how, data=found), found.pool("train", device=reading.device)
    if not json:
        say(about_data(found, "train"))
        if method is not None or seconds is None:
            _say_time(condensing_seconds(condenser, pool, budget, patience=3.0 if method else 1.0), method, seconds)
    started, curve, terms = time.perf_counter(), LossCurve(), TermCurves()
    with Bars(quiet=json) as bars:
        more: dict[str, Any] = {"seconds": seconds, "on_progress": bars, "checkpoint": checkpoint}
        more |= {"on_step": curve, "on_terms": terms}
        more |= {} if checkpoint is None else {"checkpoint_every": checkpoint_every}
        condensed = condenser(pool, budget, seed=seed, **taken(condenser, **more))
    about = {"name": found.name, "size": reading.size, **read, "augmentation": found.augmentation}
    provenance = {**condensed.provenance, "budget": str(budget), "data": about}
    provenance |= {"loss": curve.points()} if curve.points() else {}
    provenance |= {"loss_terms": terms.points()} if terms.points() else {}
    condensed = replace(condensed, provenance=provenance)
    condensed.save(out)
    report(
        {
            "file": str(out),
            "data": about_data(found, "train"),
            "method": provenance["method"] if method is not None else f"{provenance['method']} (the practical default)",
            "budget": str(budget),
            "classes": len(condensed.class_ids),
            "stored_images": condensed.stored_images,
            "nbytes": condensed.nbytes,
            "codecs": ", ".join(sorted({names.written(part.codec) for part in condensed.parts})),
            "file_bytes": out.stat().st_size,
            "seconds": round(time.perf_counter() - started, 2),
            **({"cut_short": "; ".join(provenance["cut"])} if "cut" in provenance else {}),
        },
        json,
    )


def _check(seconds: float | None, checkpoint_every: int, device: str) -> None:
    """Refuse what is wrong whatever the data are."""
    from ddreplay.condense.condenser import Deadline
    from ddreplay.data import pick_device

    Deadline(seconds)
    pick_device(device)
    if checkpoint_every < 1:
        raise ValueError(f"checkpoint_every must be at least 1 step, got {checkpoint_every}")


def _condenser(
    *,
    method: str | None,
    net: str | None,
    options: Sequence[str],
    codec: str | None,
    data: ImageData | None = None,
) -> Condenser:
    """What condenses; without data: as far as it can be made without them."""
    from ddreplay import names
    from ddreplay.condense.condenser import stored_by
    from ddreplay.methods import Practical

    if method is None and options:
        raise ValueError(
            f"option {options[0]!r} is of a method, and none is named: add --method dm, or another of ddreplay methods"
        )
    strategy = None if data is None else data.augmentation
    made: Condenser
    if method is None:
        made = Practical(None if net is None else names.network(net), strategy=strategy)
    else:
        made = names.condenser(method, net=net or "convnet", options=options, augment=strategy)
    return stored_by(made, None if codec is None else names.codec(codec))


def _say_time(expected: float | None, method: str | None, seconds: float | None) -> None:
    """How long it will take, and the way to less."""
    from ddreplay import names
    from ddreplay.forecast import in_words
    from ddreplay.networks import Fresh

    if expected is None or expected < WORTH_SAYING or (seconds is not None and seconds < expected):
        return
    if method is None:
        say(f"this takes about {in_words(expected)} here; --seconds 60 does with less time what can be done in it")
        return
    name = method.partition("(")[0]
    known = names.options(name) if name in names.KINDS["method"] else {}
    count = next((n for n in ("rounds", "iterations", "steps") if n in known), None)
    ways = ["--seconds 600 stops in time"]
    if "networks" in known and known["networks"].default == Fresh():
        ways.append('--option steps=1000 "networks=banked(size=20)" does far less')
    elif count is not None and name not in names.KINDS["selection"]:
        ways.append(f"--option {count}=N does as many as you say")
    say(f"{method} takes about {in_words(expected)} here; less: {', '.join(ways)}, no --method is a matter of minutes")

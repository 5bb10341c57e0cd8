"""The command line: condense, evaluate, show, export, methods."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm

from ddreplay import __version__, names
from ddreplay.condense.condenser import Condenser, Deadline, stored_by, taken
from ddreplay.data.pool import ClassPool, pick_device
from ddreplay.datasets import ImageData, load
from ddreplay.evaluate import Protocol
from ddreplay.evaluate import evaluate as run_evaluation
from ddreplay.forecast import condensing_seconds, evaluating_seconds, in_words
from ddreplay.methods.practical import Practical
from ddreplay.networks import Fresh
from ddreplay.storage.budget import Budget
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.contact_sheet import contact_sheet
from ddreplay.terminal import Bars, check_writable, exit_codes, report, say

__all__ = ["main"]

Resize = Literal["crop", "squash"]
WORTH_SAYING = 60  # seconds that something must take before its time is said
TEN_MINUTES = 600


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
    augment: str | None = None,
    seed: int = 0,
    seconds: float | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
    size: int | None = None,
    resize: Resize = "crop",
    test_fraction: float = 0.3,
    root: Path | None = None,
    download: bool = False,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Condense a data set into a few images per class.

    Args:
        data: digits, mnist, fashion-mnist, cifar10, cifar100, svhn, gtsrb, an .npz file or a folder of class folders.
        out: where the set goes (safetensors).
        method: a paper's method with the paper's settings, or a selection of real images: ddreplay methods lists them. Without one: the
            practical default, in minutes.
        images_per_class: stored images of every class; 10 where no budget is given.
        bytes_per_class: a budget in bytes instead; how many images at which quality follows.
        max_bytes: the same for all classes together.
        codec: float32, float16, uint8, bits, jpeg, webp, avif or dct, with arguments if any: "jpeg(quality=30)". Default: uint8, and avif
            where the budget is in bytes.
        net: a backbone and its arguments, such as convnet or "convnet(width=64)". Default: the ConvNet of the papers where a method is
            named, else one of width 32.
        option: arguments of the method, such as steps=500 lr=0.5 "networks=banked(size=40)"; ddreplay methods dm explains them.
        augment: operations that keep what the images are, joined by underscores: color, crop, cutout, flip, scale, rotate. Default: all,
            without flip for digits, mnist, svhn and gtsrb. For letters or signs: color_crop_cutout_scale_rotate.
        seed: the same seed gives the same set.
        seconds: stop after this long, whatever is done by then.
        checkpoint: a file that keeps the state, to go on from after an interruption.
        checkpoint_every: steps from one writing of it to the next.
        size: for a folder of photos of different sizes (and gtsrb): pixels a side that all get.
        resize: crop: resize the shorter side and cut out the centre; squash: resize both sides.
        test_fraction: of every class of a folder without test/ or val/, held out for testing.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        device: auto, cpu or cuda.
        json: print one JSON object instead of text.
    """
    given: dict[str, Any] = {
        "images_per_class": images_per_class,
        "bytes_per_class": bytes_per_class,
        "max_bytes": max_bytes,
    }
    budget = Budget.of(**given) if any(v is not None for v in given.values()) else Budget.images(10)
    _check(seconds, checkpoint_every, device)
    how: dict[str, Any] = {"method": method, "net": net, "options": option, "codec": codec}
    _condenser(**how)  # what cannot be read is refused before the data are read
    for path in (out, *([] if checkpoint is None else [checkpoint])):
        check_writable(path)
    read: dict[str, Any] = {"size": size, "resize": resize, "test_fraction": test_fraction, "augmentation": augment}
    found = load(data, root=root, download=download, **read)
    condenser, pool = _condenser(**how, data=found), found.pool("train", device=device)
    if not json:
        say(_about(found, "train"))
        if method is not None:
            _say_time(condensing_seconds(condenser, pool, budget), method, seconds)
    started = time.perf_counter()
    with Bars(quiet=json) as bars:
        more: dict[str, Any] = {"seconds": seconds, "on_progress": bars, "checkpoint": checkpoint}
        more |= {} if checkpoint is None else {"checkpoint_every": checkpoint_every}
        condensed = condenser(pool, budget, seed=seed, **taken(condenser, **more))
    about = {"name": found.name, **read, "augmentation": found.augmentation}
    provenance = {**condensed.provenance, "budget": str(budget), "data": about}
    condensed = replace(condensed, provenance=provenance)
    condensed.save(out)
    report(
        {
            "file": str(out),
            "data": _about(found, "train"),
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


def evaluate(
    file: tyro.conf.Positional[Path],
    test: str,
    net: str = "convnet",
    protocol: str = "dm2023",
    epochs: int | None = None,
    seeds: int = 5,
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
        protocol: dc2021 (300 epochs), dm2023 (1000 with DSA), mtt2022 (learned step size) or idc2022 (CutMix).
        epochs: another number of epochs; the protocol's name then says so.
        seeds: networks to train.
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
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1 network, got {seeds}")
    pick_device(device)
    factory, chosen = names.network(net), names.protocol(protocol)
    chosen = chosen if epochs is None else chosen.scaled(epochs)
    condensed = CondensedSet.load(file)
    before = condensed.provenance.get("data")
    before = before if isinstance(before, dict) else {}
    given = {"size": size, "resize": resize, "test_fraction": test_fraction, "augmentation": augment}
    read: dict[str, Any] = {k: before.get(k) if v is None else v for k, v in given.items()}
    if not Path(test).is_dir() and test != "gtsrb":
        read |= {"size": size}
    data = load(test, root=root, download=download, **{k: v for k, v in read.items() if v is not None})
    chosen, pool = chosen.on(data.augmentation).of(condensed), _test_pool(data, condensed, device)
    if not json:
        say(_about(data, "test"))
        _say_evaluation_time(
            evaluating_seconds(condensed, pool, factory, protocol=chosen, seeds=seeds), chosen, seeds, net
        )
    with tqdm(
        total=seeds * (chosen.epochs + (not chosen.milestones)), unit=" epochs", disable=json, file=sys.stderr
    ) as bar:
        result = run_evaluation(
            condensed, pool, factory, protocol=chosen, seeds=seeds, seed=seed, on_epoch=lambda _, __: bar.update()
        )
    report({"file": str(file), "net": net, **result.as_dict(), "summary": str(result)}, json, "summary")


def show(file: tyro.conf.Positional[Path], out: Path | None = None, columns: int = 20, json: bool = False) -> None:
    """Draw a labelled contact sheet of a condensed set, and say what is in the file.

    Args:
        file: a set written by condense.
        out: the PNG to write; default: the file's name with .png.
        columns: images in a row.
        json: print one JSON object instead of text.
    """
    picture = out or file.with_suffix(".png")
    condensed = CondensedSet.load(file)
    check_writable(picture)
    contact_sheet(condensed, picture, columns=columns)
    part = condensed.parts[0]
    found = {
        "picture": str(picture),
        "classes": len(condensed.class_ids),
        "stored_images": condensed.stored_images,
        "images": len(condensed),
        "shape": list(condensed.shape),
        "nbytes": condensed.nbytes,
        "header_nbytes": condensed.header_nbytes,
        "codec": part.codec.spec(),
        "decoder": part.decoder.spec(),
        "mean": list(part.mean),
        "std": list(part.std),
    }
    said = {k: v for k, v in condensed.provenance.items() if json or k not in ("settings", "earlier")}
    # what a file says of itself never stands where what is found stands
    report({**found, **{f"provenance_{k}" if k in found else k: v for k, v in said.items()}}, json)


def export(file: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path], json: bool = False) -> None:
    """Write one picture per class, as it is stored, which any viewer opens.

    Args:
        file: a set written by condense.
        out: the folder; files are named by class id and name.
        json: print one JSON object instead of text.
    """
    condensed = CondensedSet.load(file)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for part in condensed.parts:
        for k, (class_id, name) in enumerate(zip(part.class_ids, part.class_names, strict=True)):
            if part.counts[k]:
                label = re.sub(r"[^\w.-]+", "_", name)
                path = out / f"{class_id}{'' if label == str(class_id) else f'_{label}'}.{part.codec.extension}"
                path.write_bytes(part.codec.picture(part.stored, part.counts, part.shape, k))
                written.append(path.name)
    report({"folder": str(out), "pictures": len(written), "files": written}, json)


def methods(name: tyro.conf.Positional[str | None] = None, json: bool = False) -> None:
    """List methods and the parts they are made of, or explain one: its options, their defaults and what they mean.

    Args:
        name: a method or part, such as dm or banked; without one: all of them, a line each.
        json: print one JSON object instead of text.
    """
    if name is not None:
        told = {n: {"default": names.written(o.default), "meaning": o.meaning} for n, o in names.options(name).items()}
        report(told if json else {"text": names.explain(name)}, json, "text")
        return
    found: dict[str, Any] = dict(names.listing())
    blocks = ["\n".join([_TITLES[kind], *(f"  {n:<24}{line}" for n, line in found[kind].items())]) for kind in found]
    more = "ddreplay methods NAME explains one of them."
    report(found if json else {"text": "\n\n".join([*blocks, more])}, json, "text")


_TITLES = {
    "method": 'methods: --method dm, --method "whitened(mtt)"',
    "selection": "selections of real images: --method herding",
    "net": 'what a network is: --net "convnet(width=64)", or net=... of a part',
    "networks": 'which networks look at the images: --option "networks=banked(size=40)"',
    "parameterize": 'how stored numbers become images: --option "parameterize=partitioned(2)"',
    "codec": 'how images are stored: --codec "jpeg(quality=30)"',
    "augment": "what both sides undergo: --option augment=identity",
    "mix": 'mixing across classes: --option "mix=cutmix(p=0.5)"',
    "scope": 'when classes are matched together (dcc, dsac): --option "scope=warmup(rounds=None, steps=10)"',
    "loops": 'how often a network is shown (dc, dsa, dcc, dsac): --option "loops=(1, 1)"',
    "pretrained": "a start for networks of a queue: model_queue(pretrained=pretrained)",
    "draw": "which real images are looked at: --option draw=representative",
    "init": "where images start: pixels(init=representative_images); or init=real, init=noise",
    "choose": 'how many images a budget in bytes is spent on: --option "choose=fixed(40)"',
    "optimizer": 'how images step: --option "optimizer=sgd(lr=0.1)"',
    "term": 'what must agree besides: --option "plus=(mutual_information, 0.8)"',
}


def _check(seconds: float | None, checkpoint_every: int, device: str) -> None:
    """Refuse what is wrong whatever the data are."""
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


def _say_time(expected: float | None, method: str, seconds: float | None) -> None:
    """How long a paper's settings will take, and the way to less."""
    if expected is None or expected < WORTH_SAYING or (seconds is not None and seconds < expected):
        return
    name = method.partition("(")[0]
    known = names.options(name) if name in names.KINDS["method"] else {}
    count = next((n for n in ("rounds", "iterations", "steps") if n in known), None)
    ways = ["--seconds 600 stops in time"]
    if "networks" in known and known["networks"].default == Fresh():
        ways.append('--option steps=1000 "networks=banked(size=20)" does far less')
    elif count is not None:
        ways.append(f"--option {count}=N does as many as you say")
    say(f"{method} takes about {in_words(expected)} here; less: {', '.join(ways)}, no --method is a matter of minutes")


def _say_evaluation_time(expected: float, protocol: Protocol, seeds: int, net: str) -> None:
    if expected < WORTH_SAYING:
        return
    fewer = max(1, int(protocol.epochs * TEN_MINUTES / max(expected, TEN_MINUTES)))
    small = '--net "convnet(width=32)"'
    given = {"--seeds 1": seeds > 1, f"--epochs {fewer}": fewer < protocol.epochs, small: net == "convnet"}
    ways = ", ".join(way for way, helps in given.items() if helps)
    time_taken = f"{seeds} networks of {protocol.epochs} epochs take about {in_words(expected)} here"
    say(f"{time_taken}; less: {ways}" if ways else time_taken)


def _about(data: ImageData, split: Literal["train", "test"]) -> str:
    """What was read, in one line."""
    images = data.train_images if split == "train" else data.test_images
    c, h, w = data.shape
    shown = ", ".join(data.class_names[:8]) + (", ..." if data.classes > 8 else "")
    read = f"{len(images)} images to {'condense' if split == 'train' else 'test on'}, {c} x {h} x {w}, {data.classes} classes ({shown})"
    return "; ".join([read, *data.notes])


def _test_pool(data: ImageData, condensed: CondensedSet, device: str) -> ClassPool:
    part = condensed.parts[0]
    names_of = dict(enumerate(data.class_names))
    return ClassPool(
        data.test_images, data.test_labels, mean=part.mean, std=part.std, class_names=names_of, device=device
    )


def main(arguments: list[str] | None = None) -> None:
    """The console script: exit code 0; 2 with one line on misuse; 130 or 143 when it is told to stop."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        report({"version": f"ddreplay {__version__}"}, False, "version")
        return
    commands: dict[str, Callable[..., Any]] = {
        "condense": condense,
        "evaluate": evaluate,
        "show": show,
        "export": export,
        "methods": methods,
    }
    with exit_codes():
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="ddreplay",
            description="Condensed replay memory: make a set, test it, look at it. --version says which this is.",
            args=arguments,
        )

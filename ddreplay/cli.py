"""The command line: condense, evaluate, show, export."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import tyro
from tqdm import tqdm

from ddreplay import names
from ddreplay.condense.condenser import Condenser
from ddreplay.condense.distiller import Distiller
from ddreplay.data.pool import ClassPool
from ddreplay.datasets import ImageData, load
from ddreplay.evaluate import PROTOCOLS
from ddreplay.evaluate import evaluate as run_evaluation
from ddreplay.methods import selections
from ddreplay.storage.budget import check_budget
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.contact_sheet import contact_sheet

__all__ = ["main"]

METHODS = {**names.KINDS["method"], **names.KINDS["selection"]}
make_codec, make_net, options_of = names.codec, names.network, names.options


def condense(
    data: tyro.conf.Positional[str],
    out: Path = Path("set.safetensors"),
    method: str = "dm",
    images_per_class: int | None = None,
    bytes_per_class: float | None = None,
    codec: str | None = None,
    net: str = "convnet",
    option: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = (),
    seed: int = 0,
    seconds: float | None = None,
    checkpoint: Path | None = None,
    root: Path | None = None,
    download: bool = False,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Condense a data set into a few images per class.

    Args:
        data: digits, mnist, fashion-mnist, cifar10, cifar100, svhn, gtsrb, an .npz file or a folder of class folders.
        out: where the set goes (safetensors).
        method: dm, idm, ddm, m3d, ncfm, dc, dsa, dcc, dsac, idc, dream, mtt, tesla, bptt or dd; or a selection of real images: random,
            herding, k_center, k_means, forgetting, el2n or grand.
        images_per_class: stored images of every class; 10 where no budget is given.
        bytes_per_class: a budget in bytes instead; how many images at which quality is chosen on held-out images.
        codec: float32, uint8, jpeg, webp, avif or dct, with arguments if any: "jpeg(quality=30)". Default: uint8, and avif where the
            budget is in bytes.
        net: a backbone and its arguments, such as convnet or "convnet(width=64)".
        option: hyper-parameters of the method, such as steps=500 lr=0.5 bank=40.
        seed: the same seed gives the same set.
        seconds: stop after this long.
        checkpoint: file to go on from after an interruption.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        device: auto, cpu or cuda.
        json: print one JSON object instead of text.
    """
    found = load(data, root=root, download=download)
    pool = found.pool("train", device=device)
    condenser = names.condenser(method, net=net, options=option, augment=found.augmentation)
    if bytes_per_class is None and images_per_class is None:
        images_per_class = 10
    check_budget(images_per_class, bytes_per_class)
    codec = codec or (None if bytes_per_class is None else "avif")
    condenser = condenser if codec is None else selections.stored_by(condenser, make_codec(codec))
    extra: dict[str, Any] = {}
    if isinstance(condenser, Distiller):
        total = condenser.steps if isinstance(condenser.steps, int) else condenser.steps(images_per_class or 1)
        bar = tqdm(total=total, unit="step", disable=json, file=sys.stderr)
        extra = {"seconds": seconds, "checkpoint": checkpoint, "on_step": lambda step, loss: bar.update(step - bar.n)}
    out.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    condensed = condenser(pool, images_per_class, bytes_per_class=bytes_per_class, seed=seed, **extra)
    if extra:
        bar.close()
    condensed.save(out)
    report(
        {
            "file": str(out),
            "method": method,
            "classes": len(condensed.class_ids),
            "stored_images": condensed.stored_images,
            "nbytes": condensed.nbytes,
            "codecs": ", ".join(sorted({repr(part.codec) for part in condensed.parts})),
            "file_bytes": out.stat().st_size,
            "seconds": round(time.perf_counter() - started, 2),
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
    seed: int = 0,
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
        seed: of the first of them.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        device: auto, cpu or cuda.
        json: print one JSON object instead of text.
    """
    condensed = CondensedSet.load(file)
    data = load(test, root=root, download=download)
    pool = _test_pool(data, condensed, device)
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {sorted(PROTOCOLS)}, got {protocol!r}")
    chosen = PROTOCOLS[protocol].on(data.augmentation).scaled(PROTOCOLS[protocol].epochs if epochs is None else epochs)
    with tqdm(total=seeds * (chosen.epochs + 1), unit="epoch", disable=json, file=sys.stderr) as bar:
        result = run_evaluation(
            condensed,
            pool,
            make_net(net),
            protocol=chosen,
            seeds=seeds,
            seed=seed,
            on_epoch=lambda _, __: bar.update(),
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
    condensed = CondensedSet.load(file)
    picture = contact_sheet(condensed, out or file.with_suffix(".png"), columns=columns)
    part = condensed.parts[0]
    provenance = {k: v for k, v in condensed.provenance.items() if json or k not in ("settings", "earlier")}
    report(
        {
            "picture": str(picture),
            "classes": len(condensed.class_ids),
            "stored_images": condensed.stored_images,
            "images": len(condensed),
            "shape": list(condensed.shape),
            "nbytes": condensed.nbytes,
            "header_nbytes": condensed.header_nbytes,
            "codec": part.codec.spec(),
            "layout": dict(part.layout),
            "mean": list(part.mean),
            "std": list(part.std),
            **provenance,
        },
        json,
    )


def export(file: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path], json: bool = False) -> None:
    """Write one picture a class, as it is stored, which any viewer opens.

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


def build(method: str, net: str, options: tuple[str, ...]) -> Condenser:
    """A condenser from its name, a backbone and hyper-parameters written as NAME=VALUE; later options win."""
    return names.condenser(method, net=net, options=options)


def _test_pool(data: ImageData, condensed: CondensedSet, device: str) -> ClassPool:
    part = condensed.parts[0]
    names = dict(enumerate(data.class_names))
    return ClassPool(data.test_images, data.test_labels, mean=part.mean, std=part.std, class_names=names, device=device)


def report(values: dict[str, Any], as_json: bool, line: str | None = None) -> None:
    """One JSON object, or one line (or one row a value) for people."""
    if as_json:
        print(json.dumps(values, default=str))
    elif line is not None:
        print(values[line])
    else:
        width = max(map(len, values))
        for name, value in values.items():
            print(f"{name.replace('_', ' '):<{width}}  {value}")


def main(arguments: list[str] | None = None) -> None:
    """The console script: exit code 0, or 2 with one line on misuse."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"condense": condense, "evaluate": evaluate, "show": show, "export": export},
            prog="ddreplay",
            description="Condensed replay memory: make a set, test it, look at it.",
            args=arguments,
        )
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        print(f"ddreplay: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("ddreplay: interrupted", file=sys.stderr)
        sys.exit(130)

"""``ddreplay methods``: what may be named, and what it means."""

from __future__ import annotations

from typing import Any

import tyro

from ddreplay.name_table import listing
from ddreplay.terminal import report

__all__ = ["methods"]


def methods(name: tyro.conf.Positional[str | None] = None, json: bool = False) -> None:
    """List methods and the parts they are made of, or explain one: its options, their defaults and what they mean.

    Args:
        name: a method or part, such as dm or banked; without one: all of them, a line each.
        json: print one JSON object instead of text.
    """
    if name is not None:
        from ddreplay import names

        told = {n: {"default": names.written(o.default), "meaning": o.meaning} for n, o in names.options(name).items()}
        report(told if json else {"text": names.explain(name)}, json, "text")
        return
    found: dict[str, Any] = dict(listing())
    width = 2 + max(len(name) for lines in found.values() for name in lines)
    rows = {kind: [f"  {name:<{width}}{line}" for name, line in lines.items()] for kind, lines in found.items()}
    blocks = ["\n".join([_TITLES[kind], *rows[kind]]) for kind in found]
    more = "ddreplay methods NAME explains one of them."
    report(found if json else {"text": "\n\n".join([*blocks, more])}, json, "text")


_TITLES = {
    "method": 'methods: --method dm, --method "whitened(mtt)"',
    "selection": "selections of real images: --method herding",
    "net": 'what a network is: --net "convnet(width=64)", or net=... of a part',
    "networks": 'which networks look at the images: --option "networks=banked(size=40)"',
    "parameterize": 'how stored numbers become images: --option "parameterize=partitioned(2)"',
    "kernel": 'which kernel a regression takes: --option "kernel=tangent_kernel"',
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

"""The memories that benchmarks compare, by name: any condenser of the command line, with settings for small machines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ddreplay import ClassPool, CondensedSet, Condenser, Distiller
from ddreplay.cli import build, make_codec, make_net, options_of
from ddreplay.methods.selections import stored_by

__all__ = ["SMALL", "Shared", "memory_condenser"]

_TRAJECTORIES = (
    "iterations=100",
    "steps=12",
    "latest_start=5",
    "experts=4",
    "lr=10.0",
    "lr_lr=1e-4",
    "inner_lr=0.05",
    "lr_expert=0.05",
    "batch_expert=64",
)
_MULTI_FORMATION = ("rounds=10", "steps=10", "images_net=256", "batch_real=32", "lr=0.03", "lr_net=0.05")
_BANK = "networks=banked(size=40)"
SMALL: dict[str, tuple[str, ...]] = {
    "ring": (),
    "random": (),
    "herding": ("epochs=10",),
    "dm": (_BANK, "steps=200"),
    "idm": (
        "networks=model_queue(train_steps=5, batch_size=128, size=20, push_interval=10)",
        "parameterize=partitioned(min_tile=8)",
        "steps=400",
        "batch_real=64",
    ),
    "ddm": (_BANK, "steps=400", "gram=2500.0"),  # for networks 32 wide
    "m3d": ("networks=banked(size=40, images=256)", "steps=400", "lr=5.0"),
    "ncfm": (_BANK, "parameterize=partitioned(min_tile=8)", "steps=400", "lr=5.0"),
    "dc": ("rounds=40", "loops=(1, 1)", "parameterize=pixels", "batch_real=64"),
    "dsa": ("rounds=40", "loops=(1, 1)", "batch_real=64"),
    "dcc": ("rounds=100", "loops=(1, 1)", "batch_real=64"),
    "dsac": ("rounds=100", "loops=(1, 1)", "batch_real=64"),
    "idc": ("parameterize=partitioned(min_tile=8)", *_MULTI_FORMATION),
    "dream": ("parameterize=partitioned(init=representative_images, min_tile=8)", *_MULTI_FORMATION),
    "mtt": _TRAJECTORIES,
    "tesla": _TRAJECTORIES,
    "bptt": (
        "iterations=100",
        "steps=10",
        "lr=1.0",
        "lr_net=0.1",
        "batch_real=32",
        "max_norm=None",
        "parameterize=pixels",
        "strategy='rotate'",
        "memory='graph'",
    ),
    "dd": (
        "iterations=100",
        "steps=10",
        "lr=1.0",
        "lr_net=0.1",
        "batch_real=32",
        "parameterize=pixels",
        "memory='graph'",
    ),
}
"""Settings with which a method condenses an experience of digits in about the time of training on it. Not the papers'. Tiles of
fewer than 8 x 8 pixels are not made: smaller images are stored whole."""


def memory_condenser(
    name: str,
    net: str,
    strategy: str,
    codec: str | None = None,
    *,
    compile: bool = False,
) -> Condenser:
    """A condenser by name, with the DSA operations that suit the data; options follow in parentheses: ``dm(steps=1000)``.

    ``default``: what `CondensedBuffer` condenses with for a budget in bytes.

    compile: run networks through ``torch.compile`` where the method can.

    Raises:
        ValueError: when the name or an option is unknown.
    """
    if name == "default":
        from ddreplay.avalanche import default_condenser  # needs Avalanche, which not every benchmark does

        made = default_condenser(
            True, make_net(net), codec=None if codec is None else make_codec(codec), strategy=strategy
        )
        return replace(made, compile=compile)
    method, _, arguments = name.partition("(")
    method = "random" if method == "ring" else method
    options = list(SMALL.get(method, ()))
    given = [part.strip() for part in _split(arguments.removesuffix(")"))]
    kept = {option.partition("=")[0]: option for option in [*options, *given] if option}
    if "strategy" in options_of(method):
        kept.setdefault("strategy", f"strategy={strategy}")
    condenser = compiled(method, net, tuple(kept.values()), compile=compile)
    return condenser if codec is None else stored_by(condenser, make_codec(codec))


def compiled(method: str, net: str, options: tuple[str, ...], *, compile: bool) -> Condenser:
    """A condenser of the command line, whose networks run through ``torch.compile`` if that is wanted and it has any."""
    if compile and "compile" in options_of(method):
        options = (*options, "compile=True")
    made: Condenser = build(method, net, options)
    return replace(made, compile=True) if compile and isinstance(made, Distiller) else made


def _split(arguments: str) -> list[str]:
    """At commas outside of brackets."""
    parts, depth = [""], 0
    for letter in arguments:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


class Shared:
    """A condenser that condenses the same classes with the same seed and budget once; strategies that differ only in training
    then see the same memory."""

    def __init__(self, condenser: Condenser) -> None:
        self.condenser = condenser
        self.made: dict[Any, CondensedSet] = {}
        self.seconds = 0.0

    def __call__(
        self,
        pool: ClassPool,
        images_per_class: int | None = None,
        *,
        bytes_per_class: int | float | None = None,
        max_bytes: int | None = None,
        seed: int = 0,
    ) -> CondensedSet:
        key = (tuple(pool.class_ids.tolist()), pool.counts, images_per_class, bytes_per_class, max_bytes, seed)
        if key not in self.made:
            self.made[key] = self.condenser(
                pool, images_per_class, bytes_per_class=bytes_per_class, max_bytes=max_bytes, seed=seed
            )
            self.seconds += float(self.made[key].provenance["seconds"])
        return self.made[key]

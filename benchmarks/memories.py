"""The memories that benchmarks compare: any condenser that people type, with settings for small machines where it leaves some open."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ddreplay import Condenser, Distiller, names, selections
from ddreplay.backbones import Net
from ddreplay.methods import BestOf, Practical
from ddreplay.storage.codecs import Codec

__all__ = ["BY_NAME", "SMALL", "condenser", "in_time", "memory_condenser", "spelled"]

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
    "cafe": ("networks=until_settled(window=3, images=16, most_steps=10, most_epochs=3)", "steps=200", "batch_real=64"),
    "kip": ("steps=200", "batch_real=64"),
    "ld": ("rounds=6", "loops=(25, 1)", "lr_net=0.05", "batch_real=32"),
    "frepo": ("networks=trained_pool(size=5, lr=0.003)", "steps=250", "lr=0.01", "batch_real=32"),
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


def _chosen(net: Net, codec: Codec | None, augment: str, compile: bool) -> Condenser:
    """The better of the practical default and herding, on held-out images."""
    return BestOf(Practical(net, codec, augment, compile), (selections.herding(net, codec=codec),))


BY_NAME: dict[str, Callable[[Net, Codec | None, str, bool], Condenser]] = {"default": Practical, "chosen": _chosen}
"""Memories that are no expression of `ddreplay.names`: a name -> what makes the condenser of a network that looks, a codec or None, the
DSA operations, and whether to compile."""


def in_time(text: str) -> tuple[str, float | None]:
    """A memory, and the share of the training time before that its condensing may take, if it says one after an at sign.

    Raises:
        ValueError: when the share is no positive number.
    >>> in_time("default@0.5"), in_time("herding")
    (('default', 0.5), ('herding', None))
    """
    name, at, share = text.partition("@")
    if not at:
        return name, None
    try:
        found = float(share)
    except ValueError:
        found = 0.0
    if not 0 < found < math.inf:
        raise ValueError(
            f"{text!r}: after the @ stands a share of the training time, such as default@0.5, got {share!r}"
        )
    return name, found


def spelled(text: str, settings: Mapping[str, Sequence[str]] = SMALL) -> str:
    """A memory with the settings that it leaves open: what is run, and what its record says.

    Args:
        text: as `ddreplay.names.condenser` reads it; ``ring`` is another name of ``random``.
        settings: those of every method, as NAME=VALUE.

    >>> spelled("dm(steps=1000)")
    'dm(steps=1000, networks=banked(size=40))'
    >>> spelled("ring"), spelled("default@2")
    ('random', 'default@2')
    """
    text, share = in_time(text)
    if share is not None:
        return f"{spelled(text, settings)}@{share:g}"
    name, bracket, _ = text.partition("(")
    method = {"ring": "random"}.get(name, name)
    left_open = settings.get(method, ())
    try:
        call = ast.parse(text if bracket else f"{name}()", mode="eval").body
    except SyntaxError:
        return text  # what is wrong with it is said by the names that read it
    if not isinstance(call, ast.Call):
        return text
    given = {keyword.arg for keyword in call.keywords}
    arguments = [ast.unparse(argument) for argument in [*call.args, *call.keywords]]
    arguments += [option for option in left_open if option.partition("=")[0] not in given]
    return f"{method}({', '.join(arguments)})" if arguments else method


def memory_condenser(
    text: str,
    net: str,
    augment: str,
    codec: str | None = None,
    *,
    compile: bool = False,
) -> Condenser:
    """A condenser by name, with `SMALL` settings where it leaves any open: ``dm(steps=1000)``.

    A name of `BY_NAME` is made there: ``default`` is what condenses where nobody names a method (`ddreplay.methods.Practical`),
    ``chosen`` the better of it and herding (`ddreplay.methods.BestOf`).

    Args:
        augment: the DSA operations that suit the data.
        compile: run networks through ``torch.compile`` where the method can.
    Raises:
        ValueError: when the name or an option is unknown.
    """
    text, _ = in_time(text)
    made_here = BY_NAME.get(text)
    if made_here is not None:
        return made_here(names.network(net), None if codec is None else names.codec(codec), augment, compile)
    options = [] if codec is None else [f"codec={codec}"]
    return condenser(spelled(text), net, augment, options, compile=compile)


def condenser(text: str, net: str, augment: str, options: Sequence[str] = (), *, compile: bool = False) -> Condenser:
    """What `ddreplay.names` reads, with its networks run through ``torch.compile`` if that is wanted and it has any."""
    options = [*options, *(["compile=True"] if compile and _has(text.partition("(")[0], "compile") else [])]
    made = names.condenser(text, net=net, options=options, augment=augment)
    return replace(made, compile=True) if compile and isinstance(made, Distiller) else made


def _has(method: str, option: str) -> bool:
    known = {**names.KINDS["method"], **names.KINDS["selection"]}
    return method in known and option in names.options(method)

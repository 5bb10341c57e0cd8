"""With which settings a row of a paper is run: the papers' own by data set and budget, or small ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from benchmarks.memories import SMALL, spelled
from benchmarks.papers.published import WHOLE, Row
from ddreplay import names
from ddreplay.augment import DIGITS, NATURAL
from ddreplay.evaluation import Protocol
from ddreplay.methods.gradient import DCC_LOOPS
from ddreplay.methods.published_settings import IDM_SETTINGS, MTT_SETTINGS, idm_settings

__all__ = ["SMALL_EPOCHS", "SMALL_HERE", "NotRun", "Scale", "Setting", "base_method", "setting"]

Scale = Literal["small", "full"]


class NotRun(ValueError):
    """A row that cannot be run, and why."""


@dataclass(frozen=True)
class Setting:
    """How a row is run.

    Attributes:
        condenser: As `ddreplay.names` reads it, with everything that differs from the method's defaults.
        net: The network that condenses.
        test_net: The network that is trained on the set.
        protocol: How it is trained.
        normalization: Of the images, as `ddreplay.datasets.load` takes it.
        sets, networks: Sets that are condensed, and networks that are trained on each.
        train_per_class: The first so many training images of every class; None: all.
        note: What the papers leave open, or this does otherwise.
        instead: What was asked for in place of the paper's settings, as NAME=VALUE.
    """

    condenser: str
    net: str
    test_net: str
    protocol: Protocol
    normalization: str
    sets: int
    networks: int
    train_per_class: int | None = None
    note: str = ""
    instead: tuple[str, ...] = ()


SETS = {"dcc": (5, 20), "idm": (5, 5), "mim4dd": (5, 5), "ddm": (5, 5)}
"""Sets and networks on each that the papers average over. DCC trains 100 networks on one coreset; here they share five."""

SMALL_EPOCHS = 0.2
"""Share of a protocol's epochs at the small scale."""

SMALL_SETS, SMALL_NETWORKS, SMALL_TRAIN = 3, 1, 500

_LOOPS = ("rounds=8", "loops=(10, 3)", "parameterize=pixels", "lr_net=0.05", "batch_real=64")
_BANK = ("networks=banked(size=20)", "steps=300", "lr=4.0")
SMALL_HERE: dict[str, tuple[str, ...]] = {
    "dm": _BANK,
    "ddm": _BANK,
    "dc": (*_LOOPS, "lr=2.0"),
    "dsa": (*_LOOPS, "lr=2.0"),
    "dcc": (*_LOOPS, "lr=6.0"),
    "dsac": (*_LOOPS, "lr=6.0"),
    "el2n": ("networks=2",),
    "grand": ("networks=2",),
}
"""Settings of the small scale for 32 x 32 images and networks 32 wide, whose sums over features are a quarter; other methods have those
of benchmarks/memories.py."""

PROTOCOL = {
    "dsa": "dm2023",
    "dsac": "dm2023",
    "dm": "dm2023",
    "idm": "dm2023",
    "ddm": "dm2023",
    "cafe+dsa": "dm2023",
    "mtt": "mtt2022",
    "tesla": "mtt2022",
    "bptt": "bptt2022",
    "idc": "idc2022",
    "dream": "idc2022",
    "frepo": "frepo2022",
}
"""How each method's own paper trains on a set; dc2021 for all others, coresets included."""

_OWN_NORMALIZATION = ("dm", "idm", "ddm", "random", "herding", "forgetting")
_UNWHITENED = {("cifar10", 50), ("cifar100", 10)}
_NETS = {"tinyimagenet": "convnet(depth=4)", "imagenet100": "convnet(depth=6)"}
_CLASSES = {"mnist": 10, "svhn": 10, "cifar10": 10, "cifar100": 100, "tinyimagenet": 200, "imagenet100": 100}
"""Of the data sets whose rows name a number of real images of all classes together."""

_TESLA = {("cifar10", 1): {"latest_start": 5, "lr": 500.0}, ("cifar100", 50): {"lr": 500.0}}
"""Of the released commands; the step size is half, since the library does not lose the gradient's factor of 2."""


def base_method(method: str) -> str:
    """The method that stands in front of what is added to it.

    >>> base_method("mtt+mim4dd"), base_method("cafe+dsa"), base_method("dm")
    ('mtt', 'cafe', 'dm')
    """
    return method.partition("+")[0]


def setting(row: Row, scale: Scale, instead: Sequence[str] = (), condense_net: str | None = None) -> Setting:
    """How a row is run at a scale.

    Args:
        instead: Arguments of the method in place of the paper's, as NAME=VALUE; `Setting.instead` says them.
        condense_net: The network that condenses in place of the paper's; the one that is tested stays.
    Raises:
        NotRun: where it cannot be, with the reason.
        ValueError: for an argument that is not NAME=VALUE.
    """
    method = base_method(row.method)
    if row.method == WHOLE:
        raise NotRun("all real images: nothing is condensed")
    if row.images_per_class is None or " " in row.method:
        raise NotRun("the paper prints a difference without its setting")
    if method == "c_score":
        raise NotRun("its published scores are needed: compare runs c_score(file=...)")
    if method not in {**names.KINDS["method"], **names.KINDS["selection"]}:
        raise NotRun(f"{method} is not in the library")
    protocol = names.protocol(PROTOCOL.get(row.method, PROTOCOL.get(method, "dc2021")))
    protocol = protocol.scaled(600) if row.method == "cafe" else protocol  # of its released code
    net = _condensing_net(row)
    options, note = _options(row, method)
    other = _instead(instead)
    full = _written(method, {**options, **other}, whitened=_whitened(row, method))
    sets, networks = SETS[row.paper]
    found = Setting(full, net, row.network or net, protocol, _normalization(row, method), sets, networks, note=note)
    found = found if scale == "full" else _small(found, row, method, other)
    said = (*instead, *(() if condense_net is None else (f"condense_net={condense_net}",)))
    return replace(found, net=condense_net or found.net, instead=said)


def _instead(options: Sequence[str]) -> dict[str, str]:
    """Arguments by name, as they are written."""
    found = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not (equals and name.isidentifier() and value):
            raise ValueError(f"instead must be NAME=VALUE, such as networks=banked(size=100), got {option!r}")
        found[name] = value
    return found


def _small(full: Setting, row: Row, method: str, other: Mapping[str, str]) -> Setting:
    """The same row with narrow networks, few steps, epochs and seeds."""
    kept = {name: value for name, value in _options(row, method)[0].items() if name == "strategy"} | _variant(
        row, method
    )
    text = spelled(_written(method, {**kept, **other}, codec=False), {**SMALL, **SMALL_HERE})
    protocol = full.protocol.scaled(max(1, round(SMALL_EPOCHS * full.protocol.epochs)))
    narrow = {"convnet": "convnet(width=32)", "convnet(depth=6)": "convnet(width=32, depth=6)"}
    narrow["convnet(depth=4)"] = "convnet(width=32, depth=4)"
    return replace(
        full,
        condenser=text,
        net=narrow.get(full.net, full.net),
        test_net=narrow.get(full.test_net, full.test_net),
        protocol=protocol,
        sets=SMALL_SETS,
        networks=SMALL_NETWORKS,
        train_per_class=SMALL_TRAIN,
        note="small",
    )


def _condensing_net(row: Row) -> str:
    condensed_with = row.variant.removeprefix("condensed with ")
    if condensed_with != row.variant:
        return condensed_with
    if row.paper == "idm" and row.dataset == "tinyimagenet":
        return "convnet(depth=3)"  # the released command, and Sec. 5.1
    return _NETS.get(row.dataset, "convnet")


def _normalization(row: Row, method: str) -> str:
    """Whose constants: those of DCC's code differ on CIFAR-100, its fine-grained groups have their own."""
    if row.dataset.startswith("imagenet32") or row.dataset == "imagenet100":
        return "train"
    if row.dataset != "cifar100":
        return row.dataset
    return "cifar100" if row.paper != "dcc" and method in _OWN_NORMALIZATION else "cifar100:dcc"


def _whitened(row: Row, method: str) -> bool:
    """MTT, TESLA and BPTT were published on whitened CIFAR images, but for two rows of MTT."""
    key = (row.dataset, row.images_per_class)
    if method in ("bptt", "frepo"):
        return row.dataset in ("cifar10", "cifar100")
    return method in ("mtt", "tesla") and row.dataset in ("cifar10", "cifar100") and key not in _UNWHITENED


def _written(method: str, options: Mapping[str, Any], *, whitened: bool = False, codec: bool = True) -> str:
    """The method as people type it. Sets are stored in 32 bits, as the papers' are."""
    given = {**options, **({"codec": "float32"} if codec else {})}
    written = [f"{name}={value if isinstance(value, str) else names.written(value)}" for name, value in given.items()]
    text = f"{method}({', '.join(written)})" if written else method
    return f"whitened({text})" if whitened else text


def _options(row: Row, method: str) -> tuple[dict[str, Any], str]:
    """What differs from the method's defaults at full size, and a note."""
    count = row.images_per_class or 1
    key = (row.dataset, count)
    options: dict[str, Any] = {}
    note = ""
    if row.paper == "dcc" and method in ("dc", "dsa"):
        options = {"loops": DCC_LOOPS(count), "parameterize": "pixels"}
        note = "loops and start of DCC's code"
    elif method == "idm":
        known = {name for name, _ in IDM_SETTINGS}
        released = idm_settings(*key) if row.dataset in known else {}
        options = {name: value for name, value in released.items() if name != "net"}  # `_condensing_net` has it
    elif method in ("mtt", "tesla"):
        own = MTT_SETTINGS.get(key)
        note = "" if own else "no published settings for these data: those of CIFAR-10"
        options = dict(own or MTT_SETTINGS["cifar10", count])
        if method == "tesla":
            options = {**options, "iterations": 10000, "published": True, **_TESLA.get(key, {})}
        options = {k: v for k, v in options.items() if v is not None}
    elif method in ("idc", "dream") and row.dataset == "mnist":
        options = {"metric": "'l1'"}
    elif method == "bptt":  # its own operations, not all that suit the data
        options = {
            "strategy": "'rotate'" if row.dataset == "mnist" else "'flip_rotate'",
            "parameterize": "pixels(xavier_noise)",
        }
    elif method == "cafe":
        halved = "halved(sgd(lr=0.1, momentum=0.5), after=(12000, 16000, 18000))"
        options = {"steps": 20000, "optimizer": halved}
        note = "2,000 networks of ten updates at least, in the released code"
        if row.method == "cafe+dsa":
            options["strategy"] = repr(DIGITS if row.dataset == "mnist" else NATURAL)
    elif method == "frepo":
        options = {
            "optimizer": "cosine(lamb(lr=0.0003), steps=500000, to=0.1)",
            "batch_real": 1024 // _CLASSES[row.dataset],
        }
    elif method == "kip":
        options = {"batch_real": 5000 // _CLASSES[row.dataset]}  # of the notebook: 5,000 in all, of every class as many
    elif method == "herding":
        options = {"epochs": 40, "order": "nearest"}
    elif method == "forgetting":
        options, note = {"count": "misclassified", "epochs": 5}, "most often wrong first"
    elif method in ("el2n", "grand"):
        note = "easiest first; the paper does not say how long networks are trained"
    return {**options, **_variant(row, method)}, note


def _variant(row: Row, method: str) -> dict[str, Any]:
    """What the row's variant changes."""
    variant = row.variant
    if row.method.endswith("+mim4dd"):
        term = f"mutual_information({variant})" if "=" in variant else "mutual_information"
        return {"plus": f"({term}, 0.8)"}
    if variant == "no warm-up":
        return {"scope": "set"}
    if variant == "inner warm-up":
        raise NotRun("the paper does not say after how many steps of a network its simple warm-up ends")
    if method == "idm" and variant.startswith("condensed with"):
        return {"parameterize": "pixels"}
    if method == "idm" and " x " in variant:
        factor = int(variant[0])
        return {"parameterize": "pixels" if factor == 1 else f"partitioned({factor})"}
    if method == "idm" and variant.startswith("model sampling"):
        return {"parameterize": "pixels", **({} if "regularisation" in variant else {"weight": 0.0})}
    if method == "ddm":
        parts = {"moments": 1e4, "gram": 1e4, "diversity": 10.0}
        return {name: weight if name in variant else 0.0 for name, weight in parts.items()}
    if variant == "wide":
        raise NotRun("the width of the wide network is not given")
    if variant.endswith("steps"):
        raise NotRun("run by python -m benchmarks gdumb")
    return {}

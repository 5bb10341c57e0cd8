"""What people type becomes an object here: names, and expressions such as ``dm(steps=500, networks=banked(size=40))``."""

from __future__ import annotations

import ast
import difflib
import inspect
import shutil
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, fields, is_dataclass, replace
from typing import Any, NamedTuple, cast

from ddreplay.backbones import Net, NetFactory
from ddreplay.condense.condenser import Condenser
from ddreplay.condense.distiller import Distiller
from ddreplay.evaluation import PROTOCOLS, Protocol
from ddreplay.expressions import call_of, fits, literal, meanings, read_option, tree, words
from ddreplay.methods import Whitened
from ddreplay.name_table import KINDS, listing
from ddreplay.networks import with_net
from ddreplay.storage.codecs import Codec

__all__ = [
    "KINDS", "REQUIRED", "Option", "codec", "condenser", "explain", "listing", "network", "options", "parse", "protocol", "written",
]  # fmt: skip

_KIND_OF = {"plus": "term", "pictures": "choose", "others": "choose"}
"""Arguments that are not named after the kind of object they take."""

_MORE = ("augment", "choose", "codec", "compile", "draw", "optimizer")
"""Parts of every `Distiller` or `Selection` that can be exchanged, whether or not its method has an argument for them."""

REQUIRED = inspect.Parameter.empty
"""The default of an option that has none."""


class Option(NamedTuple):
    """One argument of a method or part.

    default: `REQUIRED` where there is none. hint: its type. meaning: what the docstring says of it.
    """

    default: Any
    hint: Any
    meaning: str


def condenser(
    expression: str, *, net: str | Net = "convnet", options: Sequence[str] = (), augment: str | None = None
) -> Condenser:
    """A condenser from what people type.

    Args:
        expression: the name of a method or selection, with arguments if any: ``"dm"``, ``"dm(steps=500, networks=banked(size=40))"``,
            ``"whitened(mtt, rank=64)"``. Besides a method's own arguments: ``augment``, ``choose``, ``codec``, ``compile``, ``draw``,
            ``optimizer`` and ``plus=term`` or ``plus=(term, weight)``.
        net: the network of the method and of every part in it that names none.
        options: more arguments, ``"NAME=VALUE"`` each. Later ones win over earlier ones, and the expression over all of them.
        augment: the DSA operations, where the method has a ``strategy`` and nothing else says which.
    Raises:
        ValueError: for an unknown name, an option that the method does not have, or a value of another kind.
    Example:
        >>> condenser("dm", net="convnet(width=8)", options=["steps=3"]).steps
        3
    """
    given = dict(read_option(option) for option in options)
    return _condenser(tree(expression, "method"), network(net) if isinstance(net, str) else net, given, augment)


def network(text: str) -> NetFactory:
    """A backbone from its name, with arguments if any: ``convnet``, ``bfloat16(convnet(width=64))``."""
    return cast(NetFactory, parse(text, "net"))


def codec(text: str) -> Codec:
    """A codec from its name, with arguments if any: ``avif``, ``jpeg(quality=30)``."""
    return cast(Codec, parse(text, "codec"))


def protocol(text: str) -> Protocol:
    """A protocol of evaluation from its name.

    Raises:
        ValueError: for an unknown one.
    """
    if text not in PROTOCOLS:
        raise ValueError(_unknown("protocol", text, PROTOCOLS))
    return PROTOCOLS[text]


def parse(text: str, kind: str) -> Any:
    """The object of this kind that an expression names: ``parse("banked(size=40)", "networks")``.

    Args:
        kind: a key of `KINDS`.
    Raises:
        ValueError: for an expression of something else.
    """
    name, positional, keywords = call_of(tree(text, kind), kind)
    return _make(_lookup(name, (kind,), kind), positional, keywords)


def options(name: str) -> dict[str, Option]:
    """The arguments of a method or part by name, with their defaults and what its docstring says of them.

    Raises:
        ValueError: for an unknown name.
    Example:
        >>> options("banked")["size"].default
        40
    """
    return _options(_lookup(name))


def explain(name: str, width: int | None = None) -> str:
    """A method or part for people: what it is, its options with their defaults, and what they mean.

    Args:
        width: of a line in characters; ``None``: as wide as the terminal.
    Raises:
        ValueError: for an unknown name.
    """
    make, width = _lookup(name), width or min(140, shutil.get_terminal_size((100, 24)).columns)
    lines = [f"{_name_of(make)}: {_first_line(make)}", ""]
    for argument, option in _options(make).items():
        head = argument if option.default is REQUIRED else f"{argument}={written(option.default)}"
        kind = _KIND_OF.get(argument, argument)
        choices = f" One of: {', '.join(KINDS[kind])}." if kind in KINDS else ""
        text = textwrap.wrap(option.meaning + choices, max(20, width - 6))
        lines += [f"  {head}", *(f"      {line}" for line in text)]
    if make in KINDS["method"].values() and make is not Whitened:
        more = f"Of every method besides: {', '.join(m for m in _MORE if m not in _options(make))}, and plus=term or plus=(term, weight)."
        lines += ["", *textwrap.wrap(more, width)]
    return "\n".join(lines)


def written(value: Any) -> str:
    """A value as people type it: the inverse of `parse`, with arguments that differ from their defaults.

    >>> from ddreplay import ConvNet
    >>> from ddreplay.networks import Banked
    >>> from ddreplay.parameterize import Partitioned
    >>> written(Partitioned(3)), written(Banked(ConvNet(), 40)), written((1, "set"))
    ('partitioned(factor=3)', 'banked(net=convnet)', '(1, set)')
    """
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(written, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, str):
        return value if value.isidentifier() else repr(value)
    if not any(type(value) in table.values() for table in KINDS.values()):
        return " ".join(repr(value).split())
    if not is_dataclass(value):
        return _name_of(type(value))
    changed = [(f.name, getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != _default(f)]
    arguments = ", ".join(f"{key}={written(given)}" for key, given in changed)
    return f"{_name_of(type(value))}({arguments})" if arguments else _name_of(type(value))


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _condenser(node: ast.expr, net: Net, given: Mapping[str, ast.expr], augment: str | None) -> Condenser:
    name, positional, keywords = call_of(node, "method")
    make = _lookup(name, ("method", "selection"), "method")
    known = _options(make)
    if make is Whitened:
        own = {**{k: v for k, v in given.items() if k in known}, **keywords}
        inner = positional[0] if positional else own.pop("condenser", None)
        if inner is None:
            raise ValueError("whitened needs a method: write it like whitened(mtt)")
        rest = {k: v for k, v in given.items() if k not in known}
        whitened: Condenser = _make(make, positional[1:], own, condenser=_condenser(inner, net, rest, augment))
        return whitened
    values = {**given, **keywords}
    more = {k: values.pop(k) for k in (*_MORE, "plus") if k in values and k not in known}
    filled: dict[str, Any] = {}
    if "net" in known and "net" not in values and not positional:
        filled["net"] = net
    if augment is not None and "strategy" in known and known["strategy"].default and "strategy" not in values:
        filled["strategy"] = augment
    return _exchange(_make(make, positional, values, **filled), name, more, net)


def _exchange(made: Any, name: str, more: Mapping[str, ast.expr], net: Net) -> Condenser:
    """The same condenser with other parts, and with a term more."""
    hints = _hints(type(made))
    for argument, node in more.items():
        value = _value(node, argument)
        if argument == "plus":
            made = _plus(made, name, value)
        elif argument not in hints:
            raise ValueError(f"{argument} is no option of {name}; it has {', '.join(_options(_lookup(name)))}")
        else:
            _check(value, hints[argument], argument, name)
            made = replace(made, **{argument: with_net(value, net)})
    return cast(Condenser, made)


def _plus(made: Any, name: str, value: Any) -> Distiller:
    term, weight = value if isinstance(value, tuple) and len(value) == 2 else (value, 1.0)
    if not isinstance(made, Distiller) or not any(isinstance(term, cast(type, t)) for t in KINDS["term"].values()):
        raise ValueError(
            f"plus must be a term or (term, weight), of a method that condenses, got {written(value)} for {name}; "
            f"terms are {', '.join(KINDS['term'])}"
        )
    _check(weight, float, "the weight of plus", name)
    return made.plus(term, weight)


def _lookup(name: str, kinds: Sequence[str] = tuple(KINDS), argument: str = "name") -> Callable[..., Any]:
    """By snake_case or by the name of the class."""
    known = {n: make for kind in kinds for n, make in KINDS[kind].items()}
    found = known.get(name) or next((make for make in known.values() if make.__name__ == name), None)
    if found is None:
        short = [*KINDS["method"], *KINDS["selection"], "or a part of them (ddreplay methods lists all)"]
        raise ValueError(_unknown(argument, name, known, short if len(kinds) == len(KINDS) else known))
    return found


def _unknown(argument: str, name: str, known: Iterable[str], listed: Iterable[str] = ()) -> str:
    close = difflib.get_close_matches(name.lower(), list(known), 1)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"{argument} must be one of {', '.join(listed or known)}, got {name!r}{meant}"


def _make(
    make: Callable[..., Any], positional: Sequence[ast.expr], keywords: Mapping[str, ast.expr], **filled: Any
) -> Any:
    """A call with checked values; ``filled`` are values that are objects already."""
    known, name = _options(make), _name_of(make)
    parameters = inspect.signature(make).parameters.values()
    places = [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY and p.name not in filled]
    if len(positional) > len(places):
        raise ValueError(
            f"{name} takes {len(places)} values without a name, got {len(positional)}; write name=value, with name among {', '.join(known)}"
        )
    nodes = dict(zip(places, positional, strict=False))
    for argument, node in keywords.items():
        if argument not in known:
            raise ValueError(_unknown(f"an option of {name}", argument, known) + _hint(argument, make))
        if argument in nodes:
            raise ValueError(f"{argument} of {name} is given twice")
        nodes[argument] = node
    values = {argument: _value(node, argument) for argument, node in nodes.items()}
    for argument, value in values.items():
        _check(value, known[argument].hint, argument, name)
    required = [argument for argument, option in known.items() if option.default is REQUIRED]
    missing = [argument for argument in required if argument not in {**values, **filled}]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}: write {name}({', '.join(f'{m}=...' for m in missing)})")
    return make(**values, **filled)


def _hint(argument: str, make: Callable[..., Any]) -> str:
    """Which part has this argument, where the method takes such parts."""
    for kind in KINDS:
        if kind in _options(make):
            owner = next((n for n, part in KINDS[kind].items() if argument in inspect.signature(part).parameters), None)
            if owner is not None:
                return f"; {argument} is an option of {owner}: {kind}={owner}({argument}=...)"
    return ""


def _value(node: ast.expr, argument: str) -> Any:
    """A literal, a word, or the object that a name or a call makes, of the kind that the argument takes."""
    kind = _KIND_OF.get(argument, argument)
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_value(part, argument) for part in node.elts)
    if isinstance(node, ast.Name):
        known = kind in KINDS and any(node.id in (n, make.__name__) for n, make in KINDS[kind].items())
        return _make(_lookup(node.id, (kind,), argument), [], {}) if known else node.id
    if isinstance(node, ast.Call):
        name, positional, keywords = call_of(node, argument)
        return _make(_lookup(name, (kind,) if kind in KINDS else tuple(KINDS), argument), positional, keywords)
    return literal(node, argument)


def _name_of(make: Callable[..., Any]) -> str:
    return next((n for table in KINDS.values() for n, known in table.items() if known is make), make.__name__)


def _check(value: Any, hint: Any, argument: str, owner: str) -> None:
    if fits(value, hint):
        return
    choices = list(KINDS.get(_KIND_OF.get(argument, argument), {}))
    known = [*dict.fromkeys(words(hint))]
    close = difflib.get_close_matches(str(value).lower(), [*choices, *known], 1)
    raise ValueError(
        f"{argument} of {owner} must be {' or '.join([*known, *choices])}, got {_shown(value)}"
        + (f"; did you mean {close[0]}?" if close else "")
    )


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else written(value)


def _options(make: Callable[..., Any]) -> dict[str, Option]:
    hints, said = _hints(make), meanings(make, {**KINDS["method"], **KINDS["selection"]})
    return {
        p.name: Option(p.default, hints.get(p.name, Any), said.get(p.name, ""))
        for p in inspect.signature(make).parameters.values()
        if p.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }


def _hints(make: Callable[..., Any]) -> dict[str, Any]:
    """Types of arguments and fields; Python 3.10 takes KW_ONLY, which a dataclass is marked with, for no type."""
    return typing.get_type_hints(make, localns={"KW_ONLY": type(KW_ONLY)})


def _first_line(make: Callable[..., Any]) -> str:
    return (inspect.getdoc(make) or "").partition("\n")[0].replace("`", "")

"""How an expression is read and a value is checked: text to syntax, values against annotations, docstrings to meanings."""

from __future__ import annotations

import ast
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union

__all__ = ["call_of", "fits", "literal", "meanings", "read_option", "tree", "unreadable", "words"]

_READABLE = (ast.Constant, ast.UnaryOp, ast.Tuple, ast.List, ast.Name, ast.Call)


def tree(text: str, argument: str) -> ast.expr:
    """The syntax of an expression.

    Raises:
        ValueError: where it is none.
    """
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise unreadable(argument, text, getattr(error, "msg", "it is too long")) from None


def unreadable(argument: str, text: str, why: str) -> ValueError:
    """The error for what is no expression that can be read."""
    return ValueError(f"{argument} {text!r} cannot be read ({why}); write it like name or name(argument=value)")


def read_option(option: str) -> tuple[str, ast.expr]:
    """NAME=VALUE -> its two parts; a value that is no expression, such as a path, is a word.

    Raises:
        ValueError: where one of the parts is missing.
    """
    name, equals, text = (part.strip() for part in option.partition("="))
    if not equals or not name.isidentifier() or not text:
        raise ValueError(
            f'an option must be NAME=VALUE, such as steps=500 or "networks=banked(size=40)", got {option!r}'
        )
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        node = ast.Constant(text)
    return name, node if isinstance(node, _READABLE) else ast.Constant(text)


def call_of(node: ast.expr, argument: str) -> tuple[str, list[ast.expr], dict[str, ast.expr]]:
    """``name`` or ``name(values, argument=values)`` -> its three parts.

    Raises:
        ValueError: for any other syntax.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value, [], {}
    if isinstance(node, ast.Name):
        return node.id, [], {}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and all(k.arg for k in node.keywords):
        keywords = {k.arg: k.value for k in node.keywords if k.arg}
        if len(keywords) < len(node.keywords):
            raise unreadable(argument, ast.unparse(node), "an argument is given twice")
        return node.func.id, node.args, keywords
    raise unreadable(argument, ast.unparse(node), "it is no name and no call of one")


def literal(node: ast.expr, argument: str) -> Any:
    """A number, a word in quotes, True, False or None.

    Raises:
        ValueError: for any other syntax.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = literal(node.operand, argument)
        if isinstance(number, (int, float)):
            return -number if isinstance(node.op, ast.USub) else number
    raise unreadable(argument, ast.unparse(node), "only values, names and calls of them are read")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type; sequences are tuples here, and whole numbers are numbers."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in arguments)
    if _is_sequence(origin):
        if not isinstance(value, tuple):
            return False
        fixed = origin is tuple and arguments[-1] is not Ellipsis
        inner = arguments if fixed else arguments[:1] * len(value)
        return len(inner) == len(value) and all(map(fits, value, inner))
    if origin is not None and origin is Callable:
        return callable(value)
    if hint is type(None):
        return value is None
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint) if inspect.isclass(hint) else callable(value)


def words(hint: Any) -> list[str]:
    """An annotated type in words, one for each way to fulfil it; objects that have names go without, since these are listed."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return [word for one in arguments for word in words(one)]
    if origin is Literal:
        return [str(one) for one in arguments]
    if _is_sequence(origin):
        inner = [word for one in arguments if one is not Ellipsis for word in words(one)]
        return [f"({', '.join(inner)}{', ...' if len(inner) == 1 else ''})"]
    plain = {int: "a whole number", float: "a number", str: "a word", bool: "True or False", type(None): "None"}
    return [plain[hint]] if hint in plain else []


def _is_sequence(origin: Any) -> bool:
    return inspect.isclass(origin) and issubclass(origin, Sequence)


_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Departures|Reference|Example):")
_ENTRY = re.compile(r"^(\w+(?:, \w+)*): ")
_REFERENCE = re.compile(r"^[Aa]s in `(\w+)`")


def meanings(make: Callable[..., Any], others: Mapping[str, Callable[..., Any]]) -> dict[str, str]:
    """What a docstring says of each argument; "As in `dm`" is looked up among the ``others``."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in (inspect.getdoc(make) or "").splitlines():
        if _SECTION.match(line):
            inside = line.startswith(("Args:", "Attributes:"))
        entry = _ENTRY.match(line.strip()) if inside and len(line) - len(line.lstrip()) == 4 else None
        if entry:
            names = entry[1].split(", ")
            found.update(dict.fromkeys(names, line.strip()[entry.end() :]))
        elif inside and line.startswith(" " * 5):
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
    return {name: _resolved(name, text, others) for name, text in found.items()}


def _resolved(name: str, text: str, others: Mapping[str, Callable[..., Any]]) -> str:
    reference = _REFERENCE.match(text)
    if reference and reference[1] in others:
        there = meanings(others[reference[1]], others).get(name)
        rest = text[reference.end() :].removeprefix(".")
        text = text if there is None else f"{there.rstrip('.')}{rest or '.'}"
    return text.replace("``", "").replace("`", "")

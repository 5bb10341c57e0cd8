"""``python -m benchmarks NAME``: every benchmark is a function, imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from typing import NamedTuple

__all__ = ["COMMANDS", "available", "main"]


class Command(NamedTuple):
    """Where a benchmark's function is (``module:function``) and what it does, in one line."""

    target: str
    summary: str


COMMANDS: dict[str, Command] = {
    "class-incremental": Command(
        "benchmarks.class_incremental:class_incremental", "streams of new classes: accuracy of memories at equal bytes"
    ),
    "bytes-factor": Command(
        "benchmarks.bytes_factor:bytes_factor",
        "bytes that real images need for the accuracy of condensed ones (from records)",
    ),
    "task-incremental": Command(
        "benchmarks.task_incremental:task_incremental", "streams of fine-grained tasks with task labels (DCC)"
    ),
    "fine-grained": Command(
        "benchmarks.fine_grained:fine_grained",
        "gradient matching, class-wise and collective, where classes look alike (DCC)",
    ),
    "gdumb": Command("benchmarks.gdumb:gdumb", "train from scratch on the memory after every step (DM, IDM, DDM)"),
    "contrastive-example": Command(
        "benchmarks.contrastive_example:contrastive_example",
        "DCC's example of signals shared and not shared by classes",
    ),
    "compare": Command("benchmarks.compare:compare", "condensers side by side on one data set, at equal image counts"),
    "paper": Command(
        "benchmarks.paper:paper", "rows of the papers' tables, with the papers' settings, beside their numbers"
    ),
    "mim4dd": Command("benchmarks.mim:mim4dd", "condensers with and without MIM4DD; sweeps of its weights"),
    "unrolling": Command(
        "benchmarks.unrolling:unrolling", "memory and seconds of gradients through inner training, by its ways"
    ),
    "speed": Command("benchmarks.speed:speed", "seconds and peak memory of the condensers, part by part"),
    "precision": Command("benchmarks.precision:precision", "bfloat16, compiling, channels-last: seconds and accuracy"),
    "analyses": Command("benchmarks.analyses:analyses", "what condensed sets look like from inside networks (figures)"),
    "catalogue": Command(
        "benchmarks.catalogue:catalogue",
        "every method on digits: pictures, cost, the catalogue in docs, the example sets",
    ),
    "figures": Command("benchmarks.figures:figures", "the pictures of README and docs, from the records"),
    "report": Command("benchmarks.report.page:report", "one page about records: tables, differences, figures"),
    "soak": Command("benchmarks.soak.command:soak", "kills at random moments, hostile files, hundreds of updates"),
    "shrinking": Command("benchmarks.shrinking:shrinking", "sets that keep their first images, in several orders"),
    "stream-kinds": Command(
        "benchmarks.stream_kinds:stream_kinds",
        "class-, task-, domain-incremental, repeated and online streams at equal bytes",
    ),
    "returning": Command(
        "benchmarks.returning:returning", "what is left of a class's first images when it comes back with others"
    ),
    "scaling": Command("benchmarks.scaling:scaling", "what condensing would take at other sizes, from measured rates"),
    "codecs": Command("benchmarks.codecs:codecs", "what codecs leave of real images at equal bytes"),
    "bytes": Command(
        "benchmarks.bytes_curve:bytes_curve", "accuracy against bytes per class, real and condensed images"
    ),
}


def available() -> dict[str, Command]:
    """The commands whose module is there."""
    return {name: command for name, command in COMMANDS.items() if importlib.util.find_spec(_module(command))}


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark; returns the exit status: 2, with one line, where arguments or data are wrong."""
    given = sys.argv[1:] if arguments is None else arguments
    commands = available()
    if not given or given[0] in ("-h", "--help"):
        print(_help(commands))
        return 0
    try:
        given, backend = _backend(given)
    except ValueError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    if not given:
        print("python -m benchmarks: name a benchmark (--help lists them)", file=sys.stderr)
        return 2
    name, rest = given[0], given[1:]
    if name not in commands:
        near = difflib.get_close_matches(name, commands, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        print(f"there is no benchmark {name!r}{hint} (python -m benchmarks --help lists them)", file=sys.stderr)
        return 2
    import tyro

    function = getattr(importlib.import_module(_module(commands[name])), commands[name].target.partition(":")[2])
    from benchmarks.backends import spread

    try:
        with spread(backend):
            tyro.cli(function, prog=f"python -m benchmarks {name}", args=rest)
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        print(f"python -m benchmarks {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"python -m benchmarks {name}: interrupted; finished cells are in the record", file=sys.stderr)
        return 130
    return 0


def _backend(given: list[str]) -> tuple[list[str], str | None]:
    """The arguments without ``--backend NAME``, and NAME.

    Raises:
        ValueError: when no name stands behind it.
    """
    for k, word in enumerate(given):
        option, equals, value = word.partition("=")
        if option == "--backend":
            rest = given[:k] + given[k + (1 if equals else 2) :]
            value = value if equals else "".join(given[k + 1 : k + 2])
            if not value or value.startswith("-"):
                raise ValueError("--backend needs a name: loky, ray or dask")
            return rest, value
    return given, None


def _module(command: Command) -> str:
    return command.target.partition(":")[0]


def _help(commands: dict[str, Command]) -> str:
    width = max((len(name) for name in commands), default=0)
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in commands.items()]
    return "\n".join(
        [
            "usage: python -m benchmarks NAME [OPTIONS] [--backend loky|ray|dask]",
            "",
            "benchmarks:",
            *(lines or ["  (none)"]),
            "",
            "python -m benchmarks NAME --help explains the options. Results are written as records (JSON).",
            "--backend runs the cells of class-incremental, gdumb and stream-kinds in processes of this machine (loky) or on a cluster;",
            "docs/scaling.md says how.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

"""The command line; every command is a file in ``ddreplay/commands``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import tyro

from ddreplay import __version__
from ddreplay.commands.compare import compare
from ddreplay.commands.condense import condense
from ddreplay.commands.evaluate import evaluate
from ddreplay.commands.export import export
from ddreplay.commands.methods import methods
from ddreplay.commands.report import report as make_report
from ddreplay.commands.show import show
from ddreplay.terminal import exit_codes, report

__all__ = ["main"]


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
        "compare": compare,
        "report": make_report,
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

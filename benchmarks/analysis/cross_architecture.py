"""Does a set condensed with one architecture train another? (DCC, Table 3)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

__all__ = ["Score", "cross_architecture", "cross_architecture_table"]


@runtime_checkable
class Score(Protocol):
    """What an evaluation must tell to stand in the table."""

    @property
    def mean(self) -> float: ...
    @property
    def std(self) -> float: ...


E = TypeVar("E")


S = TypeVar("S", bound=Score)


def cross_architecture(
    condensed: Any, test: Any, nets: Mapping[str, Any], *, evaluate: Callable[..., E], **how: Any
) -> dict[str, E]:
    """One evaluation per target architecture.

    Args:
        condensed, test: passed on to ``evaluate``.
        nets: name -> what ``evaluate`` takes as a network.
        evaluate: called as ``evaluate(condensed, test, net, **how)``.
    """
    return {name: evaluate(condensed, test, net, **how) for name, net in nets.items()}


def cross_architecture_table(rows: Mapping[str, Mapping[str, S]], *, percent: bool = True) -> str:
    """A Markdown table, methods down, architectures across: mean ± standard deviation, a dash where there is none."""
    targets = list(dict.fromkeys(name for row in rows.values() for name in row))
    scale = 100.0 if percent else 1.0

    def cell(score: S | None) -> str:
        return "-" if score is None else f"{scale * score.mean:.1f} ± {scale * score.std:.1f}"

    lines = [["method", *targets], ["---"] * (len(targets) + 1)]
    lines += [[method, *(cell(row.get(target)) for target in targets)] for method, row in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

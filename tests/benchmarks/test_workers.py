"""Cells in this process and in others, and checks of what is typed."""

from __future__ import annotations

import operator
import os
from functools import partial

import pytest
import torch

from benchmarks.checks import among, at_least
from benchmarks.workers import each, processes


def threads_and_process(base: int, cell: int) -> tuple[int, int, int]:
    return base + cell, torch.get_num_threads(), os.getpid()


def test_cells_come_in_order_from_this_process() -> None:
    assert list(each(partial(operator.add, 10), [3, 1, 2], 1)) == [13, 11, 12]


def test_cells_of_other_processes_have_one_thread() -> None:
    found = sorted(each(partial(threads_and_process, 10), [1, 2, 3], 2))
    assert [value for value, _, _ in found] == [11, 12, 13]
    assert {threads for _, threads, _ in found} == {1}
    assert os.getpid() not in {process for _, _, process in found}


def test_there_is_at_least_one_process() -> None:
    assert processes() >= 1
    assert processes("cuda") == 1


def test_checks_name_argument_rule_and_value() -> None:
    at_least(1, seeds=1, epochs=None)
    among("methods", ("dm",), ("dm", "dc"))
    with pytest.raises(ValueError, match=r"^epochs must be at least 1, got 0$"):
        at_least(1, seeds=3, epochs=0)
    with pytest.raises(ValueError, match=r"^methods must be among dm, dc, got 'mtt', 'x'$"):
        among("methods", ("dm", "mtt", "x"), ("dm", "dc"))

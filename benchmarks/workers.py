"""Cells of a benchmark, one after the other or in processes beside each other."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

import torch

__all__ = ["each", "processes"]

Cell = TypeVar("Cell")
Result = TypeVar("Result")


def processes(device: str = "cpu") -> int:
    """As many as there are cores; one where a GPU does the work."""
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(function: Callable[[Cell], Result], cells: Sequence[Cell], workers: int) -> Iterator[Result]:
    """``function`` of every cell, as they are done; in order and in this process where ``workers`` is 1.

    Args:
        function: can be pickled; in processes it has one thread.
    """
    if workers == 1:
        for cell in cells:
            with warnings.catch_warnings():
                _ignore_loggers()
                yield function(cell)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        for done in as_completed([pool.submit(function, cell) for cell in cells]):
            yield done.result()


def _quiet() -> None:
    """A worker process: one thread, no messages between those of progress."""
    torch.set_num_threads(1)
    logging.getLogger("ddreplay").setLevel(logging.ERROR)
    _ignore_loggers()


def _ignore_loggers() -> None:
    warnings.filterwarnings("ignore", message="No loggers specified")  # Avalanche, where nothing is to be logged

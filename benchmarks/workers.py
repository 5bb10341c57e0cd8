"""Cells of a benchmark, one after the other, in processes beside each other, or on a cluster."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import torch
from joblib import Parallel, delayed

from benchmarks.backends import cluster_size, cores, spread_over

__all__ = ["each", "processes"]

Cell = TypeVar("Cell")
Result = TypeVar("Result")


def processes(device: str = "cpu") -> int:
    """As many as there are cores, of the cluster where there is one; one where a GPU of this machine does the work."""
    if spread_over() is not None:
        return cluster_size()
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        return 1
    return cores()


def each(function: Callable[[Cell], Result], cells: Sequence[Cell], workers: int) -> Iterator[Result]:
    """``function`` of every cell, as they are done; in order and in this process where ``workers`` is 1.

    Inside `benchmarks.backends.spread` joblib runs them, whatever the number. A backend that gives results only all together (Ray's)
    gets as many cells at a time as there are workers, so that a record grows as they are done.

    Args:
        function: can be pickled; in processes it has one thread. The same cell gives the same result, so that one whose result was lost
            can be run again.
    """
    if spread_over() is not None:
        yield from _by_joblib(function, cells, workers)
        return
    if workers == 1:
        for cell in cells:
            with warnings.catch_warnings():
                _ignore_loggers()
                yield function(cell)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        for done in as_completed([pool.submit(function, cell) for cell in cells]):
            yield done.result()


def _by_joblib(function: Callable[[Cell], Result], cells: Sequence[Cell], workers: int) -> Iterator[Result]:
    run = delayed(partial(_quietly, function))
    if spread_over() != "ray":
        yield from Parallel(n_jobs=workers, batch_size=1, return_as="generator_unordered")(run(cell) for cell in cells)
        return
    with Parallel(n_jobs=workers, batch_size=1) as parallel:  # within it the workers stay
        for start in range(0, len(cells), workers):
            yield from parallel(run(cell) for cell in cells[start : start + workers])


def _quietly(function: Callable[[Cell], Result], cell: Cell) -> Result:
    """``function`` of a cell in a worker process."""
    _quiet()
    return function(cell)


def _quiet() -> None:
    """A worker process: one thread, no messages between those of progress."""
    torch.set_num_threads(1)
    logging.getLogger("ddreplay").setLevel(logging.ERROR)
    _ignore_loggers()


def _ignore_loggers() -> None:
    warnings.filterwarnings("ignore", message="No loggers specified")  # Avalanche, where nothing is to be logged

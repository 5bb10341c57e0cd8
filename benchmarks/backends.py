"""Where the cells of a sweep run: joblib's backends, on this machine or on a cluster."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from joblib import parallel_config

from benchmarks.checks import among

__all__ = ["BACKENDS", "cluster_size", "spread", "spread_over"]

BACKENDS = ("loky", "ray", "dask")

_NOW: ContextVar[str | None] = ContextVar("backend", default=None)


def spread_over() -> str | None:
    """The backend that cells run on here; ``None``: none was asked for."""
    return _NOW.get()


@contextmanager
def spread(backend: str | None) -> Iterator[None]:
    """Cells of the commands inside (`benchmarks.workers.each`) run on this backend, through joblib's ``parallel_config``.

    loky: processes of this machine. ray, dask: the cluster that ``RAY_ADDRESS`` or ``DASK_SCHEDULER_ADDRESS`` names, or one that this
    process is connected to already, or else a local one of as many workers as there are cores, two at least, which ends with the
    command. On other machines the repository must be at the same place, and the folders of records and caches be shared.

    Args:
        backend: one of `BACKENDS`; ``None``: as without.
    Raises:
        ValueError: when the backend is none of them.
        ImportError: when what it needs is not installed.
    """
    if backend is None:
        yield
        return
    among("backend", (backend,), BACKENDS)
    with ExitStack() as stack:
        if backend == "ray":
            _connect_ray(stack)
        elif backend == "dask":
            _connect_dask(stack)
        stack.enter_context(parallel_config(backend=backend))
        token = _NOW.set(backend)
        stack.callback(_NOW.reset, token)
        yield


def cluster_size() -> int:
    """Workers of the backend, one a core."""
    backend = spread_over()
    if backend == "ray":
        return int(_module("ray", "ray").cluster_resources()["CPU"])
    if backend == "dask":
        return int(sum(_module("distributed", "dask").Client.current().ncores().values()))
    return cores()


def cores() -> int:
    """Of this machine, as many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _connect_ray(stack: ExitStack) -> None:
    ray = _module("ray", "ray")
    if not ray.is_initialized():
        local: dict[str, Any] = (
            {} if "RAY_ADDRESS" in os.environ else {"num_cpus": max(2, cores()), "include_dashboard": False}
        )
        ray.init(log_to_driver=False, configure_logging=False, **local)
        stack.callback(ray.shutdown)
    importlib.import_module("ray.util.joblib").register_ray()


def _connect_dask(stack: ExitStack) -> None:
    distributed = _module("distributed", "dask")
    try:
        distributed.Client.current()
        return
    except ValueError:  # connected to none
        pass
    if importlib.import_module("dask").config.get("scheduler-address", None):
        stack.enter_context(distributed.Client())
        return
    cluster = distributed.LocalCluster(n_workers=max(2, cores()), threads_per_worker=1, dashboard_address=None)
    stack.enter_context(distributed.Client(stack.enter_context(cluster)))


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"the backend {extra} needs {name}, which is not installed: pip install 'ddreplay[{extra}]'"
        ) from error

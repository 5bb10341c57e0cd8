"""Work in a child of this process, whose engines and peaks of memory stay its own."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_child"]

Result = TypeVar("Result")


def in_child(function: Callable[[], Result]) -> Result:
    """What a function returns, computed in a fork.

    Raises:
        RuntimeError: when it does not come to its end there.
    """
    sys.stdout.flush()
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(receive)
            with os.fdopen(send, "wb") as pipe:
                pickle.dump(function(), pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        content = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0:
        raise RuntimeError(f"a child of the soak ended with {status}")
    result: Result = pickle.loads(content)
    return result

"""Arithmetic coding of yes-or-no decisions whose probabilities both sides know."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

__all__ = ["EVEN", "DecisionReader", "code_decisions"]

EVEN = 1 << 15
"""The probability of one half."""

_TOP, _FULL = 0xFF000000, 0xFFFFFFFF


def code_decisions(yes: Int[np.ndarray, " n"], probabilities: Int[np.ndarray, " n"]) -> bytes:
    """Decisions as the fewest whole bytes that `DecisionReader` reads them from.

    Args:
        yes: 0 or 1.
        probabilities: of a 1, in 1 .. 65535, as shares of 65536.
    Reference: G. N. N. Martin, "Range encoding", 1979; an interval of 32 bits that never carries, as in M. Mahoney's coders.
    Example:
        >>> import numpy as np
        >>> rarely = np.full(1000, 536)
        >>> data = code_decisions((np.arange(1000) == 7).astype(int), rarely)
        >>> len(data), DecisionReader(data).read(rarely).nonzero()[0]
        (3, array([7]))
    """
    out, low, high = bytearray(), 0, _FULL
    for bit, p in zip(yes.tolist(), probabilities.tolist(), strict=True):
        middle = low + ((high - low) * p >> 16)
        if bit:
            high = middle
        else:
            low = middle + 1
        while not (low ^ high) & _TOP:
            out.append(high >> 24)
            low, high = low << 8 & _FULL, high << 8 & _FULL | 255
    for count in range(5):  # as few bytes as name a number of the interval; behind the end zeros are read
        tail = 8 * (4 - count)
        number = -(-low >> tail) << tail
        if number <= high:
            out += number.to_bytes(4, "big")[:count]
            break
    return bytes(out).rstrip(b"\0")


class DecisionReader:
    """Reads what `code_decisions` wrote, given the same probabilities in the same order. Behind the end of the data it reads zeros."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 4
        self._low, self._high = 0, _FULL
        self._now = int.from_bytes(data[:4].ljust(4, b"\0"), "big")

    def read(self, probabilities: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """The next decisions, 0 or 1."""
        data, at, low, high, now = self._data, self._at, self._low, self._high, self._now
        size, found = len(data), []
        for p in probabilities.tolist():
            middle = low + ((high - low) * p >> 16)
            if now <= middle:
                high = middle
                found.append(1)
            else:
                low = middle + 1
                found.append(0)
            while not (low ^ high) & _TOP:
                low, high = low << 8 & _FULL, high << 8 & _FULL | 255
                now = now << 8 & _FULL | (data[at] if at < size else 0)
                at += 1
        self._at, self._low, self._high, self._now = at, low, high, now
        return np.array(found, dtype=np.int64)

    def left(self) -> int:
        """Bytes that no decision needed: of sound data none."""
        return max(0, len(self._data) - self._at)

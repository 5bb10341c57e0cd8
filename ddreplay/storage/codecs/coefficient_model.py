"""How likely coefficients of a cosine transform are, given those that are known already: what a range coder needs.

Blocks are coded frequency by frequency, low ones first, and there channel by channel, all blocks at a time. What is known then, and what
the probabilities follow: how large the block's own coefficients of neighbouring frequencies are, how large those of all blocks are on
average, the same frequency of the channels before, and the frequency itself. Probabilities are a logistic sum of one term for each. The
terms were fitted to images of CIFAR-100's training split at five steps of the quantiser; two offsets follow the data at hand. Everything
is done in whole numbers, so that a file is read alike on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from ddreplay.storage.codecs.range_coder import EVEN, DecisionReader, code_decisions

__all__ = ["decode_blocks", "encode_blocks"]

_UNIT = 256  # of a logit
_LOGITS = 8 * _UNIT
_SQUASH = np.array([round(65536 / (1 + math.exp(-k / _UNIT))) for k in range(-_LOGITS, _LOGITS)]).clip(16, 65536 - 16)
_YES, _NO = -np.log2(_SQUASH / 65536), -np.log2(1 - _SQUASH / 65536)  # bits that a decision takes

_LEAST = 0.5  # steps: nothing smaller is worth a bit
_UNARY = 15  # sizes up to here are counted up, larger ones written out
_BITS = 16  # of what is written out: no image has larger coefficients


_Row = np.ndarray
"""One number for each block (or for some of them). Shapes are not checked where every coefficient passes."""


@dataclass(frozen=True)
class _Terms:
    """Of a logit, in 256ths, for the first channel and for those behind it."""

    frequency: Int[np.ndarray, "2 16"]
    neighbours: Int[np.ndarray, "2 10"]
    everywhere: Int[np.ndarray, "2 11"]
    last: Int[np.ndarray, "2 k"]  # the channels before (4), or how far it was counted (8)


def _terms(*rows: Sequence[Sequence[int]]) -> _Terms:
    return _Terms(*(np.array(row, dtype=np.int64) for row in rows))


_ANY = _terms(
    [
        [2278, 49, -52, -163, -150, -164, -165, -186, -171, -184, -197, -203, -193, -205, -198, -222],
        [2244, -272, -229, -259, -181, -204, -173, -176, -152, -171, -142, -145, -136, -152, -131, -131],
    ],
    [[-601, -173, -90, -23, 25, 73, 105, 137, 169, 254], [-926, -252, -126, -24, 35, 111, 138, 194, 201, 327]],
    [
        [-922, -471, -311, -168, -43, 61, 158, 245, 331, 433, 580],
        [-1020, -226, -133, -75, -4, 38, 84, 119, 171, 281, 366],
    ],
    [[-77, 0, 0, 0], [-284, -164, -66, 81]],
)
_MORE = _terms(
    [
        [1171, 95, 41, -111, -66, -130, -127, -169, -136, -172, -174, -193, -190, -213, -208, -280],
        [794, 25, 53, -76, -18, -87, -62, -117, -120, -150, -154, -166, -178, -196, -192, -277],
    ],
    [[-237, -270, -184, -146, -104, -71, -28, -7, 30, 148], [-243, -308, -195, -174, -113, -66, -50, 3, 47, 177]],
    [
        [-83, -369, -447, -384, -323, -218, -73, 63, 189, 302, 474],
        [1, -381, -355, -281, -229, -160, -80, -5, 87, 207, 275],
    ],
    [[0, -126, -133, -134, -130, -122, -123, -92], [0, -192, -169, -155, -141, -123, -111, -29]],
)


@dataclass
class _Offset:
    """Of all logits of one kind, which follows how often decisions came out other than expected."""

    value: int = 0

    def follow(self, yes: _Row, probabilities: _Row) -> None:
        self.value += int(((yes << 16) - probabilities).sum()) // (4 * len(yes))


@dataclass
class _Offsets:
    any: tuple[_Offset, _Offset] = field(default_factory=lambda: (_Offset(), _Offset()))
    more: tuple[_Offset, _Offset] = field(default_factory=lambda: (_Offset(), _Offset()))


class _Known:
    """The sizes of the coefficients known so far."""

    def __init__(self, blocks: int, channels: int, height: int, width: int) -> None:
        self.sizes = np.zeros((blocks, channels, height + 2, width + 3), dtype=np.int32)  # with a margin of zeros
        self.offsets = _Offsets()

    def at(self, channel: int, u: int, v: int) -> _Here:
        sizes, row, column = self.sizes[:, channel], u + 2, v + 2
        around = (
            2 * (sizes[:, row - 1, column] + sizes[:, row, column - 1])
            + sizes[:, row - 1, column - 1]
            + sizes[:, row - 2, column]
            + sizes[:, row, column - 2]
            + sizes[:, row - 1, column + 1]
        )
        mean = 16 * int(around.sum()) // len(around)
        before = self.sizes[:, :channel, row, column].sum(1)
        return _Here(
            min(channel, 1), min(u + v, 15), np.minimum(around, 9), min(mean.bit_length(), 10), np.minimum(before, 3)
        )

    def put(self, channel: int, u: int, v: int, values: _Row) -> None:
        self.sizes[:, channel, u + 2, v + 2] = np.minimum(np.abs(values), 255)


@dataclass(frozen=True)
class _Here:
    """What one frequency of one channel has around it."""

    kind: int  # 0: the first channel
    frequency: int
    neighbours: _Row
    everywhere: int
    before: _Row

    def index(self, terms: _Terms, last: _Row | int, offset: _Offset, rows: _Row | None = None) -> _Row:
        """Into the tables of probabilities and bits."""
        k = self.kind
        neighbours = self.neighbours if rows is None else self.neighbours[rows]
        fixed = (
            int(terms.frequency[k, self.frequency]) + int(terms.everywhere[k, self.everywhere]) + (offset.value >> 8)
        )
        logits: _Row = terms.neighbours[k, neighbours] + terms.last[k, last] + fixed
        bounded: _Row = np.minimum(np.maximum(logits, -_LOGITS), _LOGITS - 1)
        return bounded + _LOGITS


_Decide = Callable[[_Row, _Row | None], _Row]
"""Probabilities and decisions -> the decisions: written where they are given, read where they are not."""


class _Writer:
    """Keeps decisions in the order in which they will be read."""

    def __init__(self) -> None:
        self.yes: list[_Row] = []
        self.probabilities: list[_Row] = []

    def __call__(self, probabilities: _Row, yes: _Row | None) -> _Row:
        self.yes.append(np.asarray(yes, dtype=np.int64))
        self.probabilities.append(probabilities)
        return self.yes[-1]

    def data(self, calls: int) -> bytes:
        """Of the first so many calls."""
        if not calls:
            return b""
        return code_decisions(np.concatenate(self.yes[:calls]), np.concatenate(self.probabilities[:calls]))


def _diagonal(total: int, height: int, width: int) -> Iterator[tuple[int, int]]:
    """The frequencies of one sum."""
    for u in range(max(0, total - width + 1), min(total, height - 1) + 1):
        yield u, total - u


def _worth(values: _Row, here: _Here, offsets: _Offsets, price: float) -> _Row:
    """Whole numbers that are worth their bits: of the two nearest sizes and 0, the least square error and so much for each bit."""
    found = np.zeros(len(values), dtype=np.int64)
    rows = np.nonzero(np.abs(values) > _LEAST)[0]
    if len(rows):
        sizes = np.abs(values[rows])
        nothing = here.index(_ANY, here.before[rows], offsets.any[here.kind], rows)
        first = here.index(_MORE, 1, offsets.more[here.kind], rows)
        best, below = sizes**2 + price * _NO[nothing], np.floor(sizes)
        for size in (np.maximum(below, 1), below + 1):
            bits = _YES[nothing] + 1 + _NO[first] + (size - 1) * np.where(size > 1, _YES[first] + 0.3, 0)
            cost = (sizes - size) ** 2 + price * bits
            better = cost < best
            best[better], found[rows[better]] = cost[better], size[better]
    signed: _Row = np.where(values < 0, -found, found)
    return signed


def _pass(values: _Row | None, here: _Here, offsets: _Offsets, decide: _Decide) -> _Row:
    """One coefficient of every block through the coder: written, or read where ``values`` is ``None``."""
    wanted = None if values is None else np.abs(values)
    probabilities = _SQUASH[here.index(_ANY, here.before, offsets.any[here.kind])]
    sizes: _Row = decide(probabilities, None if wanted is None else wanted > 0).copy()
    offsets.any[here.kind].follow(sizes, probabilities)
    there = rows = np.nonzero(sizes)[0]
    if not len(there):
        return sizes
    for size in range(1, _UNARY):
        probabilities = _SQUASH[here.index(_MORE, min(size, 7), offsets.more[here.kind], rows)]
        more = decide(probabilities, None if wanted is None else wanted[rows] > size)
        offsets.more[here.kind].follow(more, probabilities)
        sizes[rows] += more
        rows = rows[more == 1]
        if not len(rows):
            break
    even = np.full(len(there), EVEN, dtype=np.int64)
    for bit in reversed(range(_BITS if len(rows) else 0)):  # what is left of large ones
        sizes[rows] += (
            decide(even[: len(rows)], None if wanted is None else (wanted[rows] - _UNARY) >> bit & 1 > 0) << bit
        )
    negative = decide(even, None if values is None else values[there] < 0)
    sizes[there] *= 1 - 2 * negative
    return sizes


def encode_blocks(values: Float[np.ndarray, "n c h w"], price: float = 0.1) -> tuple[int, bytes]:
    """Quantise coefficients, given in steps of the quantiser, and code them.

    Args:
        price: of a bit, in squares of the step: a coefficient is as large as is worth it.

    Returns:
        The number of diagonals, low frequencies first, up to the last one at which anything is left; and the coded data.
    """
    n, channels, height, width = values.shape
    known, writer, diagonals, calls = _Known(n, channels, height, width), _Writer(), 0, 0
    rows, columns = np.nonzero(np.abs(values).max((0, 1)) > _LEAST)
    for total in range(int((rows + columns).max()) + 1 if len(rows) else 0):
        for u, v in _diagonal(total, height, width):
            for channel in range(channels):
                here = known.at(channel, u, v)
                found = _worth(values[:, channel, u, v], here, known.offsets, price)
                known.put(channel, u, v, _pass(found, here, known.offsets, writer))
                if found.any():
                    diagonals = total + 1
        if diagonals == total + 1:
            calls = len(writer.yes)
    return diagonals, writer.data(calls)


def decode_blocks(diagonals: int, data: bytes, shape: tuple[int, int, int, int]) -> Int[np.ndarray, "n c h w"]:
    """The quantised coefficients.

    Raises:
        ValueError: where there is more data than they need.
    """
    n, channels, height, width = shape
    known, reader = _Known(n, channels, height, width), DecisionReader(data)
    found = np.zeros(shape, dtype=np.int32)
    for total in range(diagonals):
        for u, v in _diagonal(total, height, width):
            for channel in range(channels):
                read = _pass(
                    None, known.at(channel, u, v), known.offsets, lambda probabilities, _: reader.read(probabilities)
                )
                known.put(channel, u, v, read)
                found[:, channel, u, v] = read
    if reader.left():
        raise ValueError(f"{reader.left()} bytes more than the coefficients need")
    return found

"""A replay memory for streams without boundaries: real images wait in a reservoir until a class has enough of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ddreplay.condense.condenser import Condenser, OnProgress
from ddreplay.data.pool import Batch, ClassPool
from ddreplay.data.space import to_network, to_pixels
from ddreplay.memory import CondensedMemory, check_pool, damaged, read_seconds
from ddreplay.randomness import Random
from ddreplay.storage.budget import Budget

__all__ = ["OnlineMemory"]

_BESIDE = 8  # bytes of a waiting image beside its pixels: its label and its key


class OnlineMemory:
    """So many bytes for everything: condensed images, and the real ones that wait to be condensed.

    Images come a few at a time, of any classes. A class is condensed when ``enough`` of it has come since it was condensed last, from
    what the reservoir holds of it and from its memory together. The reservoir is a uniform sample of what came of each class, stored in
    8 bits; where it is full, the class that has most gives up an image at random. What waits is replayed too.

    Args:
        condenser: a distiller or a selection; ``None``: the practical default.
        max_bytes: of everything stored, never exceeded: condensed sets, waiting images, their labels and keys.
        enough: images of a class that must have come before it is condensed.
        reservoir: share of the bytes that waiting images may take; the rest is for condensed ones.
        seconds: that condensing may take in an update, where the condenser knows how to stop.
        seed: everything drawn follows from it.
        on_progress: is told how far condensing is.
    Attributes:
        memory: the condensed part.
        arrived: class -> images since it was condensed last.
        seconds_spent: wall time of each update so far.
    Raises:
        ValueError: when an argument is out of its range.
    Example:
        >>> from ddreplay.methods import selections
        >>> memory = OnlineMemory(selections.random(), max_bytes=2000, enough=4)
        >>> memory.update(toy_pool())
        >>> memory.nbytes <= 2000, sorted(memory.memory.condensed.class_ids)
        (True, [2, 5, 9])
    """

    def __init__(
        self,
        condenser: Condenser | None = None,
        *,
        max_bytes: int,
        enough: int = 50,
        reservoir: float = 0.5,
        seconds: float | None = None,
        seed: int = 0,
        on_progress: OnProgress | None = None,
    ) -> None:
        if not isinstance(enough, int) or enough < 1:
            raise ValueError(f"enough must be at least 1 image of a class, got {enough!r}")
        if not 0 < reservoir < 1:
            raise ValueError(f"reservoir must be a share between 0 and 1, both excluded, got {reservoir}")
        self.max_bytes, self.enough, self.reservoir, self.seconds = max_bytes, enough, reservoir, seconds
        self._room = int(max_bytes * reservoir)
        self.memory = CondensedMemory(
            condenser, Budget.total_bytes(max_bytes - self._room), seed=seed, on_progress=on_progress
        )
        self.arrived: dict[int, int] = {}
        self.seconds_spent: list[float] = []
        self._waiting: dict[int, tuple[UInt8[Tensor, "n c h w"], Float[Tensor, " n"]]] = {}
        self._names: dict[int, str] = {}
        self._random = Random(seed + 1)
        self._space: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())

    def update(self, pool: ClassPool) -> None:
        """Take in images as they come; condense the classes that have enough. An update that fails changes nothing.

        Raises:
            TypeError: when it is no pool.
            ValueError: when the images are of another shape than those held.
            BudgetTooSmall: when not one image of every class fits.
        """
        started = time.perf_counter()
        check_pool(pool)
        self._check(pool)
        random = Random(0)
        random.load_state_dict(self._random.state_dict())
        waiting, arrived, names = dict(self._waiting), dict(self.arrived), dict(self._names)
        for position, class_id in enumerate(pool.class_ids.tolist()):
            x = to_pixels(pool.of_class(position), pool.mean, pool.std).clamp(0, 1).mul(255).round()
            x, keys = x.to(torch.uint8).cpu(), torch.rand(len(x), generator=random.cpu)
            if class_id in waiting:
                x, keys = torch.cat([waiting[class_id][0], x]), torch.cat([waiting[class_id][1], keys])
            waiting[class_id] = x, keys
            arrived[class_id] = arrived.get(class_id, 0) + pool.counts[position]
            names[class_id] = pool.class_names[position]
        waiting = _thinned(waiting, self._room)
        ready = [c for c, n in arrived.items() if n >= self.enough and c in waiting]
        memory = self._condensed(waiting, ready, names, pool) if ready else self.memory
        self.memory, self._random, self._names = memory, random, names
        self._waiting = {c: held for c, held in waiting.items() if c not in ready}
        self.arrived = {c: n for c, n in arrived.items() if c not in ready}
        self._space = (pool.mean, pool.std)
        self.seconds_spent.append(time.perf_counter() - started)

    def _check(self, pool: ClassPool) -> None:
        each = pool.shape[0] * pool.shape[1] * pool.shape[2] + _BESIDE
        if self._room < each:
            raise ValueError(
                f"the reservoir has {self._room} bytes, and one image takes {each}; raise max_bytes or reservoir"
            )
        known = {tuple(x.shape[1:]) for x, _ in self._waiting.values()}
        known |= {self.memory.condensed.shape} if self.memory.condensed.parts else set()
        if known - {pool.shape}:
            raise ValueError(f"images must be of the shape that the memory holds, {known.pop()}, got {pool.shape}")
        if self._space != ((), ()) and self._space != (pool.mean, pool.std):
            raise ValueError(
                f"images must be normalised as those before, with mean and std {self._space}, got {(pool.mean, pool.std)}; give every "
                "pool mean= and std="
            )

    def _condensed(
        self, waiting: Mapping[int, Any], ready: list[int], names: Mapping[int, str], like: ClassPool
    ) -> CondensedMemory:
        x = torch.cat([waiting[c][0] for c in ready])
        y = torch.tensor([c for c in ready for _ in waiting[c][0]])
        how: dict[str, Any] = {"mean": like.mean, "std": like.std, "augmentation": like.augmentation}
        memory = self.memory.copy()
        memory.update(ClassPool(x, y, class_names=dict(names), device=like.device, **how), seconds=self.seconds)
        return memory

    def flush(self) -> None:
        """Condense everything that waits, however little of a class there is: at the end of a stream."""
        if not self._waiting:
            return
        mean, std = self._space
        x = torch.cat([x for x, _ in self._waiting.values()])
        y = torch.tensor([c for c, (x, _) in self._waiting.items() for _ in x])
        memory = self.memory.copy()
        memory.update(ClassPool(x, y, mean=mean, std=std, class_names=self._names), seconds=self.seconds)
        self.memory, self._waiting, self.arrived = memory, {}, {}

    def batch(self, device: torch.device | str = "cpu") -> Batch:
        """All images to train on, condensed ones first, in network space, with their original class ids.

        Raises:
            ValueError: before the first update.
        """
        mean, std = self._space
        parts = [self.memory.batch()] if self.memory.condensed.parts else []
        for class_id, (x, _) in self._waiting.items():
            parts.append(Batch(to_network(x.float() / 255, mean, std), torch.full((len(x),), class_id)))
        if not parts:
            raise ValueError("the memory is empty: there are no images in it")
        return Batch(torch.cat([part.x for part in parts]).to(device), torch.cat([part.y for part in parts]).to(device))

    def __len__(self) -> int:
        """Images to train on."""
        return len(self.memory) + self.waiting

    @property
    def waiting(self) -> int:
        """Real images that wait to be condensed."""
        return sum(len(x) for x, _ in self._waiting.values())

    @property
    def waiting_nbytes(self) -> int:
        """Their bytes: pixels, labels and keys."""
        return sum(_nbytes(x) for x, _ in self._waiting.values())

    @property
    def nbytes(self) -> int:
        """Bytes of everything stored."""
        return self.memory.nbytes + self.waiting_nbytes

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values: everything that the next updates depend on."""
        return {
            "memory": self.memory.state_dict(),
            "waiting": [[c, x, keys] for c, (x, keys) in self._waiting.items()],
            "arrived": dict(self.arrived),
            "names": dict(self._names),
            "space": [list(values) for values in self._space],
            "random": self._random.state_dict(),
            "seconds": list(self.seconds_spent),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`; condenser, bytes and shares stay those given at construction.

        Raises:
            ValueError: when the state is damaged, or no such memory's; nothing has changed then.
        """
        memory, random = self.memory.copy(), Random(0)
        with damaged("OnlineMemory"):
            memory.load_state_dict(state["memory"])
            random.load_state_dict(state["random"])
            waiting = {int(c): (x, keys) for c, x, keys in state["waiting"]}
            for x, keys in waiting.values():
                if x.dtype != torch.uint8 or x.dim() != 4 or keys.dtype != torch.float32 or keys.shape != x.shape[:1]:
                    raise ValueError("waiting images must be uint8 [n, c, h, w], each with a float32 key")
            arrived = {int(c): int(n) for c, n in state["arrived"].items()}
            if not all(arrived.get(c, 0) >= len(x) for c, (x, _) in waiting.items()):
                raise ValueError("more images wait than have come")
            names = {int(c): str(name) for c, name in state["names"].items()}
            mean, std = (tuple(float(v) for v in values) for values in state["space"])
            seconds = read_seconds(state["seconds"])
        self.memory, self._random, self._waiting, self.arrived = memory, random, waiting, arrived
        self._names, self._space, self.seconds_spent = names, (mean, std), seconds


def _nbytes(x: UInt8[Tensor, "n c h w"]) -> int:
    return x.nbytes + _BESIDE * len(x)


def _thinned(waiting: dict[int, tuple[Tensor, Tensor]], room: int) -> dict[int, tuple[Tensor, Tensor]]:
    """Within so many bytes: of the class that has most, those with the largest keys go, in their order."""
    each = next(iter(waiting.values()))[0][:1].numel() + _BESIDE
    counts = {c: len(x) for c, (x, _) in waiting.items()}
    over = sum(counts.values()) - room // each
    for _ in range(max(0, over)):
        counts[max(counts, key=lambda c: counts[c])] -= 1
    thinned = {}
    for c, (x, keys) in waiting.items():
        rows = keys.argsort()[: counts[c]].sort().values
        if counts[c]:
            thinned[c] = x[rows], keys[rows]
    return thinned

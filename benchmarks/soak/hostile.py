"""Thousands of damaged and forged files, each read in a child process within a gigabyte and some seconds."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.soak.forging import (
    damaged,
    forged_checkpoint,
    forged_npz,
    forged_set,
    forged_state,
    header_of,
    inflating,
    open_set,
    sealed_set,
)
from ddreplay import Budget, ClassPool, CondensedMemory, CondensedSet, ConvNet, dm
from ddreplay.condense.checkpoint import read_state
from ddreplay.datasets import load
from ddreplay.methods import selections
from ddreplay.parameterize import Partitioned
from ddreplay.storage.codecs import CodecUnavailable, avif, bits, dct, float16, jpeg, uint8, webp

__all__ = ["KINDS", "Counts", "Kind", "bombs", "read_files", "sound_files", "toy_pool"]

GIGABYTE = 2**30
SECONDS = 20.0
"""How long one file may take; most take milliseconds."""

OURS = (ValueError, TypeError, OSError, CodecUnavailable)
BATCH = 200  # files of a child process


@dataclass(frozen=True)
class Kind:
    """A kind of file. read: what a user does with it; raises, or returns what must be finite. forge: makes a wrong one of a sound one.

    sealed: a changed byte must be noticed.
    """

    name: str
    read: Callable[[Path], Any]
    forge: Callable[[bytes, random.Random], bytes]
    sealed: bool


@dataclass
class Counts:
    """What became of the files.

    refused: by an error of the package. read: without an error, with finite images. unnoticed: changed bytes under a checksum that
    were read. foreign: other errors. slow, killed: took more than `SECONDS`, or ended the process. wrote: files where none should be.
    changed: memories that a refused state changed. seconds: of the slowest file. memory: bytes above the start, at most.
    """

    files: int = 0
    refused: int = 0
    read: int = 0
    unnoticed: int = 0
    foreign: int = 0
    slow: int = 0
    killed: int = 0
    wrote: int = 0
    changed: int = 0
    seconds: float = 0.0
    memory: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def failures(self) -> int:
        """Everything that must not be."""
        return self.unnoticed + self.foreign + self.slow + self.killed + self.wrote + self.changed

    def note(self, kind: str, outcome: str, seconds: float, memory: int, message: str) -> None:
        """One file."""
        self.files += 1
        setattr(self, outcome, getattr(self, outcome) + 1)
        self.by_kind[f"{kind} {outcome}"] += 1
        self.seconds, self.memory = max(self.seconds, seconds), max(self.memory, memory)
        if outcome not in ("refused", "read") and len(self.examples) < 50:
            self.examples.append(f"{kind} {outcome}: {message}"[:400])


def toy_pool(channels: int = 3, size: int = 8, classes: int = 3, images: int = 6) -> ClassPool:
    """A pool of noise around one pattern a class."""
    draw = torch.Generator().manual_seed(0)
    patterns = torch.rand(classes, 1, channels, size, size, generator=draw)
    noise = torch.rand(classes, images, channels, size, size, generator=draw)
    pixels = (0.7 * patterns + 0.3 * noise).mul(255).to(torch.uint8).flatten(0, 1)
    return ClassPool(pixels, torch.arange(classes).repeat_interleave(images), device="cpu")


METHOD = dm(ConvNet(width=8), steps=2)


class MemoryChanged(Exception):
    """A state that was refused has left traces."""


def _read_set(path: Path) -> Any:
    found = CondensedSet.load(path)
    return found.images().x if found.parts else None


def _read_checkpoint(path: Path) -> Any:
    return METHOD(toy_pool(), 2, checkpoint=path).images().x


def _read_memory(path: Path) -> Any:
    memory = CondensedMemory(selections.random(), 2)
    memory.update(toy_pool())
    before = memory.condensed.to_bytes(), memory.budget, list(memory.seconds)
    try:
        memory.load_state_dict(read_state(path.read_bytes(), path.name))
    except BaseException:
        if (memory.condensed.to_bytes(), memory.budget, list(memory.seconds)) != before:
            raise MemoryChanged from None
        raise
    return memory.batch().x if memory.condensed.parts else None


def _read_buffer(path: Path) -> Any:
    from ddreplay.avalanche import CondensedBuffer

    buffer = CondensedBuffer(images_per_class=2, condenser=selections.random())
    buffer.load_state_dict(read_state(path.read_bytes(), path.name))
    return torch.stack([sample[0] for sample in buffer.buffer]) if len(buffer.buffer) else None


def _read_npz(path: Path) -> Any:
    data = load(path)
    return data.train_images


def _read_folder(path: Path) -> Any:
    return load(path.parent.parent).train_images


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("set.safetensors", _read_set, forged_set, True),
        Kind("checkpoint.ck", _read_checkpoint, forged_checkpoint, True),
        Kind("memory.pt", _read_memory, forged_state, False),
        Kind("buffer.pt", _read_buffer, forged_state, False),
        Kind("data.npz", _read_npz, forged_npz, False),
        Kind("picture.png", _read_folder, damaged, False),
    )
}


def sound_files() -> dict[str, list[bytes]]:
    """Some files of every kind, as the package writes them."""
    import tempfile

    from ddreplay.avalanche import CondensedBuffer

    pool = toy_pool()
    codecs = (uint8(), bits(3), float16(), jpeg(40), webp(40), avif(40, 9), dct(20, 8.0))
    sets = [selections.random(codec=codec)(pool, 3) for codec in codecs]
    sets.append(dm(ConvNet(width=8), steps=1, parameterize=Partitioned(2))(pool, 1))
    sets.append(CondensedSet(tuple(replace(part, soft_labels=torch.rand(9, 3)) for part in sets[0].parts)))
    memory = CondensedMemory(selections.random(), Budget.bytes(600))
    memory.update(pool.select([0, 1]))
    memory.update(pool.select([1, 2]))
    buffer = CondensedBuffer(images_per_class=2, condenser=selections.random(), condense_every=2)
    batch = pool.all()
    for rows in (range(6), range(6, 12), range(12, 18)):
        buffer.update_from_dataset([(batch.x[k], int(batch.y[k])) for k in rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        METHOD(pool, 2, checkpoint=path)
        checkpoint = path.read_bytes()
    draw = np.random.default_rng(0)
    arrays = {f"{s}_images": draw.integers(0, 255, (9, 8, 8), np.uint8) for s in ("train", "test")}
    arrays |= {f"{s}_labels": np.arange(9).reshape(9, 1) % 3 for s in ("train", "test")}
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **arrays)
    np.savez_compressed(packed, **arrays)
    return {
        "set.safetensors": [one.to_bytes() for one in sets],
        "checkpoint.ck": [checkpoint],
        "memory.pt": [_saved(memory.state_dict())],
        "buffer.pt": [_saved(buffer.state_dict())],
        "data.npz": [plain.getvalue(), packed.getvalue()],
        "picture.png": [_picture(form) for form in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "AVIF", "TIFF", "PPM")],
    }


def _saved(tree: Any) -> bytes:
    content = io.BytesIO()
    torch.save(tree, content)
    return content.getvalue()


def _picture(form: str, size: tuple[int, int] = (16, 16), **how: Any) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.effect_mandelbrot(size, (-2, -1, 1, 1), 20).convert("RGB").save(content, form, **how)
    return content.getvalue()


def bombs(sound: dict[str, list[bytes]]) -> Iterator[tuple[str, bytes]]:
    """Small files that ask for much. Kind and content."""
    about, tensors = open_set(sound["set.safetensors"][0])

    def of(spec: dict[str, Any], **changed: Any) -> bytes:
        part = {**about["parts"][0], **spec}
        return sealed_set(
            {**about, "parts": [part]}, {**tensors, **{f"0.{k.replace('__', '.')}": v for k, v in changed.items()}}
        )

    for factor in (300, 4000, 10**9, 10**300):
        yield "set.safetensors", of({"decoder": {"name": "tiles", "factor": factor}})
    for count in (10**6, 10**9, 2**62):
        yield "set.safetensors", of({}, counts=torch.tensor([count, 3, 3]))
        for codec in (jpeg(1), avif(1), dct()):
            yield "set.safetensors", of({"codec": codec.spec()}, counts=torch.tensor([count, 3, 3]))
    for shape in ([3, 2**24, 2**24], [1, 1, 2**24], [2**24, 1, 1], [3, 65000, 65000]):
        for codec in (uint8(), jpeg(1), dct()):
            yield "set.safetensors", of({"shape": shape, "codec": codec.spec()})
    for coder in (1, 2, 3):
        body = inflating(coder, 2**29)
        sizes = torch.tensor(list(len(body).to_bytes(4, "little"))).to(torch.uint8)[None]
        stored = {"stored__sizes": sizes, "stored__data": torch.frombuffer(bytearray(body), dtype=torch.uint8)}
        one = {"class_ids": torch.tensor([0]), "counts": torch.tensor([3])}
        part = {**about["parts"][0], "codec": dct(20, 8.0).spec(), "class_names": ["0"]}
        own = {f"0.{k.replace('__', '.')}": v for k, v in {**stored, **one}.items()}
        yield (
            "set.safetensors",
            sealed_set({**about, "parts": [part]}, {**own, "0.normalisation": tensors["0.normalisation"]}),
        )
    large = jpeg(1, "4:4:4")
    blank = large.encode([torch.zeros(1, 1, 4096, 4096)])
    yield "set.safetensors", _pictures(about, large, blank, [1], [1, 4096, 4096])
    yield "set.safetensors", _pictures(about, large, blank, [1], [1, 8, 8])
    nested = "[" * 10**6
    header = json.dumps({"__metadata__": {"ddreplay": nested}}).encode()
    yield "set.safetensors", len(header).to_bytes(8, "little") + header
    yield "set.safetensors", (2**63).to_bytes(8, "little") + b"{}"
    yield "data.npz", _npz_bomb()
    yield "data.npz", _npz(np.zeros((9, 8, 8), np.uint8), np.arange(9) * 10**8)
    yield "data.npz", _npz(np.zeros((9, 8, 8), np.uint8), np.full(9, 2**63, np.uint64))
    yield "picture.png", _picture("PNG", (9000, 9000))
    yield "picture.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n"
    yield "checkpoint.ck", sealed_set([], {})


def _pictures(about: dict[str, Any], codec: Any, stored: dict[str, Any], counts: list[int], shape: list[int]) -> bytes:
    part = {**about["parts"][0], "codec": codec.spec(), "shape": shape, "class_names": ["0"] * len(counts)}
    own = {f"0.stored.{name}": tensor for name, tensor in stored.items()}
    own |= {"0.class_ids": torch.arange(len(counts)), "0.counts": torch.tensor(counts)}
    own["0.normalisation"] = torch.tensor([[0.0] * shape[0], [1.0] * shape[0]])
    return sealed_set({**about, "parts": [part]}, own)


def _npz(images: np.ndarray, labels: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return content.getvalue()


def _npz_bomb() -> bytes:
    """A gigabyte and a half of zeros, in a megabyte and a half."""
    import zipfile

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        labels = io.BytesIO()
        np.lib.format.write_array(labels, np.zeros(3 * 2**19, np.int64))
        with archive.open("train_images.npy", "w", force_zip64=True) as member:
            member.write(header_of((3 * 2**19, 32, 32), "|u1"))
            for _ in range(1536):
                member.write(bytes(2**20))
        archive.writestr("train_labels.npy", labels.getvalue())
    return content.getvalue()


def read_files(
    folder: Path,
    files: int,
    *,
    seed: int = 0,
    until: float | None = None,
    counts: Counts | None = None,
    with_bombs: bool = True,
) -> Counts:
    """Make and read so many files, and the bombs before them, in children of this process.

    Args:
        until: a reading of ``time.monotonic`` after which no new batch begins.
        counts: what is counted on.
    """
    counts, sound = Counts() if counts is None else counts, sound_files()
    queue: list[tuple[str, bytes | int]] = list(bombs(sound)) if with_bombs else []
    queue += [(kind, seed + k) for k, kind in zip(range(files), _turns(), strict=False)]
    while queue and (until is None or time.monotonic() < until):
        done = _batch(folder, queue[:BATCH], sound, counts)
        queue = queue[done:]
    return counts


def _turns() -> Iterator[str]:
    """Sets as often as all others together."""
    others = [name for name in KINDS if name != "set.safetensors"]
    while True:
        for name in others:
            yield "set.safetensors"
            yield name


def _batch(folder: Path, jobs: list[tuple[str, bytes | int]], sound: dict[str, list[bytes]], counts: Counts) -> int:
    """Read them in one child; where one ends it, or takes too long, those after it are left. How many were done."""
    results = folder / "results"
    results.unlink(missing_ok=True)
    results.touch()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _work(folder, jobs, sound, results)
            code = 0
        finally:
            os._exit(code)
    ended, seen, since = False, 0, time.monotonic()
    while not ended:
        ended = os.waitpid(child, os.WNOHANG)[0] == child
        found = results.read_bytes().count(b"\n")
        if found > seen:
            seen, since = found, time.monotonic()
        if not ended and time.monotonic() - since > SECONDS:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            ended = True
            counts.note(jobs[seen][0], "slow", SECONDS, 0, f"job {jobs[seen][1]!r:.60}")
            break
        time.sleep(0.002)
    else:
        seen = results.read_bytes().count(b"\n")
        if seen < len(jobs):
            counts.note(jobs[seen][0], "killed", 0.0, 0, f"job {jobs[seen][1]!r:.60}")
    for line in results.read_text().splitlines()[:seen]:
        counts.note(**json.loads(line))
    return min(len(jobs), seen + 1)


def _work(folder: Path, jobs: list[tuple[str, bytes | int]], sound: dict[str, list[bytes]], results: Path) -> None:
    """In the child."""
    for name in ("elsewhere", "picture/one", "picture/two"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "picture/two/sound.png").write_bytes(sound["picture.png"][0])
    (folder / "picture/one/sound.png").write_bytes(sound["picture.png"][0])
    os.chdir(folder / "elsewhere")
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + GIGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with open(results, "a", encoding="utf-8") as file:
        for name, job in jobs:
            file.write(json.dumps(_one(folder, KINDS[name], job, sound[name])) + "\n")
            file.flush()


def _one(folder: Path, kind: Kind, job: bytes | int, sound: list[bytes]) -> dict[str, Any]:
    path, changed = folder / kind.name, False
    if kind.name == "picture.png":
        path = folder / "picture/one" / kind.name
    if isinstance(job, bytes):
        content = job
    else:
        draw = random.Random(job)
        content = draw.choice(sound)
        changed = draw.randrange(2) == 0 or kind.forge is damaged
        content = damaged(content, draw) if changed else kind.forge(content, draw)
        changed = changed and content not in sound
    path.write_bytes(content)
    before = set(folder.rglob("*"))
    started, start = time.perf_counter(), _resident()
    outcome, message = "read", ""
    try:
        found = kind.read(path)
        if changed and kind.sealed:
            outcome, message = "unnoticed", f"job {job!r:.60}"
        elif found is not None and not bool(torch.isfinite(found.float()).all()):
            outcome, message = "foreign", f"images are not finite, job {job!r:.60}"
    except MemoryChanged:
        outcome, message = "changed", f"job {job!r:.60}"
    except BaseException as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        ours = isinstance(error, OURS) and f"{os.sep}ddreplay{os.sep}" in at.filename
        outcome = "refused" if ours else "foreign"
        message = f"{type(error).__name__}: {error} in {Path(at.filename).name}:{at.lineno}, job {job!r:.60}"
    seconds, memory = time.perf_counter() - started, _resident() - start
    if set(folder.rglob("*")) - before:
        outcome, message = "wrote", str(set(folder.rglob("*")) - before)
    path.unlink(missing_ok=True)
    return {"kind": kind.name, "outcome": outcome, "seconds": seconds, "memory": max(0, memory), "message": message}


def _resident() -> int:
    """The largest resident size so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

"""Peak memory does not grow with classes or images, but for the images themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pretended_device import ELSEWHERE, pretended_device
from torch import nn

from benchmarks.live_bytes import LiveBytes
from ddreplay import ClassPool, ConvNet, Distiller, methods
from ddreplay.data import chunks
from ddreplay.data.chunks import forward_chunk
from ddreplay.networks import Banked, Fresh, ModelQueue
from ddreplay.objectives import MutualInformation

NET, REAL = ConvNet(width=8), 32
SHAPE = (3, 32, 32)
IMAGE = 4 * 3 * 32 * 32  # bytes
METHODS: dict[str, Distiller] = {
    "dm": methods.dm(NET, steps=1, batch_real=REAL),
    "dm, banked": methods.dm(NET, steps=1, networks=Banked(size=1, images=REAL)),
    "idm": methods.idm(NET, steps=1, batch_real=REAL, networks=ModelQueue(train_steps=1, batch_size=32)),
    "ddm": methods.ddm(NET, steps=1, diversity=1.0, networks=Fresh(), batch_real=REAL),
    "m3d": methods.m3d(NET, steps=1, networks=Fresh(), batch_real=REAL),
    "ncfm": methods.ncfm(NET, steps=1, frequencies=64, networks=Fresh(), batch_real=REAL),
    "dsa": methods.dsa(NET, rounds=1, loops=(1, 0), batch_real=REAL),
    "dsac": methods.dsac(NET, rounds=1, loops=(1, 0), batch_real=REAL, scope="set"),
    "bptt": methods.bptt(NET, iterations=1, steps=1, batch=1, batch_real=REAL),
    "dm + MIM4DD": methods.dm(NET, steps=1, batch_real=REAL).plus(MutualInformation(width=8, images=8), 0.8),
}


def pool_of(classes: int, n: int = REAL, shape: tuple[int, int, int] = SHAPE) -> ClassPool:
    images = torch.randint(0, 256, (classes * n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ClassPool(images, torch.arange(classes).repeat_interleave(n), device="cpu")


def peak(method: Distiller, classes: int, images_per_class: int, real: int = REAL) -> int:
    """Bytes that are alive at most until the first step is done, beside the pool."""
    pool, found = pool_of(classes, max(real, images_per_class + 1)), []
    with LiveBytes() as seen:
        replace(method, batch_real=real)(pool, images_per_class, on_step=lambda *_: found.append(seen.peak))
    return found[0]


@pytest.mark.parametrize("name", METHODS)
def test_more_classes_or_more_images_take_no_more_memory_than_themselves(name: str) -> None:
    """Four times as many: stored images, their momentum, decoded images and two gradients may come on top."""
    tiles = 4 if name in ("idm", "ncfm") else 1
    small = peak(METHODS[name], 10, 10)
    for classes, images_per_class in ((40, 10), (10, 40)):
        assert peak(METHODS[name], classes, images_per_class) < small + 5 * tiles * 400 * IMAGE


@pytest.mark.parametrize("name", ["dm", "ddm", "dsa", "dsac", "bptt"])
def test_more_real_images_take_no_more_memory(name: str) -> None:
    few, many = (peak(METHODS[name], 4, 2, real) for real in (32, 256))
    assert many - few < 4 * (256 - 32) * IMAGE / 100


@pytest.mark.parametrize("name", ["dm", "dm, banked", "ddm", "m3d"])
def test_real_images_pass_in_chunks_on_an_accelerator_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []

    def net(shape: tuple[int, int, int], classes: int) -> nn.Module:
        made = NET(shape, classes)
        made.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
        return made

    monkeypatch.setattr("ddreplay.condense.run.forward_chunk", lambda shape, device: 16)
    method = METHODS[name]
    with pretended_device():
        pool = pool_of(3, 40, (1, 8, 8))
        there = ClassPool(pool._images, pool.all_labels(), mean=pool.mean, std=pool.std, device=ELSEWHERE)
        replace(method, networks=replace(method.networks, net=net), batch_real=32)(there, 1)
    assert batches == [16] * 6 + [3]


def test_the_chunk_of_a_cpu_stays_in_its_cache() -> None:
    sizes = {8: 128, 16: 128, 28: 41, 32: 32, 64: 8, 224: 8}
    assert {side: forward_chunk((3, side, side), torch.device("cpu")) for side in sizes} == sizes


@pytest.mark.parametrize(
    ("gigabytes", "side", "chunk"),
    [(80, 32, 1024), (80, 8, 4096), (80, 224, 64), (24, 32, 256), (2, 32, 64), (0, 32, 64)],
)
def test_the_chunk_of_an_accelerator_follows_its_free_memory(
    gigabytes: int, side: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "free_bytes", lambda device: gigabytes * 10**9)
    assert forward_chunk((3, side, side), torch.device("cuda")) == chunk
    monkeypatch.setattr(chunks, "free_bytes", lambda device: gigabytes * 95 * 10**7)
    assert forward_chunk((3, side, side), torch.device("cuda")) == chunk  # a little less leaves it as it is

"""One rule for budgets in bytes, whoever condenses; and what stops a run keeps it."""

from __future__ import annotations

import ctypes
import io
import logging
import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ddreplay import Budget, ClassPool, CondensedMemory, CondensedSet, ConvNet, dc, dm, dsa, selections
from ddreplay.condense.image_count import Fixed
from ddreplay.networks import Banked
from ddreplay.objectives import MeanEmbedding
from ddreplay.storage.checkpoint import StopRequested
from ddreplay.storage.codecs import avif, jpeg, uint8

NET = ConvNet(width=8)
QUICK = dm(NET, networks=Banked(size=2), steps=3)


def photos(per_class: int = 60, classes: int = 2) -> ClassPool:
    """Smooth images of 32 x 32 pixels, as pictures are; noise would not be compressed."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(per_class * classes, 3, 4, 4, generator=generator)
    x = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 1)
    return ClassPool((x * 255).to(torch.uint8), torch.arange(len(x)) % classes, device="cpu")


@pytest.mark.parametrize("condenser", [QUICK, selections.random()], ids=["condensed", "real"])
def test_a_named_condenser_takes_avif_for_bytes_too(condenser: Any) -> None:
    found = condenser(photos(), Budget.bytes(1200))
    assert isinstance(found.parts[0].codec, avif)
    assert min(found.parts[0].counts) > 10
    assert found.nbytes <= 2400


def test_a_named_codec_is_taken_and_images_are_stored_plainly() -> None:
    assert isinstance(QUICK.stored_by(jpeg())(photos(), Budget.bytes(2000)).parts[0].codec, jpeg)
    assert isinstance(QUICK(photos(), 2).parts[0].codec, uint8)


def test_condensed_images_that_do_not_fit_are_said_to_be_left_out(
    toy_pool: Any, caplog: pytest.LogCaptureFixture
) -> None:
    method = replace(QUICK, choose=Fixed(6)).stored_by(uint8())
    found = method(toy_pool(images_per_class=9), Budget.bytes(300))
    assert found.stored_images == 3 * 4  # of 64 bytes each, beside what belongs to a class
    assert found.provenance["left_out"] == 6
    assert "6 of 18 condensed images do not fit into 900 bytes" in caplog.text
    caplog.clear()
    assert "left_out" not in method(toy_pool(images_per_class=9), Budget.bytes(600)).provenance
    assert caplog.text == ""


def test_channels_that_pictures_do_not_have_are_stored_plainly(toy_pool: Any) -> None:
    found = QUICK(toy_pool(shape=(2, 9, 8), images_per_class=9), Budget.bytes(400))
    assert isinstance(found.parts[0].codec, uint8)
    assert found.nbytes <= 1200


@pytest.mark.parametrize(
    "method", [dc(NET, rounds=60, loops=(1, 1), lr=1.0), dsa(NET, rounds=30, loops=(1, 1))], ids=["dc", "dsa"]
)
def test_one_class_alone_is_told_apart_from_those_beside_it(method: Any, toy_pool: Any) -> None:
    pool = toy_pool(images_per_class=40)
    one, others = pool.select([0]), pool.select([1, 2])
    with pytest.raises(ValueError, match="alone"):
        method(one, 1)
    start, end = (method(one, 1, beside=others, **how).images().x[0] for how in ({"seconds": 0.0}, {}))
    mean = one.of_class(0).mean(0)
    assert not torch.equal(start, end)
    assert torch.corrcoef(torch.stack([end.flatten(), mean.flatten()]))[0, 1] > 0.3


def test_a_class_beside_others_that_are_kept_whole_knows_of_them(toy_pool: Any) -> None:
    pool = toy_pool(images_per_class=20)
    rows = torch.cat([torch.arange(20), torch.tensor([20]), torch.tensor([40])])
    method = dc(NET, rounds=20, loops=(1, 1), lr=1.0)
    start, end = (method(pool.subset(rows), 1, **how).select([2]).images().x for how in ({"seconds": 0.0}, {}))
    assert float((start - end).abs().max()) > 0.1


def test_streams_of_one_class_at_a_time(toy_pool: Any) -> None:
    pool = toy_pool(images_per_class=20)
    memory = CondensedMemory(dsa(NET, rounds=20, loops=(1, 1)), 1)
    with pytest.raises(ValueError, match="alone"):
        memory.update(pool.select([0]))
    assert len(memory) == 0
    means = CondensedMemory(QUICK, 1)
    for k in range(3):
        means.update(pool.select([k]))
    assert len(means) == 3
    memory.update(pool.select([0, 1]))
    memory.update(pool.select([2]))
    assert sorted(memory.condensed.class_ids) == sorted(pool.class_ids.tolist())


def test_an_update_that_fails_leaves_no_trace(toy_pool: Any) -> None:
    pool = toy_pool(images_per_class=20)
    memory, twin = (CondensedMemory(QUICK, 2, seed=1) for _ in range(2))
    for one in (memory, twin):
        one.update(pool.select([0, 1]))

    def broken(*_: Any, **__: Any) -> CondensedSet:
        raise OSError("no")

    memory.condenser = broken
    with pytest.raises(OSError, match="no"):
        memory.update(pool.select([2]))
    memory.condenser = QUICK
    for one in (memory, twin):
        one.update(pool.select([1, 2]))
    assert torch.equal(memory.batch().x, twin.batch().x)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_told_to_stop_keeps_its_run(number: int, toy_pool: Any, tmp_path: Path) -> None:
    pool, path = toy_pool(), tmp_path / "state"
    whole = QUICK(pool, 2, seed=4)
    before = signal.getsignal(number)

    def stop(step: int, loss: torch.Tensor) -> None:
        if step == 1:
            os.kill(os.getpid(), number)

    with pytest.raises(StopRequested, match=str(path)):
        QUICK(pool, 2, seed=4, checkpoint=path, on_step=stop)
    assert signal.getsignal(number) == before
    steps: list[int] = []
    resumed = QUICK(pool, 2, seed=4, checkpoint=path, on_step=lambda step, _: steps.append(step))
    assert steps == [3]
    assert torch.equal(whole.images().x, resumed.images().x)


def test_a_stop_is_heard_where_other_code_took_the_signal_for_itself(toy_pool: Any, tmp_path: Path) -> None:
    """As LLVM does, which a compiler of GPU code loads after the run began: past Python, which does not notice."""
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    ignored = 1

    def step_of_a_run(step: int, loss: torch.Tensor) -> None:
        if step == 1:
            libc.signal(signal.SIGTERM, ignored)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StopRequested):
        QUICK(toy_pool(), 2, seed=4, checkpoint=tmp_path / "state", on_step=step_of_a_run)


def test_a_stop_that_a_scheduler_sends_twice_is_one_stop(toy_pool: Any, tmp_path: Path) -> None:
    def stop(step: int, loss: torch.Tensor) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(StopRequested):
        QUICK(toy_pool(), 2, seed=4, checkpoint=tmp_path / "state", on_step=stop)
    assert (tmp_path / "state").is_file()


class Bursting(MeanEmbedding):
    """Means that are infinitely far from each other from the third comparison on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def distance(self, statistic: Any, syn: Any) -> torch.Tensor:
        self.seen += 1
        return super().distance(statistic, syn) * (float("inf") if self.seen > 2 else 1.0)


def test_what_diverges_says_in_which_step_and_keeps_the_last_good_state(toy_pool: Any, tmp_path: Path) -> None:
    pool, path, losses = toy_pool(), tmp_path / "state", list[float]()
    method = replace(dm(NET, steps=5), objective=Bursting())
    how: dict[str, Any] = {"on_step": lambda _, loss: losses.append(float(loss))}
    with pytest.raises(FloatingPointError, match="in step 3 of 5"):
        method(pool, 1, checkpoint=path, checkpoint_every=1, **how)
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    state = torch.load(io.BytesIO(path.read_bytes()[54:]), weights_only=True)
    assert (state["finished"], state["state"]["step"]) == (False, 2)
    assert all(torch.isfinite(x).all() for x in state["state"]["form"].values())
    memory = CondensedMemory(QUICK, 1)
    memory.update(pool.select([0, 1]))
    before = memory.state_dict()
    memory.condenser = method
    with pytest.raises(FloatingPointError, match="in step 3 of 5"):
        memory.update(pool.select([1, 2]))
    after = memory.state_dict()
    assert torch.equal(before["condensed"], after["condensed"])
    assert torch.equal(before["random"]["cpu"], after["random"]["cpu"])


def test_a_finished_checkpoint_says_so(toy_pool: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = QUICK(toy_pool(), 2, checkpoint=tmp_path / "state")
    with caplog.at_level(logging.INFO, "ddreplay"):
        again = QUICK(
            toy_pool(), 2, checkpoint=tmp_path / "state", on_step=lambda *_: pytest.fail("nothing is left to do")
        )
    assert "finished" in caplog.text
    assert torch.equal(first.images().x, again.images().x)


def test_a_checkpoint_is_known_by_every_image_weight_and_bit(toy_pool: Any, tmp_path: Path) -> None:
    from torch import nn

    def net(middle: nn.Module) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(nn.Conv2d(1, 4, 3), middle, nn.Flatten(), nn.Linear(144, 3))

    pool, path = toy_pool(), tmp_path / "state"
    dm(net(nn.ReLU()), steps=2)(pool, 2, checkpoint=path)
    x, y = pool.all()
    x = x.clone()
    x[3] = -x[3]
    other = ClassPool(x, pool.relabel(y), mean=pool.mean, std=pool.std, device="cpu")
    for method, data in ((dm(net(nn.Tanh()), steps=2), pool), (dm(net(nn.ReLU()), steps=2), other)):
        with pytest.raises(ValueError, match="another run"):
            method(data, 2, checkpoint=path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        dm(net(nn.ReLU()), steps=2)(pool, 2, checkpoint=path)


def test_the_number_of_images_is_chosen_once(toy_pool: Any, tmp_path: Path) -> None:
    asked: list[int] = []

    def choose(question: Any) -> int:
        asked.append(1)
        return 3

    method, pool = replace(QUICK, choose=choose), photos(20)

    def stop(step: int, loss: torch.Tensor) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StopRequested):
        method(pool, Budget.bytes(900), checkpoint=tmp_path / "state", on_step=stop)
    resumed = method(pool, Budget.bytes(900), checkpoint=tmp_path / "state")
    assert asked == [1]
    whole = method(pool, Budget.bytes(900))
    assert torch.equal(resumed.images().x, whole.images().x)


def test_files_have_the_permissions_of_the_umask(toy_pool: Any, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = selections.random()(toy_pool(), 1).save(tmp_path / "set")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640

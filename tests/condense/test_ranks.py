"""One condensation and one evaluation over two processes, started by torchrun, against one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ddreplay import CondensedSet
from ddreplay.ranks import Ranks

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from ddreplay import Budget, ClassPool, ConvNet, dm, evaluate, methods
from ddreplay.evaluation import PROTOCOLS
from ddreplay.methods import selections
from ddreplay.networks import Banked
from ddreplay.objectives import MutualInformation
from ddreplay.parameterize import Partitioned
from ddreplay.ranks import Ranks
from ddreplay.storage.codecs import float32

torch.set_num_threads(1)
folder, ranks, how = Path(sys.argv[1]), None, {}
if sys.argv[2] == "two":
    dist.init_process_group("gloo")
    ranks = Ranks()
    how = {"ranks": ranks}
random = torch.Generator().manual_seed(0)
x = torch.randint(256, (54, 1, 8, 8), generator=random, dtype=torch.uint8)
pool = ClassPool(x, torch.arange(54) % 3, mean=(0.5,), std=(0.3,), device="cpu")
net = ConvNet(width=8)
bank = Banked(size=3, trained=4, batch_size=8)
METHODS = {
    "dm": dm(net, steps=4),
    "dm, tiles, bank": dm(net, steps=4, networks=bank, parameterize=Partitioned(2)),
    "ddm": methods.ddm(net, steps=3),
    "m3d": methods.m3d(net, steps=3, lr=1.0),
    "dc": methods.dc(net, rounds=2, loops=(2, 1)),
}
for name, method in METHODS.items():
    found = method.stored_by(float32())(pool, 3, seed=1, **how)
    found.save(folder / f"{name}{'' if ranks is None else ranks.rank}.safetensors")
in_bytes = dm(net, steps=3)(pool, Budget.bytes(700), seed=1, **how)
in_bytes.save(folder / f"bytes{'' if ranks is None else ranks.rank}.safetensors")
accuracies = evaluate(selections.random()(pool, 3), pool, net, protocol=PROTOCOLS["dc2021"].scaled(2), seeds=3, **how)
text = repr([accuracies.accuracies, accuracies.per_class, accuracies.confusion, accuracies.images])
(folder / f"evaluation{'' if ranks is None else ranks.rank}").write_text(text)
if ranks is not None:
    refused = {
        "mim": (dm(net, steps=1).plus(MutualInformation(), 0.1), {}, "with all others"),
        "idm": (methods.idm(net, steps=1, parameterize=Partitioned(2)), {}, "one after the other"),
        "batch norm": (dm(ConvNet(width=8, norm="batch"), steps=1), {}, "mixes the images"),
        "seconds": (dm(net, steps=1), {"seconds": 5.0}, "leave out seconds"),
        "classes": (dm(net, steps=1), {"classes": 1}, "at most as many as classes"),
    }
    for name, (method, more, words) in refused.items():
        one = pool.select([0]) if more.pop("classes", 0) else pool
        try:
            method(one, 2, **how, **more)
        except ValueError as error:
            assert words in str(error), (name, error)
        else:
            raise SystemExit(f"{name} was not refused")
    # a run goes on from the checkpoint of the first process
    def stop(step, loss):
        if step == 5:
            raise KeyError("interrupted")
    method, path = dm(net, steps=8).stored_by(float32()), folder / "ck"
    whole = method(pool, 2, seed=2, **how)
    try:
        method(pool, 2, seed=2, checkpoint=path, checkpoint_every=2, on_step=stop, **how)
    except KeyError:
        pass
    dist.barrier()
    steps = []
    again = method(pool, 2, seed=2, checkpoint=path, on_step=lambda step, _: steps.append(step), **how)
    assert steps[0] == 5, steps
    assert torch.equal(again.images().x, whole.images().x)
    # processes with other seeds do not pass for one run
    try:
        method(pool, 2, seed=ranks.rank, **how)
    except RuntimeError as error:
        assert "random numbers" in str(error)
    else:
        raise SystemExit("other seeds were not noticed")
    dist.barrier()  # none leaves while another still listens to it
    dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("ranks")
    script = found / "script.py"
    script.write_text(SCRIPT)
    with pytest.MonkeyPatch.context() as patch:  # one process is this one
        patch.setattr(sys, "argv", [str(script), str(found), "one"])
        exec(compile(SCRIPT, str(script), "exec"), {"__name__": "__main__"})
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, str(script), str(found), "two"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return found


@pytest.mark.parametrize("name", ["dm", "dm, tiles, bank", "ddm", "m3d", "dc"])
def test_two_processes_condense_what_one_does(folder: Path, name: str) -> None:
    one, first, second = (CondensedSet.load(folder / f"{name}{which}.safetensors") for which in ("", "0", "1"))
    assert torch.equal(first.images().x, second.images().x)
    assert not torch.equal(first.images().x, torch.zeros_like(first.images().x))
    torch.testing.assert_close(first.images().x, one.images().x, atol=1e-4, rtol=1e-4)


def test_a_budget_in_bytes_is_kept_together(folder: Path) -> None:
    one, first, second = (CondensedSet.load(folder / f"bytes{which}.safetensors") for which in ("", "0", "1"))
    assert first.stored_images == second.stored_images == one.stored_images
    assert torch.equal(first.images().x, second.images().x)
    assert first.nbytes <= 3 * 700


def test_two_processes_evaluate_to_the_same_bits(folder: Path) -> None:
    one, first, second = ((folder / f"evaluation{which}").read_text() for which in ("", "0", "1"))
    assert one == first == second


def test_without_processes_there_are_no_ranks() -> None:
    with pytest.raises(RuntimeError, match="start them with torchrun"):
        Ranks()

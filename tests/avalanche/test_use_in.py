"""Which strategies of Avalanche a memory can be put into: the table of the docstring, row by row."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from avalanche.models import SCRModel
from avalanche.training.plugins import CoPEPlugin, RARPlugin
from avalanche.training.supervised import (
    AGEM,
    DER,
    ER_ACE,
    ER_AML,
    MER,
    MIR,
    SCR,
    FeatureReplay,
    GDumb,
    LwF,
    Naive,
    Replay,
)
from avalanche.training.supervised.icarl import ICaRL
from torch import nn
from toy_streams import MEAN, STD, linear, task_labelled_stream

from ddreplay.avalanche import CodecPlugin, RingBuffer, use_in

ROWS = re.findall(r"^ +([A-Z]\w+) +(yes|no)\b", use_in.__doc__ or "", re.MULTILINE)


def base(kind: Any, **how: Any) -> Any:
    model = how.pop("model", None) or linear()
    how = {"criterion": nn.CrossEntropyLoss(), "train_mb_size": 4, "train_epochs": 2, "evaluator": None, **how}
    return kind(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), **how)


def scr() -> Any:
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 12))
    model = SCRModel(feature_extractor=body, projection=nn.Linear(12, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return SCR(model=model, optimizer=optimizer, train_mb_size=4, batch_size_mem=6, evaluator=None)


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Linear(12, 6))


MAKE: dict[str, Any] = {
    "Replay": lambda: base(Replay, mem_size=200),
    "ER_ACE": lambda: base(ER_ACE, batch_size_mem=50),
    "ER_AML": lambda: base(ER_AML, feature_extractor=nn.Flatten()),
    "MIR": lambda: base(MIR, mem_size=200, subsample=50, batch_size_mem=50),
    "MER": lambda: base(MER),
    "GDumb": lambda: base(GDumb, mem_size=200),
    "RARPlugin": lambda: base(Naive, plugins=[RARPlugin(batch_size_mem=6, name_ext_layer="0")]),
    "CoPEPlugin": lambda: base(Naive, plugins=[CoPEPlugin(n_classes=6, p_size=6, max_it_cnt=3)]),
    "SCR": scr,
    "FeatureReplay": lambda: FeatureReplay(
        model=(model := two_layers()),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        last_layer_name="2",
        train_mb_size=4,
        evaluator=None,
    ),
    "DER": lambda: base(DER),
    "AGEM": lambda: base(AGEM, patterns_per_exp=4),
    "ICaRL": lambda: ICaRL(
        feature_extractor=nn.Flatten(),
        classifier=(head := nn.Linear(64, 6)),
        optimizer=torch.optim.SGD(head.parameters(), lr=0.1),
        memory_size=12,
        buffer_transform=None,
        fixed_memory=True,
        evaluator=None,
    ),
    "LwF": lambda: base(LwF, alpha=1.0, temperature=2.0),
}


class Counting:
    """A transform of replayed images that counts them."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x


def ring(count: Counting) -> Any:
    return RingBuffer(
        images_per_class=5, mean=MEAN, std=STD, device="cpu", task_labels="always", replay_transform=count
    )


def test_the_table_says_of_every_strategy_whether_it_is_served() -> None:
    assert [name for name, _ in ROWS] == list(MAKE)


@pytest.mark.parametrize("name", [name for name, served in ROWS if served == "yes"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of some strategies themselves
def test_a_strategy_that_is_served_replays_from_the_memory(name: str) -> None:
    strategy = MAKE[name]()
    strategy = use_in(strategy, memory := ring(count := Counting()))
    old: set[int] = set()
    for k, experience in enumerate(task_labelled_stream().train_stream):
        count.calls = 0
        strategy.train(experience)
        old |= {int(c) for c in experience.dataset.targets}
        assert k < 2 or count.calls > 0  # MIR leaves out the classes of the last batch, which may be all there are
        assert set(memory.buffer.targets.uniques) == old
        assert len(memory.buffer) == 5 * len(old)


@pytest.mark.parametrize("name", [name for name, served in ROWS if served == "no"])
def test_a_strategy_that_is_not_served_says_so(name: str) -> None:
    with pytest.raises(TypeError, match="logits" if name == "DER" else "holds no storage policy"):
        use_in(MAKE[name](), ring(Counting()))


def test_coding_works_in_a_strategy_with_a_policy_of_its_own() -> None:
    memory = RingBuffer(images_per_class=5, codec="jpeg", mean=MEAN, std=STD, device="cpu")
    strategy = use_in(base(Replay, mem_size=200, plugins=[plugin := CodecPlugin(memory)]), memory)
    for experience in task_labelled_stream().train_stream:
        strategy.train(experience)
        assert plugin.stored.codec == memory.memories[0].condensed.parts[-1].codec

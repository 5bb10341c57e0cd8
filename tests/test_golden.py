"""What every condenser makes of a small pool, in a few numbers that do not depend on the machine's rounding.

A change of these numbers is a change of a method: ``python tests/test_golden.py`` writes them anew.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ddreplay import ClassPool, CondensedSet
from ddreplay.condense.condenser import stored_by
from ddreplay.storage.codecs import float32

sys.path.insert(0, str(Path(__file__).resolve().parent))
from test_contract import CONDENSERS

PATH = Path(__file__).with_name("golden.json")
CODED = {"dm, through a codec", "dm, frequencies"}  # they are stored as they were learned


def numbers(condensed: CondensedSet) -> list[float]:
    """Mean and spread of all pixels, and three weighted sums that tell images and pixels apart."""
    x = condensed.images().x.double().flatten()
    places = torch.arange(len(x), dtype=torch.float64)
    waves = [float((x * torch.cos(places * rate)).mean()) for rate in (0.1, 0.7, 2.3)]
    return [float(x.mean()), float(x.std()), *waves]


def found(name: str, pool: ClassPool) -> list[float]:
    condenser = CONDENSERS[name] if name in CODED else stored_by(CONDENSERS[name], float32())
    return numbers(condenser(pool, 2, seed=1))


@pytest.mark.parametrize("name", CONDENSERS)
def test_a_method_does_what_it_did(name: str, toy_pool: Any) -> None:
    kept = json.loads(PATH.read_text(encoding="utf-8"))
    assert name in kept, "run python tests/test_golden.py"
    assert found(name, toy_pool()) == pytest.approx(kept[name], rel=1e-3, abs=1e-4)


if __name__ == "__main__":
    sys.path.insert(0, str(PATH.parents[1]))
    from conftest import toy_pool as make_pool

    torch.set_num_threads(1)
    written = {name: [round(v, 6) for v in found(name, make_pool())] for name in CONDENSERS}
    PATH.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")

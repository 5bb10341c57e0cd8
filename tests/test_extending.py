"""The examples of docs/extending.md run as they stand: strangers' parts go through condense, save, load and replay."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from ddreplay import ClassPool, ConvNet, dm
from ddreplay.parameterize import Pixels
from ddreplay.parameterize.form import Form
from ddreplay.storage import Decoder

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
COMMON, *EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.S)
TITLES = re.findall(r"^## (.*)$", PAGE, re.M)


@pytest.mark.parametrize("example", range(len(EXAMPLES)), ids=TITLES)
def test_an_example_runs(example: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {"__name__": "example"}
    exec(compile(COMMON, "common", "exec", dont_inherit=True), scope)
    exec(compile(EXAMPLES[example], TITLES[example], "exec", dont_inherit=True), scope)


def test_there_are_five() -> None:
    assert len(EXAMPLES) == len(TITLES) == 5


@dataclass(frozen=True)
class Nameless(Decoder):
    """Says nothing that a file could hold."""

    table: Any = None
    name: ClassVar[str] = "nameless"

    def decode(self, images: list[torch.Tensor], beside: Any) -> list[torch.Tensor]:
        return images


def test_what_could_not_be_read_back_is_refused_before_condensing(toy_pool: Any) -> None:
    steps: list[int] = []

    class Unreadable(Form):
        def __init__(self, images: torch.Tensor, classes: int) -> None:
            super().__init__()
            self.images = torch.nn.Parameter(images)
            self.classes, self.stored_per_class, self.per_class = (
                classes,
                len(images) // classes,
                len(images) // classes,
            )

        def decoder(self) -> Decoder:
            return Nameless(table=object())

    def unreadable(pool: ClassPool, images_per_class: int, random: Any) -> Form:
        return Unreadable(Pixels()(pool, images_per_class, random).images.detach(), pool.classes)

    method = dm(ConvNet(width=8), parameterize=unreadable, steps=2)
    with pytest.raises(ValueError, match="could not be read back"):
        method(toy_pool(), 1, on_step=lambda step, _: steps.append(step))
    assert steps == []

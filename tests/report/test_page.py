"""The page: whole in itself, and what it says is what was measured."""

from __future__ import annotations

import base64
import io
import re
from contextlib import nullcontext
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddreplay import ClassPool, CondensedSet, ConvNet, Protocol, dm
from ddreplay.methods import selections
from ddreplay.networks import Banked
from ddreplay.parameterize.pixels import Pixels
from ddreplay.report import Findings, look_into, write_page

NAMES = {0: "<cat>", 1: "dog", 2: "fox"}


class Tags(HTMLParser):
    """Every tag with its attributes, and whether all that were opened are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def pool(seed: int, count: int) -> ClassPool:
    generator = torch.Generator().manual_seed(seed)
    base = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(9)) * 150
    x = base.repeat_interleave(count, 0) + torch.rand(3 * count, 3, 8, 8, generator=generator) * 100
    labels = torch.arange(3).repeat_interleave(count)
    return ClassPool(x.byte(), labels, mean=(0.5,) * 3, std=(0.25,) * 3, class_names=NAMES, device="cpu")


def looked_into(sets: dict[str, CondensedSet], train: ClassPool, test: ClassPool, **more: Any) -> Findings:
    """By one small network, trained for an epoch."""
    how: dict[str, Any] = {"seeds": 1, "watch": lambda *_: nullcontext(lambda: None), **more}
    return look_into(sets, lambda _: (train, test), {"net": ConvNet(width=8)}, Protocol("quick", epochs=1), **how)


@pytest.fixture(scope="module")
def findings() -> Findings:
    train, test = pool(1, 20), pool(2, 5)
    net = ConvNet(width=8)
    made = dm(net, networks=Banked(size=2), steps=3)
    sets = {"one": made(train, 1), "five": made(train, 5), "real": selections.random()(train, 2)}
    return look_into(
        sets,
        lambda _: (train, test),
        {"convnet(width=8)": net},
        Protocol("quick", epochs=3),
        seeds=2,
        watch=lambda *_: nullcontext(lambda: None),
        data="patterns",
        command="ddreplay report & more",
    )


@pytest.fixture(scope="module")
def page(findings: Findings, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(findings, tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8")


def test_the_page_needs_nothing_beside_it(page: str) -> None:
    reader = Tags()
    reader.feed(page)
    assert reader.open == []
    names = [tag for tag, _ in reader.tags]
    assert not {"script", "link", "iframe"} & set(names)
    assert all(str(a.get("src")).startswith("data:image/png;base64,") for tag, a in reader.tags if tag == "img")
    assert not re.search(r"(href|src|url)\s*[=(]\s*[\"']?https?:", page)
    assert names.count("svg") >= 7


def test_names_of_classes_are_text(page: str) -> None:
    assert "<cat>" not in page
    assert "&lt;cat&gt;" in page


def test_the_numbers_are_those_measured(page: str, findings: Findings) -> None:
    for one in findings.sets:
        for result in one.evaluations["convnet(width=8)"].values():
            assert f"{result.mean:.1f} ± {result.ci95:.1f}" in page
            assert f"{result.nbytes:,}" in page


def test_rivals_take_no_more_bytes(findings: Findings) -> None:
    for one in findings.sets:
        results = one.evaluations["convnet(width=8)"]
        assert set(results) == {"condensed", "random", "herding"}
        assert all(r.nbytes <= one.condensed.nbytes for r in results.values())


def test_confusion_counts_every_test_image_of_every_network(findings: Findings) -> None:
    result = findings.sets[0].evaluations["convnet(width=8)"]["condensed"]
    confusion = np.array(result.confusion)
    assert confusion.sum(1).tolist() == [10, 10, 10]  # five images, two networks
    right = confusion.diagonal() / confusion.sum(1) * 100
    assert right.tolist() == pytest.approx(list(result.per_class.values()))
    assert "confusion" not in result.as_dict()


def test_pictures_are_the_stored_pixels(page: str, findings: Findings) -> None:
    (_, _, real) = findings.sets
    addresses = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="image 1 of class dog"', page)
    with Image.open(io.BytesIO(base64.b64decode(addresses[2]))) as picture:
        shown = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)
    assert torch.equal(shown, real.pixels[2].mul(255).round().byte())


def test_real_images_are_not_called_synthetic(page: str) -> None:
    _, _, real = page.split("<h2>one</h2>")[1].partition("<h2>real</h2>")
    assert "These are real images that were selected." in real
    assert "whoever has the set has them" in real
    assert "These are no photographs" not in real


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    train, test = pool(1, 20), pool(2, 5)
    tiny = dm(ConvNet(width=8), networks=Banked(size=1), steps=1)(train, 1)
    small = tiny.select([0])  # one image, where real ones of three classes are asked for
    found = looked_into({"tiny": small}, train, test.select([0]))
    (one,) = found.sets
    assert one.missing == ("random", "herding")
    assert "Not one real image of every class fits into these bytes for: random, herding." in write_page(
        found, tmp_path / "p.html"
    ).read_text(encoding="utf-8")


def test_a_set_without_a_step_is_not_called_optimised(tmp_path: Path) -> None:
    train, test = pool(1, 20), pool(2, 5)
    untouched = dm(ConvNet(width=8), networks=Banked(size=1), steps=5)(train, 1, seconds=0.0)
    assert untouched.provenance["steps_done"] == 0
    found = looked_into({"untouched": untouched}, train, test)
    text = write_page(found, tmp_path / "p.html").read_text(encoding="utf-8")
    assert "No image step was" in text
    assert "These are no photographs" not in text


def test_a_file_may_say_anything_of_itself(tmp_path: Path) -> None:
    train, test = pool(1, 20), pool(2, 5)
    odd = {
        "method": ["<b>"],
        "data": 3,
        "settings": "x",
        "versions": None,
        "seconds": "long",
        "loss": [[1], "a"],
        "steps_done": {},
    }
    found = looked_into({"odd": replace(selections.random()(train, 1), provenance=odd)}, train, test)
    text = write_page(found, tmp_path / "p.html").read_text(encoding="utf-8")
    assert "Loss of the condensation" not in text
    assert "<b>'" not in text


def test_near_copies_are_not_called_optimised_beyond_recognition(page: str, tmp_path: Path) -> None:
    train, test = pool(1, 20), pool(2, 5)
    one = page.split("<h2>one</h2>")[1].partition("<h2>five</h2>")[0]
    assert "3 of 3 images are nearer to a real one than that" in one  # three steps from real images
    assert "most have moved little" in one
    assert "These are no photographs" not in one
    from_noise = dm(ConvNet(width=8), networks=Banked(size=1), steps=1, parameterize=Pixels("noise"))(train, 1)
    found = looked_into({"noise": from_noise}, train, test, baselines=())
    text = write_page(found, tmp_path / "p.html").read_text(encoding="utf-8")
    assert "These are no photographs" in text
    assert "most have moved little" not in text


def test_a_set_that_is_much_of_its_data_says_so(page: str) -> None:
    one, rest = page.split("<h2>one</h2>")[1].split("<h2>five</h2>")
    five, real = rest.split("<h2>real</h2>")
    assert "1 of 20 images" in one
    assert "leaves little to condense" not in one + real
    assert "25 % of the images" in five
    assert "leaves little to condense" in five
    assert "tested on 5 images of each class" in five

"""What people type: every name makes its object, and what is wrong is one line that says what would be right."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ddreplay import ClassPool, ConvNet, Distiller, dm
from ddreplay.augment import CutMix, Identity
from ddreplay.backbones import Bfloat16
from ddreplay.condense.image_count import Fixed
from ddreplay.methods import Whitened
from ddreplay.methods.selections import Selection
from ddreplay.names import (
    KINDS,
    codec,
    condenser,
    explain,
    listing,
    network,
    options,
    parse,
    protocol,
    written,
)
from ddreplay.networks import Banked, Fresh, Loops, ModelQueue, Pretrained, TrainedOnSynthetic
from ddreplay.networks.real_batches import Representative, RepresentativeImages
from ddreplay.objectives import WarmUp
from ddreplay.parameterize import Basis, Coded, Partitioned, Pixels
from ddreplay.storage.codecs import jpeg, uint8

NET = "convnet(width=8)"
MakePool = Callable[..., ClassPool]


def made(expression: str, *more: str, **how: Any) -> Distiller:
    found = condenser(expression, net=NET, options=more, **how)
    assert isinstance(found, Distiller)
    return found


@pytest.mark.parametrize("name", [n for kind in ("method", "selection") for n in KINDS[kind] if n != "whitened"])
def test_every_method_is_made_by_its_name_alone(name: str) -> None:
    found = condenser(name, net=NET)
    assert isinstance(found, (Distiller, Selection))
    assert found.name == name


def test_an_expression_is_what_python_makes(toy_pool: MakePool) -> None:
    typed = condenser("dm(steps=3, networks=banked(size=2, trained=4), parameterize=partitioned(2))", net=NET)
    meant = dm(ConvNet(width=8), steps=3, networks=Banked(size=2, trained=4), parameterize=Partitioned(2))
    assert torch.equal(typed(toy_pool(), 1).images().x, meant(toy_pool(), 1).images().x)


def test_parts_without_a_network_take_that_of_the_method() -> None:
    own = ConvNet(width=8)
    assert made("dm").networks == Fresh(own)
    assert made("dm(networks=banked(size=3))").networks == Banked(own, 3)
    assert made("dm(networks=banked(net=mlp(width=4), size=3))").networks.net == network("mlp(width=4)")
    assert made("dm(net=convnet(width=4), networks=model_queue)").networks.net == ConvNet(width=4)
    assert made("dm(convnet(width=4))").networks.net == ConvNet(width=4)
    assert made("dream").parameterize == Partitioned(2, RepresentativeImages(own))
    assert made("dm(draw=representative(interval=3))").draw == Representative(interval=3)


def test_what_the_expression_says_wins_over_options_and_these_over_one_another() -> None:
    assert made("dm(steps=7)", "steps=3").steps == 7
    assert made("dm", "steps=3", "steps=5").steps == 5
    assert made("dm", "strategy=crop", augment="flip").augment.strategy == "crop"  # type: ignore[attr-defined]
    assert made("dm", augment="flip").augment.strategy == "flip"  # type: ignore[attr-defined]
    assert made("dc", augment="flip").augment == Identity()


def test_every_kind_of_value_is_read() -> None:
    found = made(
        "dcc", "scope=warmup(rounds=None, steps=10)", "loops=(2, 1)", "mix=cutmix(p=0.3)", "lr=1e-3", "compile=True"
    )
    objective: Any = found.objective
    assert objective.scope == WarmUp(rounds=None, steps=10)
    assert objective.mix == CutMix(p=0.3)
    assert isinstance(found.networks, TrainedOnSynthetic)
    assert found.networks.loops == Loops.of((2, 1))
    assert found.networks.compile
    assert made("dcc(scope=set)").objective.scope == "set"  # type: ignore[attr-defined]
    assert made("dc(loops=loops(((1, 2, 3), (10, 4, 5))))").networks.loops == Loops(((1, 2, 3), (10, 4, 5)))  # type: ignore[attr-defined]
    assert made("mtt", "folder=/tmp/a b/c").networks.folder == "/tmp/a b/c"  # type: ignore[attr-defined]
    assert made("mtt", "folder=runs/c").networks.folder == "runs/c"  # type: ignore[attr-defined]
    assert made("dm(parameterize=pixels(noise))").parameterize == Pixels("noise")
    assert made("bptt(parameterize=basis(times=2, init=noise))").parameterize == Basis(2, init="noise")
    assert made("dm(parameterize=coded(jpeg(30), every=2))").parameterize == Coded(jpeg(30), every=2)
    queue = made("idm(networks=ModelQueue(pretrained=Pretrained(steps=3)))").networks
    assert queue == ModelQueue(ConvNet(width=8), pretrained=Pretrained(steps=3))


def test_every_part_of_a_distiller_can_be_exchanged() -> None:
    found = made(
        "dm(codec=jpeg(30), choose=fixed(3), augment=identity, optimizer=sgd(lr=0.3), plus=(mutual_information(width=8), 0.5))"
    )
    assert (found.codec, found.choose, found.augment) == (jpeg(30), Fixed(3), Identity())
    assert found.optimizer.lr == 0.3  # type: ignore[attr-defined]
    assert "MutualInformation" in repr(found.objective)
    assert condenser("herding(choose=fixed(2), codec=uint8)", net=NET).choose == Fixed(2)  # type: ignore[attr-defined]


def test_a_wrapper_hands_options_on() -> None:
    found = condenser("whitened(mtt(steps=5), rank=4)", net=NET, options=["experts=3", "eps=0.2"], augment="crop")
    assert isinstance(found, Whitened)
    inner: Any = found.condenser
    assert (found.eps, found.rank, inner.networks.experts, inner.objective.steps) == (0.2, 4, 3, 5)
    assert inner.networks.net == ConvNet(width=8)
    assert inner.augment.strategy == "crop"


def test_networks_codecs_and_protocols() -> None:
    assert network("bfloat16(convnet(width=64))") == Bfloat16(ConvNet(width=64))
    assert network("ConvNet(16, depth=2)") == ConvNet(width=16, depth=2)
    assert (codec("jpeg(30)"), codec("uint8")) == (jpeg(30), uint8())
    assert protocol("dc2021").epochs == 300
    assert parse("banked(size=3)", "networks") == Banked(size=3)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("dmm", "method must be one of dm, idm, .*grand, got 'dmm'; did you mean dm\\?"),
        ("dm(steps=ten)", "steps of dm must be a whole number, got 'ten'"),
        ("dm(steps=1.5)", "steps of dm must be a whole number, got 1.5"),
        ("dm(lr=abc)", "lr of dm must be a number, got 'abc'"),
        ("dm(steps=True)", "steps of dm must be a whole number, got True"),
        ("dm(steps=0)", "steps of dm must be at least 1, got 0"),
        ("dm(steps=-1)", "steps of dm must be at least 1, got -1"),
        ("dc(rounds=0)", "rounds must be at least 1, got 0"),
        ("dc(metric=cosin)", "metric of dc must be layerwise or cosine or mse or l1, got 'cosin'; did you mean cosine"),
        ("dm(bank=40)", "an option of dm must be one of net, networks, .*, got 'bank'"),
        ("dm(size=40)", "got 'size'; size is an option of banked: networks=banked\\(size=...\\)"),
        ("dm(networks=bankd)", "networks of dm must be fresh or banked or .*, got 'bankd'; did you mean banked"),
        ("dm(networks=bankd(size=2))", "networks must be one of fresh, banked, .*, got 'bankd'; did you mean banked"),
        ("dm(networks=partitioned(2))", "networks must be one of fresh"),
        ("dm(networks=banked(size=0))", "size must be at least 1, got 0"),
        ("dm(networks=banked(trained=few))", "trained of banked must be a whole number, got 'few'"),
        (
            "idm(pretrained=Pretrained())",
            "pretrained is an option of model_queue: networks=model_queue\\(pretrained=...\\)",
        ),
        ("dm(net=transformer)", "net of dm must be None or convnet or .*, got 'transformer'"),
        ("dm(1, 2)", "dm takes 1 values without a name, got 2"),
        ("dm(net=convnet(), net=mlp)", "cannot be read .*given twice"),
        ("dm(convnet, net=mlp)", "net of dm is given twice"),
        ("dm(steps=3", "cannot be read"),
        ("dm(steps=__import__('os').system('false'))", "cannot be read"),
        ("dm(steps=exec('1'))", "steps must be one of .*, got 'exec'"),
        ("dm.steps", "cannot be read"),
        ("dm(plus=3)", "plus must be a term or \\(term, weight\\)"),
        ("random(draw=uniform)", "draw is no option of random; it has codec"),
        ("random(plus=mutual_information)", "plus must be a term or"),
        ("whitened", "whitened needs a method"),
        ("dm(net=bfloat16)", "bfloat16 needs net"),
        ("dcc(groups=(1, (2)))", "groups of dcc must be"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_what_would_be_right(expression: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        condenser(expression, net=NET)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("option", "words"), [("steps", "NAME=VALUE"), ("=3", "NAME=VALUE"), ("steps=", "NAME=VALUE")])
def test_an_option_is_a_name_and_a_value(option: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        condenser("dm", options=[option])


def test_nothing_is_executed(tmp_path: Any) -> None:
    trap = tmp_path / "trap"
    for text in (
        f"dm(lr=open({str(trap)!r}, 'w'))",
        f"open({str(trap)!r}, 'w')",
        "dm(lr=(lambda: 1)())",
        "dm(lr=1 + 1)",
    ):
        with pytest.raises(ValueError):
            condenser(text, net=NET)
    assert not trap.exists()


def test_written_is_read_again() -> None:
    for kind, text in (
        ("networks", "banked(size=3, trained=5)"),
        ("networks", "model_queue(pretrained=pretrained(steps=3))"),
        ("parameterize", "partitioned(factor=3, init=noise)"),
        ("parameterize", "pixels(init=representative_images)"),
        ("codec", "jpeg(quality=31)"),
        ("codec", "uint8"),
        ("net", "bfloat16(net=convnet(width=64))"),
        ("scope", "warmup(rounds=None)"),
    ):
        assert written(parse(text, kind)) == text


def test_every_default_is_written_as_it_is_read() -> None:
    for name in KINDS["method"]:
        for argument, option in options(name).items():
            if argument in KINDS and not isinstance(option.default, (float, type(None))):
                assert parse(written(option.default), argument) == option.default


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("codec", "term")])
def test_every_option_says_what_it_means(kind: str) -> None:
    silent = {name: [n for n, o in options(name).items() if not o.meaning] for name in KINDS[kind]}
    assert {name: missing for name, missing in silent.items() if missing} == {}


def test_every_object_says_what_it_is() -> None:
    for kind, table in listing().items():
        assert list(table) == list(KINDS[kind])
        assert all(len(line) > 10 for line in table.values())
    text = explain("dm", width=80)
    assert text.startswith("dm: Dataset condensation with distribution matching (DM).")
    assert "networks=fresh\n" in text
    assert "steps=20000\n" in text
    assert "One of: fresh, banked" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert "size=40" in explain("Banked")
    with pytest.raises(ValueError, match="did you mean banked"):
        explain("bankd")


def test_names_are_unique_and_kinds_are_arguments() -> None:
    names = [name for table in KINDS.values() for name in table]
    assert len(names) == len(set(names))
    arguments = {a for name in KINDS["method"] for a in options(name)} | set(inspect.signature(Distiller).parameters)
    assert {
        "networks",
        "parameterize",
        "net",
        "mix",
        "scope",
        "loops",
        "draw",
        "choose",
        "optimizer",
        "codec",
        "augment",
    } <= arguments

"""One draw for every class: the same on both sides, whatever passes in pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ddreplay import ClassPool, ConvNet, dm, dsa, idm, names
from ddreplay.augment import ByClass, Siamese
from ddreplay.augment.by_class import ClassTransforms
from ddreplay.backbones import Probe
from ddreplay.data.chunks import DrawnImages
from ddreplay.objectives import GradientMatching, Look, MeanEmbedding, Side, Term
from ddreplay.randomness import Random

MakePool = Callable[..., ClassPool]
STRATEGY = "color_crop_cutout_scale_rotate"


def a_look(pool: ClassPool, term: Term, seed: int = 0) -> Look:
    with Random(seed).scope():
        net = ConvNet(width=4)(pool.shape, 5).double().requires_grad_(term.weight_gradients)
    augment = ByClass(Siamese(STRATEGY))
    return Look(net, Probe(net, term.taps), augment.draw(pool.shape, Random(seed)), augment, Random(seed))


def images(n: int, seed: int, classes: int = 3) -> Tensor:
    return torch.rand(classes * n, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_class_has_its_own_draw_on_both_sides(toy_pool: MakePool) -> None:
    look, positions = a_look(toy_pool(), MeanEmbedding(), 5), (3, 0, 4)
    transform = look.transform
    assert isinstance(transform, ClassTransforms)
    real, syn = images(4, 1), images(2, 2)
    for x, n in ((real, 4), (syn, 2)):
        wanted = torch.cat([transform.of_class(k)(x[j * n : (j + 1) * n]) for j, k in enumerate(positions)])
        side = Side(look, x, positions)
        assert torch.equal(side.x, wanted)
        assert torch.equal(side.augmented(x[1 : n + 1], slice(1, n + 1)), wanted[1 : n + 1])
    assert len({repr(transform.of_class(k)) for k in range(5)}) == 5
    again = ByClass(Siamese(STRATEGY)).draw((1, 8, 8), Random(5))
    assert isinstance(again, ClassTransforms)
    assert repr(again.of_class(4)) == repr(transform.of_class(4))  # though others were not asked for


@pytest.mark.parametrize("term", [MeanEmbedding(), GradientMatching("class")], ids=["means", "gradients"])
def test_pieces_give_what_all_at_once_give(term: Term, toy_pool: MakePool) -> None:
    look, positions = a_look(toy_pool(), term), (2, 0, 1)
    real, syn = images(6, 1), images(40, 2)
    found = []
    for chunk in (None, 4):
        moving = syn.clone().requires_grad_()
        with torch.no_grad():
            statistic = term.summarise(Side(look, real, positions, chunk=chunk))
        loss = term.distance(statistic, Side(look, moving, positions, chunk=chunk))
        found.append((loss.detach(), torch.autograd.grad(loss, moving)[0]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-8, atol=1e-12)
    assert float(found[0][1].abs().max()) > 0


def test_real_images_that_are_fetched_have_the_draw_of_their_class(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=6)
    look = a_look(pool, MeanEmbedding())
    rows = torch.cat([pool.draw_rows(4, Random(1))[k] for k in range(3)])
    fetched = Side(look, DrawnImages(pool, rows), (0, 1, 2), chunk=5)
    whole = Side(look, pool.rows(rows), (0, 1, 2))
    index = torch.tensor([11, 0, 5])
    assert torch.equal(fetched.seen[index], whole.x[index])
    assert torch.equal(fetched.seen[3:9], whole.x[3:9])


def test_methods_take_it_and_without_it_nothing_changes(toy_pool: MakePool) -> None:
    pool, net = toy_pool(images_per_class=12), ConvNet(width=8)
    for method in (
        dm(net, steps=3),
        dsa(net, rounds=2, loops=(2, 1), batch_real=4),
        idm(net, steps=2, batch_real=4),
    ):
        one, other = (replace(method, augment=ByClass(method.augment))(pool, 2, seed=1).images().x for _ in range(2))
        assert torch.equal(one, other)
        assert not torch.equal(one, method(pool, 2, seed=1).images().x)
    typed = names.condenser("dm(augment=by_class(siamese('color_crop')), steps=3)", net="convnet(width=8)")
    assert typed.augment == ByClass(Siamese("color_crop"))  # type: ignore[attr-defined]

"""Condensing through a codec: what the networks see, which way the gradient goes, what is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ddreplay import ClassPool, ConvNet, dm
from ddreplay.data.space import to_network, to_pixels
from ddreplay.networks import Banked
from ddreplay.parameterize.coded import Coded, CodedForm
from ddreplay.parameterize.form import Form
from ddreplay.parameterize.partitioned import Partitioned
from ddreplay.parameterize.pixels import Pixels
from ddreplay.randomness import Random
from ddreplay.storage.codecs import Codec, avif, bits, float32, jpeg, uint8, webp
from ddreplay.storage.decoders import expand_partition
from ddreplay.storage.part import Part

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=8)
CODECS = [bits(2), jpeg(20), webp(10), avif(20, speed=9)]


def form_of(pool: ClassPool, codec: Codec, n: int = 2, **how: object) -> CodedForm:
    return Coded(codec, **how)(pool, n, Random(0))  # type: ignore[arg-type]


def moved(form: CodedForm, by: float = 0.3, seed: int = 1) -> CodedForm:
    noise = torch.randn(form.stored.images.shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        form.stored.images += by * noise
    return form


def given_back(form: CodedForm, codec: Codec, pool: ClassPool) -> Tensor:
    blocks = to_pixels(form.stored.images.detach(), pool.mean, pool.std).split(form.stored_per_class)
    stored = codec.encode(blocks)
    return to_network(torch.cat(codec.decode(stored, [len(x) for x in blocks], pool.shape)), pool.mean, pool.std)


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
def test_the_networks_see_what_storage_gives_back(toy_pool: MakePool, codec: Codec) -> None:
    pool = toy_pool(shape=(3, 8, 8))
    form = form_of(pool, codec, every=1)
    form.decode()
    seen = moved(form).decode()
    torch.testing.assert_close(seen, given_back(form, codec, pool), atol=1e-5, rtol=0)
    assert (seen - form.stored.images).abs().max() > 0.05


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.name)
def test_what_was_matched_is_what_is_replayed(toy_pool: MakePool, codec: Codec) -> None:
    pool, seen = toy_pool(shape=(3, 8, 8)), []
    method = replace(dm(NET, steps=2), parameterize=Coded(codec, Partitioned(2), every=1))

    class Spy(CodedForm):
        def storage(self, codec: Codec) -> Codec:
            self._look(fit=False)
            seen.append(self.decode().detach())
            return super().storage(codec)

    def spy(pool: ClassPool, n: int, random: Random) -> Form:
        form = method.parameterize(pool, n, random)
        form.__class__ = Spy
        return form

    found = replace(method, parameterize=spy)(pool, 2)
    assert found.parts[0].codec == codec
    torch.testing.assert_close(found.images().x, seen[-1], atol=1e-5, rtol=0)


def test_between_looks_the_last_error_is_added(toy_pool: MakePool) -> None:
    form = form_of(toy_pool(), jpeg(10), every=3)
    errors = []
    for _ in range(7):
        seen = form.decode()
        errors.append(seen.detach() - to_network(_clamped(form), form.mean, form.std))
        moved(form, 0.05, seed=len(errors))
    same = [torch.allclose(a, b, atol=1e-5) for a, b in pairwise(errors)]
    assert same == [True, True, False, True, True, False]


def _clamped(form: CodedForm) -> Tensor:
    return to_pixels(form.stored.images.detach(), form.mean, form.std).clamp(0, 1)


def test_looking_without_a_gradient_changes_nothing(toy_pool: MakePool) -> None:
    form = moved(form_of(toy_pool(), jpeg(10), every=1))
    before = {name: value.clone() for name, value in form.state_dict().items()}
    with torch.no_grad():
        form.decode()
    assert all(torch.equal(value, before[name]) for name, value in form.state_dict().items())


def test_the_gradient_is_that_of_the_identity_within_the_range(toy_pool: MakePool) -> None:
    pool = toy_pool()
    weights = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    form = form_of(pool, jpeg(5))
    (form.decode() * weights).sum().backward()
    torch.testing.assert_close(form.stored.images.grad, weights)


def test_no_gradient_leads_further_out_of_the_range(toy_pool: MakePool) -> None:
    form = form_of(toy_pool(), jpeg(5))
    with torch.no_grad():
        form.stored.images[0], form.stored.images[1] = -50.0, 50.0
    for sign in (1.0, -1.0):
        form.stored.images.grad = None
        (sign * form.decode().sum()).backward()
        assert bool((form.stored.images.grad[0] != 0).all()) == (sign < 0)
        assert bool((form.stored.images.grad[1] != 0).all()) == (sign > 0)


def test_values_without_a_range_are_not_clamped(toy_pool: MakePool) -> None:
    form = form_of(toy_pool(), float32(), every=1)
    form.decode()
    with torch.no_grad():
        form.stored.images *= 9
    torch.testing.assert_close(form.decode(), form.stored.images)


def test_a_partition_is_expanded_after_the_codec(toy_pool: MakePool) -> None:
    pool = toy_pool(shape=(3, 8, 8))
    form = form_of(pool, jpeg(30), parameterize=Partitioned(2))
    flat = given_back(form, jpeg(30), pool).split(2)
    torch.testing.assert_close(form.decode(), torch.cat([expand_partition(x, 2) for x in flat]), atol=1e-5, rtol=0)


def test_a_model_of_jpeg_coefficients_has_the_same_gradient(toy_pool: MakePool) -> None:
    """Grey, 8 x 8: orthonormal DCT, rounding with the gradient of the identity, inverse DCT. Its values are those of the codec."""
    pool = toy_pool(shape=(1, 8, 8))
    u, x = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    basis = torch.cos((2 * x + 1) * u * torch.pi / 16) * torch.where(u == 0, 0.125, 0.25).sqrt()
    table = torch.tensor(_luminance(10))
    form = form_of(pool, jpeg(10))
    images = to_pixels(form.stored.images.detach(), pool.mean, pool.std).mul(255).round().requires_grad_()
    coefficients = basis @ (images - 128) @ basis.T / table
    rounded = coefficients + (coefficients.round() - coefficients).detach()
    model = basis.T @ (rounded * table) @ basis + 128
    assert (model.clamp(0, 255) / 255 - _pixels(form.decode(), pool)).abs().max() < 2.5 / 255
    weights = torch.randn(model.shape, generator=torch.Generator().manual_seed(2))
    (model * weights).sum().backward()
    torch.testing.assert_close(images.grad, weights, atol=1e-4, rtol=1e-4)


def _pixels(images: Tensor, pool: ClassPool) -> Tensor:
    return to_pixels(images.detach(), pool.mean, pool.std)


def _luminance(quality: int) -> list[list[float]]:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "JPEG", quality=quality)
    zigzag = Image.open(out).quantization[0]  # Pillow gives tables row by row
    return [[float(zigzag[8 * r + c]) for c in range(8)] for r in range(8)]


def test_the_quality_follows_the_bytes(toy_pool: MakePool) -> None:
    pool = toy_pool(shape=(3, 16, 16), images_per_class=12)
    for budget in (150, 300, 900):
        form = form_of(pool, jpeg(), 4, bytes_per_class=budget, every=1, refit=2)
        for step in range(6):
            form.decode()
            moved(form, 0.2, seed=step)
        codec = form.storage(uint8())
        assert Part.of_images(pool, form.images.detach().split(4), codec).images_nbytes <= form.max_bytes
        assert codec != form.how.codec


def test_an_interrupted_run_goes_on_to_the_same_bits(toy_pool: MakePool, tmp_path: object) -> None:
    pool = toy_pool(shape=(3, 8, 8))
    method = dm(
        NET,
        networks=Banked(size=2),
        parameterize=Coded(jpeg(30), every=3, bytes_per_class=120, refit=4),
        steps=7,
    )
    whole = method(pool, 2, checkpoint=None)
    path = tmp_path / "state"  # type: ignore[operator]

    class Interrupted(Exception):
        pass

    def stop(step: int, loss: Tensor) -> None:
        if step == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        method(pool, 2, checkpoint=path, checkpoint_every=1, on_step=stop)
    resumed = method(pool, 2, checkpoint=path, checkpoint_every=1)
    assert torch.equal(whole.images().x, resumed.images().x)


def test_what_it_cannot_take_is_refused(toy_pool: MakePool) -> None:
    with pytest.raises(ValueError, match="every"):
        Coded(jpeg(), every=0)
    with pytest.raises(ValueError, match="refit"):
        Coded(jpeg(), refit=0)
    with pytest.raises(TypeError, match="once more"):
        Coded(jpeg(), Coded(jpeg()))
    assert Coded(jpeg()).parameterize == Pixels()


def test_small_images_are_not_cut(toy_pool: MakePool) -> None:
    method = replace(dm(NET, steps=1), parameterize=Partitioned(2, min_tile=6))
    assert len(method(toy_pool(shape=(3, 8, 8)), 2)) == 6
    assert len(method(toy_pool(shape=(3, 12, 12)), 2)) == 24

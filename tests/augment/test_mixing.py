import math
import pickle

import pytest
import torch
from torchvision.transforms import v2

from ddreplay.augment.mixing import CutMix, MixTransform, MixUp
from ddreplay.data.pool import Batch
from ddreplay.randomness import Random


def class_major(classes, per_class, shape=(2, 8, 6), seed=1):
    x = torch.randn(classes * per_class, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Batch(x, torch.arange(classes).repeat_interleave(per_class))


def oracle(x, y, classes, partner, transform):
    """Image by image, pixel by pixel."""
    mixed, labels = torch.zeros_like(x), torch.zeros(len(x), classes, dtype=x.dtype)
    for i, j in enumerate(partner):
        labels[i, y[i]] += transform.share
        labels[i, y[j]] += 1 - transform.share
        for a in range(x.shape[2]):
            for b in range(x.shape[3]):
                if transform.box is None:
                    mixed[i, :, a, b] = transform.share * x[i, :, a, b] + (1 - transform.share) * x[j, :, a, b]
                else:
                    top, bottom, left, right = transform.box
                    mixed[i, :, a, b] = x[j if top <= a < bottom and left <= b < right else i, :, a, b]
    return mixed, labels


@pytest.mark.parametrize("augment", [MixUp(), MixUp(0.2), CutMix(p=1.0), CutMix(2.0, 1.0)])
def test_a_siamese_draw_mixes_both_sides_alike(augment):
    random = Random(2)
    for classes in (2, 3, 5):
        transform = augment.draw((2, 8, 6), random)
        shift = 1 + math.floor(transform.shift * (classes - 1))
        for per_class in (1, 3):
            x, y = class_major(classes, per_class)
            partner = [(a + shift) % classes * per_class + j for a in range(classes) for j in range(per_class)]
            assert all(y[i] != y[j] for i, j in enumerate(partner))
            got = transform.mix((x, y), classes)
            wanted, labels = oracle(x, y, classes, partner, transform)
            torch.testing.assert_close(got.x, wanted)
            torch.testing.assert_close(got.y, labels)
            assert torch.equal(transform.images(x, classes), got.x)
    one = transform.mix(class_major(1, 4), 1)
    torch.testing.assert_close(one.x, oracle(*class_major(1, 4), 1, [1, 2, 3, 0], transform)[0])


@pytest.mark.parametrize("augment", [MixUp(), CutMix(p=1.0)])
def test_a_draw_for_a_batch_pairs_its_images(augment):
    x, y = class_major(3, 3)
    transform = augment.draw((2, 8, 6), Random(3), n=9)
    assert sorted(transform.order.tolist()) == list(range(9))
    got = transform.mix((x, y), 3)
    wanted, labels = oracle(x, y, 3, transform.order.tolist(), transform)
    torch.testing.assert_close(got.x, wanted)
    torch.testing.assert_close(got.y, labels)


@pytest.mark.parametrize("augment", [MixUp(), CutMix(p=1.0)])
def test_mixing_equals_torchvision_with_the_same_parameters(augment):
    x, y = class_major(4, 2)
    transform = augment.draw((2, 8, 6), Random(4))
    transform = MixTransform(transform.share, transform.box, order=torch.arange(8).roll(1))
    if transform.box is None:
        theirs, parameters = v2.MixUp(num_classes=4), {"lam": transform.share}
    else:
        top, bottom, left, right = transform.box
        theirs = v2.CutMix(num_classes=4)
        parameters = {"box": (left, top, right, bottom), "lam_adjusted": transform.share}
    parameters.update(labels=y, batch_size=8)
    got = transform.mix((x, y), 4)
    torch.testing.assert_close(got.x, theirs.transform(x, parameters))
    torch.testing.assert_close(got.y.float(), theirs.transform(y, parameters))


def test_soft_labels_mix_as_hard_ones():
    x, y = class_major(3, 2)
    transform = MixUp().draw((2, 8, 6), Random(5))
    soft = torch.nn.functional.one_hot(y, 3)
    torch.testing.assert_close(transform.mix((x, soft), 3).y, transform.mix((x, y), 3).y)
    half = Batch(x[:4], y[:4] + 1)
    assert transform.mix(half, 3, blocks=2).y[:, 0].abs().max() == 0


@pytest.mark.parametrize("augment", [MixUp(), CutMix(p=1.0)])
def test_gradients_flow(augment):
    x, y = class_major(2, 2, (1, 4, 5))
    transform = augment.draw((1, 4, 5), Random(6))
    assert torch.autograd.gradcheck(lambda x: transform.mix((x, y), 2).x, (x.requires_grad_(),))


def test_shares_and_partners_fill_their_ranges():
    random = Random(7)
    for alpha in (0.3, 1.0, 3.0):
        shares = torch.tensor([MixUp(alpha).draw((1, 8, 8), random).share for _ in range(500)])
        deviation = math.sqrt(1 / (4 * (2 * alpha + 1)))
        assert abs(shares.mean() - 0.5) < 5 * deviation / math.sqrt(500)
        assert abs(shares.std() / deviation - 1) < 0.15
    draws = [CutMix().draw((1, 8, 12), random) for _ in range(500)]
    assert 190 < sum(draw.box is not None for draw in draws) < 310
    assert {1 + math.floor(draw.shift * 3) for draw in draws} == {1, 2, 3}
    for draw in draws:
        if draw.box is None:
            assert draw.share == 1
            continue
        top, bottom, left, right = draw.box
        assert 0 <= top <= bottom <= 8
        assert 0 <= left <= right <= 12
        assert draw.share == pytest.approx(1 - (bottom - top) * (right - left) / 96)


def test_same_seed_same_mixing_and_the_callers_generator_is_untouched():
    x, y = class_major(3, 2)
    before = torch.get_rng_state()
    for augment in (MixUp(0.4), CutMix(0.4, 1.0)):
        for n in (None, 6):
            first, second = (augment.draw((2, 8, 6), Random(8), n=n).mix((x, y), 3) for _ in range(2))
            assert torch.equal(first.x, second.x)
            assert torch.equal(first.y, second.y)
        assert pickle.loads(pickle.dumps(augment)) == augment
    assert torch.equal(torch.get_rng_state(), before)
    assert repr(CutMix()) == "CutMix(alpha=1.0, p=0.5)"


def test_inputs_are_left_alone():
    x, y = class_major(3, 2)
    kept = x.clone()
    CutMix(p=1.0).draw((2, 8, 6), Random(9)).mix((x, y), 3)
    assert torch.equal(x, kept)


def test_errors_name_what_is_wrong():
    x, y = class_major(3, 2)
    with pytest.raises(ValueError, match="alpha must be positive and finite, got 0"):
        MixUp(0.0)
    with pytest.raises(ValueError, match="p must be between 0 and 1, got 2"):
        CutMix(p=2.0)
    with pytest.raises(ValueError, match="equal blocks of 4 classes, got 6 images"):
        MixUp().draw((2, 8, 6), Random(0)).mix((x, y), 4)
    with pytest.raises(ValueError, match="n=5 images, got 6"):
        MixUp().draw((2, 8, 6), Random(0), n=5).mix((x, y), 3)
    with pytest.raises(ValueError, match="each of the 4 classes, got 3"):
        MixUp().draw((2, 8, 6), Random(0)).mix((x, torch.rand(6, 3)), 4)

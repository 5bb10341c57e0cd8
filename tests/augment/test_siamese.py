import math
import pickle

import pytest
import torch

from ddreplay.augment.siamese import DIGITS, NATURAL, Composed, Drawn, Identity, Siamese, Step
from ddreplay.randomness import Random

OPERATIONS = NATURAL.split("_")
SHAPES = [(3, 8, 8), (1, 8, 8), (3, 8, 12), (1, 11, 6), (2, 9, 9)]


def oracle(image, name, p):
    """One image [c, h, w] in float64, pixel by pixel from the formulas."""
    channels, height, width = image.shape
    out = torch.zeros_like(image)
    if name == "color":
        shifted = image + p["brightness"]
        gray = shifted.mean(0)
        vivid = torch.stack([(shifted[c] - gray) * p["saturation"] + gray for c in range(channels)])
        return (vivid - vivid.mean()) * p["contrast"] + vivid.mean()
    for i in range(height):
        for j in range(width):
            if name == "crop":
                a, b = i + p["down"], j + p["right"]
                if 0 <= a < height and 0 <= b < width:
                    out[:, i, j] = image[:, a, b]
            elif name == "flip":
                out[:, i, j] = image[:, i, width - 1 - j if p["mirrored"] else j]
            elif name == "cutout":
                high, wide = int(0.5 * height + 0.5), int(0.5 * width + 0.5)
                rows = {min(max(p["row"] - high // 2 + k, 0), height - 1) for k in range(high)}
                columns = {min(max(p["column"] - wide // 2 + k, 0), width - 1) for k in range(wide)}
                if not (i in rows and j in columns):
                    out[:, i, j] = image[:, i, j]
            else:
                out[:, i, j] = bilinear(image, *source(i, j, height, width, name, p))
    return out


def source(i, j, height, width, name, p):
    """Where (row, column), in pixels from the centre, is sampled."""
    y, x = i + 0.5 - height / 2, j + 0.5 - width / 2
    if name == "scale":
        y, x = y * p["vertical"], x * p["horizontal"]
    else:
        t = math.radians(p["angle_degrees"])
        y, x = math.sin(t) * x + math.cos(t) * y, math.cos(t) * x - math.sin(t) * y
    return y + height / 2 - 0.5, x + width / 2 - 0.5


def bilinear(image, row, column):
    top, left = math.floor(row), math.floor(column)
    total = torch.zeros(image.shape[0], dtype=image.dtype)
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < image.shape[1] and 0 <= j < image.shape[2]:
                total += (1 - abs(row - i)) * (1 - abs(column - j)) * image[:, i, j]
    return total


def images(n, shape):
    return torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_shared_parameters_equal_the_oracle(name, shape):
    x = images(3, shape)
    random = Random(3)
    for _ in range(6):
        transform = Siamese(name).draw(shape, random)
        (step,) = transform.steps
        assert step.name == name
        wanted = torch.stack([oracle(image, name, step.parameters) for image in x])
        torch.testing.assert_close(transform(x), wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_parameters_per_image_equal_the_oracle(name, shape):
    x = images(9, shape)
    transform = Siamese(name).draw(shape, Random(4), n=9)
    (step,) = transform.steps
    each = [{key: value[i].double().item() for key, value in step.parameters.items()} for i in range(9)]
    each = [
        {key: value if name in ("color", "scale", "rotate") else int(value) for key, value in p.items()} for p in each
    ]
    assert len({tuple(p.values()) for p in each}) > 1
    wanted = torch.stack([oracle(image, name, p) for image, p in zip(x, each, strict=True)])
    # cosines of per-image angles are float32 before the images' type
    torch.testing.assert_close(transform(x), wanted, atol=1e-5 if name == "rotate" else 1e-12, rtol=0)


@pytest.mark.parametrize("name", OPERATIONS)
def test_shared_parameters_equal_the_same_ones_repeated_for_every_image(name):
    shape, n = (3, 8, 12), 4
    x = images(n, shape)
    step = Siamese(name).draw(shape, Random(5)).steps[0]
    repeated = {}
    for key, value in step.parameters.items():
        dtype = torch.float64 if isinstance(value, float) else None
        repeated[key] = torch.full((n,), value, dtype=dtype)
    torch.testing.assert_close(step(x), Step(name, repeated)(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("n", [None, 5])
@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_flow_and_are_right(name, n):
    x = images(5, (2, 5, 6)).requires_grad_()
    transform = Siamese(name).draw((2, 5, 6), Random(6), n=n)
    assert torch.autograd.gradcheck(transform, (x,))


def test_a_transform_is_deterministic_and_fits_batches_of_any_size_when_siamese():
    x = images(7, (3, 8, 8))
    random = Random(7)
    for _ in range(20):
        transform = Siamese().draw((3, 8, 8), random)
        torch.testing.assert_close(transform(x)[:2], transform(x[:2]), atol=0, rtol=0)


def test_same_seed_same_transform_and_the_callers_generator_is_untouched():
    x = images(4, (3, 8, 8))
    before = torch.get_rng_state()
    for augment in (Siamese(), Composed("flip_color_crop_scale"), Identity()):
        for n in (None, 4):
            first, second = (augment.draw((3, 8, 8), Random(8), n=n)(x) for _ in range(2))
            assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("strategy", [NATURAL, DIGITS])
def test_one_operation_is_drawn_uniformly(strategy):
    random = Random(9)
    names = [Siamese(strategy).draw((3, 8, 8), random).steps[0].name for _ in range(600)]
    allowed = strategy.split("_")
    assert set(names) == set(allowed)
    expected = 600 / len(allowed)
    assert all(abs(names.count(name) - expected) < 5 * math.sqrt(expected) for name in allowed)


@pytest.mark.parametrize("n", [None, 4000])
def test_magnitudes_fill_their_ranges(n):
    ranges = {
        "brightness": (-0.5, 0.5), "saturation": (0, 2), "contrast": (0.5, 1.5), "vertical": (1 / 1.2, 1.2),
        "horizontal": (1 / 1.2, 1.2), "angle_degrees": (-15, 15), "down": (-4, 4), "right": (-2, 2), "row": (0, 32),
        "column": (0, 16), "mirrored": (0, 1),
    }  # fmt: skip
    random = Random(10)
    for name in OPERATIONS:
        draws = [Siamese(name).draw((3, 32, 16), random, n=n).steps[0].parameters for _ in range(1 if n else 600)]
        for key in draws[0]:
            values = torch.cat([torch.as_tensor(draw[key], dtype=torch.float64).reshape(-1) for draw in draws])
            low, high = ranges.pop(key)
            assert low <= values.min() <= low + 0.02 * (high - low)
            assert high - 0.02 * (high - low) <= values.max() <= high
            assert abs(values.mean() - (low + high) / 2) < 0.07 * (high - low)
    assert not ranges


def test_saturation_of_one_channel_changes_nothing():
    x = images(2, (1, 8, 8))
    torch.testing.assert_close(Step("color", {"brightness": 0.0, "saturation": 0.3, "contrast": 1.0})(x), x)


def test_several_steps_apply_in_order():
    transform = Siamese("color_crop", per_step=3).draw((3, 8, 8), Random(11))
    assert len(transform.steps) == 3
    x = images(2, (3, 8, 8))
    first, second, third = transform.steps
    assert torch.equal(transform(x), third(second(first(x))))


def test_composed_applies_all_that_idc_lists():
    random = Random(12)
    for _ in range(10):
        names = [step.name for step in Composed("color_crop_cutout").draw((3, 8, 8), random).steps]
        assert names == ["color", "crop", "cutout"]
    drawn = set()
    for _ in range(60):
        names = [step.name for step in Composed("crop_cutout_scale_flip_rotate").draw((3, 8, 8), random).steps]
        assert (names[0], names[2], len(names)) == ("flip", "cutout", 3)
        drawn.add(names[1])
    assert drawn == {"crop", "scale", "rotate"}
    assert [step.name for step in Composed("flip_color").draw((3, 8, 8), random).steps] == ["flip", "color"]


def test_identity_gives_the_images_themselves():
    x = images(2, (3, 8, 8))
    assert Identity().draw((3, 8, 8), Random(0))(x) is x


@pytest.mark.parametrize("augment", [Identity(), Siamese(DIGITS), Composed("color_crop")])
def test_augments_are_values(augment):
    again = pickle.loads(pickle.dumps(augment))
    assert again == augment
    assert repr(again) == repr(augment)
    transform = augment.draw((3, 8, 8), Random(1))
    assert pickle.loads(pickle.dumps(transform)) == transform
    assert isinstance(transform, Drawn)


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"'shear'.*known: color"):
        Siamese("color_shear")
    with pytest.raises(ValueError, match="'blur'"):
        Composed("color_blur")
    with pytest.raises(ValueError, match="every operation once"):
        Composed("color_color")
    with pytest.raises(ValueError, match="per_step must be at least 1, got 0"):
        Siamese(per_step=0)
    with pytest.raises(ValueError, match="n=3 images, got 2"):
        Siamese("color").draw((3, 8, 8), Random(0), n=3)(images(2, (3, 8, 8)))

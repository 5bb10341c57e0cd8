import pickle
from inspect import unwrap
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ddreplay.backbones import (
    MLP,
    VGG11,
    AlexNet,
    AvgPool2x2,
    ConvNet,
    LeNet,
    Probe,
    ResNet18,
    as_factory,
    find_classifier,
    has_batchnorm,
    settle_batchnorm,
)
from ddreplay.randomness import Random


def images(n, shape, dtype=torch.float32):
    return torch.randn(n, *shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def make(factory, shape, classes=5, seed=0):
    with Random(seed).scope():
        return factory(shape, classes)


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def test_the_default_network_is_the_literatures():
    net = make(ConvNet(), (3, 32, 32), 10)
    first, other = 3 * 128 * 9 + 128 + 2 * 128, 128 * 128 * 9 + 128 + 2 * 128
    assert net.classifier.in_features == 2048
    assert count(net) == first + 2 * other + 2048 * 10 + 10


def test_the_default_network_equals_its_formula():
    net = make(ConvNet(width=6), (3, 16, 12), 4).double()
    x = images(5, (3, 16, 12), torch.float64)
    y = x
    for block in net.blocks:
        y = F.conv2d(y, block.conv.weight, block.conv.bias, padding=1)
        y = (y - y.mean((2, 3), keepdim=True)) / (y.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        y = (y * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]).clamp(min=0)
        y = y.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
    logits, embedding, _ = Probe(net)(x)
    torch.testing.assert_close(embedding, y.flatten(1))
    torch.testing.assert_close(logits, y.flatten(1) @ net.classifier.weight.T + net.classifier.bias)


@pytest.mark.parametrize(
    ("shape", "depth", "side"),
    [
        ((3, 8, 8), 2, (2, 2)),
        ((3, 12, 12), 2, (3, 3)),
        ((1, 16, 16), 2, (4, 4)),
        ((1, 28, 28), 3, (4, 4)),
        ((3, 28, 28), 3, (3, 3)),
        ((3, 29, 31), 3, (3, 3)),
        ((3, 32, 32), 3, (4, 4)),
        ((1, 32, 32), 3, (4, 4)),
        ((3, 64, 64), 4, (4, 4)),
        ((3, 32, 64), 3, (4, 8)),
        ((3, 96, 96), 5, (3, 3)),
        ((3, 128, 128), 5, (4, 4)),
        ((3, 224, 224), 6, (3, 3)),
    ],
)
def test_depth_goes_by_the_image(shape, depth, side):
    net = make(ConvNet(width=4), shape)
    assert len(net.blocks) == depth
    seen = Probe(net, taps=[f"blocks.{depth - 1}.pool"])(images(2, shape))
    assert seen.maps[f"blocks.{depth - 1}.pool"].shape == (2, 4, *side)
    assert seen.embedding.shape == (2, 4 * side[0] * side[1])
    assert seen.logits.shape == (2, 5)


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "instance", "group"])
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "leakyrelu", "swish"])
@pytest.mark.parametrize("pooling", ["none", "max", "avg"])
def test_variants_run_and_have_the_right_number_of_parameters(norm, activation, pooling):
    net = make(ConvNet(8, 2, norm, activation, pooling), (3, 9, 8), 3)
    logits, embedding, _ = Probe(net)(images(4, (3, 9, 8)))
    sizes = [(9, 8), (9, 8) if pooling == "none" else (4, 4), (9, 8) if pooling == "none" else (2, 2)]
    per_norm = [8 * h * w if norm == "layer" else 8 for h, w in sizes[:2]]
    norms = 0 if norm == "none" else 2 * sum(per_norm)
    features = 8 * sizes[2][0] * sizes[2][1]
    assert embedding.shape == (4, features)
    assert count(net) == (3 * 8 * 9 + 8) + (8 * 8 * 9 + 8) + norms + features * 3 + 3
    assert logits.isfinite().all()
    assert has_batchnorm(net) == (norm == "batch")


def test_layers_of_a_block_are_addressable():
    net = make(ConvNet(width=4), (3, 8, 8))
    names = [f"blocks.{i}.{part}" for i in range(2) for part in ("conv", "norm", "act", "pool")]
    x = images(3, (3, 8, 8))
    maps = Probe(net, taps=names)(x).maps
    assert list(maps) == names
    torch.testing.assert_close(maps["blocks.0.conv"], net.blocks[0].conv(x))
    torch.testing.assert_close(maps["blocks.0.norm"], net.blocks[0].norm(maps["blocks.0.conv"]))
    assert maps["blocks.0.norm"].min() < 0 <= maps["blocks.0.act"].min()
    assert maps["blocks.1.pool"].shape == (3, 4, 2, 2)


@pytest.mark.parametrize(
    ("factory", "shape", "features", "parameters"),
    [
        (LeNet(), (3, 32, 32), 84, (75 + 1) * 6 + (150 + 1) * 16 + (400 + 1) * 120 + 121 * 84 + 85 * 10),
        (LeNet(), (1, 28, 28), 84, (25 + 1) * 6 + (150 + 1) * 16 + (400 + 1) * 120 + 121 * 84 + 85 * 10),
        (
            AlexNet(),
            (3, 32, 32),
            3072,
            (75 + 1) * 128 + (3200 + 1) * 192 + (1728 + 1) * 256 + (2304 + 1) * 192 + (1728 + 1) * 192 + 3073 * 10,
        ),
        (AlexNet("batch"), (1, 28, 28), 3072, None),
        (VGG11(), (3, 32, 32), 512, None),
        (VGG11("batch"), (1, 28, 28), 512, None),
        (VGG11(), (3, 8, 12), 512, None),
        (ResNet18("batch"), (3, 32, 32), 512, 11_173_962),
        (ResNet18(), (1, 28, 28), 512, None),
        (ResNet18(), (3, 12, 10), 512, None),
        (ResNet18(pooling="avg"), (3, 32, 32), 8192, None),
        (ResNet18("batch", "avg"), (1, 28, 28), 4608, None),
        (MLP(), (1, 28, 28), 128, 785 * 128 + 129 * 128 + 129 * 10),
    ],
)
def test_families(factory, shape, features, parameters):
    net = make(factory, shape, 10)
    x = images(2, shape)
    with torch.no_grad():
        logits, embedding, _ = Probe(net.eval())(x)
    assert logits.shape == (2, 10)
    assert embedding.shape == (2, features)
    assert embedding.isfinite().all()
    assert embedding.std() > 0
    assert not torch.equal(embedding[0], embedding[1])
    torch.testing.assert_close(logits, net(x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits, net.classifier(embedding))
    if parameters is not None:
        assert count(net) == parameters


def test_vgg11_has_the_literatures_size():
    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    convolutions = sum((a * 9 + 1) * b + 2 * b for a, b in pairwise(widths))
    assert count(make(VGG11(), (3, 32, 32), 10)) == convolutions + 513 * 10


@pytest.mark.parametrize("factory", [ConvNet(8), LeNet(), MLP(8)])
def test_factories_are_values_and_seeded_by_the_scope(factory):
    shape = (3, 16, 16)
    assert pickle.loads(pickle.dumps(factory)) == factory
    before = torch.get_rng_state()
    first, second, other = (make(factory, shape, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    for a, b, c in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.unique(a).numel() == 1 or not torch.equal(a, c)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 1, 9, 7), (3, 2, 2, 5)])
def test_pooling_is_that_of_torch(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    weight = torch.randn(F.avg_pool2d(x, 2).shape, dtype=torch.float64)
    first, second = [], []
    for pool in (AvgPool2x2(), lambda x: F.avg_pool2d(x, 2)):
        out = pool(x)
        (gradient,) = torch.autograd.grad((weight * out.square()).sum(), x, create_graph=True)
        first.append((out, gradient))
        second.append(torch.autograd.grad(gradient.pow(3).sum(), x)[0])
    torch.testing.assert_close(first[0], first[1])
    torch.testing.assert_close(second[0], second[1])


def test_pooling_under_vmap_is_pooling_of_every_part():
    x = torch.randn(4, 2, 3, 6, 8, dtype=torch.float64)
    pool, loss = AvgPool2x2(), lambda x: AvgPool2x2()(x).pow(3).sum()
    torch.testing.assert_close(torch.vmap(pool, in_dims=1)(x), torch.stack([pool(part) for part in x.unbind(1)]))
    mapped = torch.vmap(torch.func.grad(loss))(x)
    torch.testing.assert_close(mapped, torch.stack([torch.func.grad(loss)(part) for part in x]))


class Forked(nn.Module):
    """Linear layers before the classifier, after it in the constructor, and one that never runs."""

    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(6, classes)
        self.gate = nn.Linear(3, 6)
        self.conv = nn.Conv2d(3, 6, 3)
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm2d(6)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        gate = self.gate(x.mean((2, 3))).sigmoid()
        return self.head(self.drop(self.norm(self.conv(x)).mean((2, 3)) * gate))


def test_probe_finds_the_linear_layer_that_runs_last():
    net = make(lambda shape, classes: Forked(classes), (3, 8, 8)).eval()
    x = images(4, (3, 8, 8))
    logits, embedding, maps = Probe(net, taps=["conv"])(x)
    torch.testing.assert_close(net.head(embedding), logits)
    assert maps["conv"].shape == (4, 6, 6, 6)
    assert find_classifier(net, (3, 8, 8)) == "head"


def test_probe_leaves_nothing_on_the_network():
    net = make(ConvNet(4), (3, 8, 8))
    Probe(net, taps=["blocks.0"])(images(2, (3, 8, 8)))
    with pytest.raises(RuntimeError):
        Probe(net, taps=["blocks.0"])(images(2, (2, 8, 8)))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize("factory", [ConvNet(4), as_factory(Forked)])
def test_probe_works_under_function_transforms(factory):
    shape, x = (3, 8, 8), images(4, (3, 8, 8))
    nets = [make(factory, shape, seed=seed).eval() for seed in range(3)]
    tap = "blocks.0.act" if "blocks.0.act" in dict(nets[0].named_modules()) else "norm"
    probe = Probe(nets[0], taps=[tap])
    parameters, buffers = torch.func.stack_module_state(nets)
    stacked = torch.func.vmap(lambda p: probe(x, p))({**parameters, **buffers})
    for i, net in enumerate(nets):
        alone = Probe(net, taps=[tap])(x)
        for a, b in ((stacked.logits, alone.logits), (stacked.embedding, alone.embedding)):
            torch.testing.assert_close(a[i], b)
        torch.testing.assert_close(stacked.maps[tap][i], alone.maps[tap])

    last = {name: value.detach() for name, value in nets[-1].named_parameters()}
    gradients = torch.func.grad(lambda p: probe(x, {**dict(nets[-1].named_buffers()), **p}).embedding.square().sum())(
        last
    )
    Probe(nets[-1])(x).embedding.square().sum().backward()
    for name, value in nets[-1].named_parameters():
        torch.testing.assert_close(gradients[name], torch.zeros_like(value) if value.grad is None else value.grad)


def test_probe_errors():
    net = make(ConvNet(4), (3, 8, 8))
    with pytest.raises(ValueError, match=r"'blocks.7'.*blocks.0.conv"):
        Probe(net, taps=["blocks.7"])
    headless = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"backbone Sequential runs no nn\.Linear"):
        Probe(headless)(images(2, (3, 8, 8)))
    with pytest.raises(ValueError, match=r"logits of shape \[n, classes\], got shape \(2, 3, 8, 5\)"):
        Probe(nn.Linear(8, 5))(images(2, (3, 8, 8)))
    with pytest.raises(ValueError, match=r"'unused'.*never runs"):
        Probe(Forked(2), taps=["unused"])(images(2, (3, 8, 8)))


def test_a_network_becomes_a_factory_of_fresh_ones():
    net = Forked(7)
    net.eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    factory = as_factory(net)
    same, other, fewer = make(factory, (3, 8, 8), 7), make(factory, (3, 8, 8), 7, seed=1), make(factory, (3, 8, 8), 2)
    assert fewer(images(3, (3, 8, 8))).shape == (3, 2)
    assert same(images(3, (3, 8, 8))).shape == (3, 7)
    assert same.training
    for name in ("head.weight", "gate.weight", "conv.weight"):
        weights = [same.state_dict()[name], other.state_dict()[name], before[name]]
        assert not any(torch.equal(weights[i], weights[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert torch.equal(make(factory, (3, 8, 8), 7).head.weight, same.head.weight)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not net.training
    assert "Forked" in repr(factory)
    pickle.loads(pickle.dumps(factory))
    assert make(as_factory(nn.Sequential(nn.Flatten(), nn.Linear(12, 3))), (3, 2, 2), 4)[1].out_features == 4


def test_functions_become_factories_by_what_they_need():
    assert as_factory(ConvNet(4)) == ConvNet(4)
    for net in (Forked, lambda classes: Forked(classes), lambda classes, width=3: Forked(classes)):
        assert as_factory(net)((3, 8, 8), 9).head.out_features == 9
    assert (
        as_factory(lambda shape, classes, *, width=4: MLP(width)(shape, classes))((3, 8, 8), 9).classifier.in_features
        == 4
    )
    with pytest.raises(TypeError, match="got str"):
        unwrap(as_factory)("convnet")  # without the annotations' own check
    with pytest.raises(TypeError, match="needs 3"):
        as_factory(lambda shape, classes, width: Forked(classes))


def test_a_network_that_cannot_start_anew_is_refused():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(3))

    with pytest.raises(ValueError, match=r"part '1' \(Scaled\) holds gain.*lambda classes"):
        as_factory(nn.Sequential(nn.Flatten(), Scaled(), nn.Linear(3, 2)))
    with pytest.raises(ValueError, match=r"Conv2d runs no nn\.Linear"):
        as_factory(nn.Conv2d(3, 4, 3))((3, 8, 8), 2)


def test_batch_norm_settles_on_the_images():
    net = Forked(3)
    x = images(16, (3, 8, 8))
    settle_batchnorm(net, x)
    maps = net.conv(x)
    torch.testing.assert_close(net.norm.running_mean, 0.1 * maps.mean((0, 2, 3)))
    torch.testing.assert_close(net.norm.running_var, 0.9 + 0.1 * maps.var((0, 2, 3)))
    assert not net.norm.training
    assert net.drop.training
    assert net.conv.weight.grad is None
    plain = make(ConvNet(4), (3, 8, 8)).eval()
    settle_batchnorm(plain, x)
    assert not plain.training


def test_errors_name_what_is_wrong():
    for call, message in (
        (lambda: ConvNet(norm="spectral"), "norm must be one of none, batch, layer, instance, group, got 'spectral'"),
        (lambda: ConvNet(activation="tanh"), "activation must be one of"),
        (lambda: ConvNet(pooling="median"), "pooling must be one of"),
        (lambda: ConvNet(width=0), "width must be at least 1, got 0"),
        (lambda: ConvNet(depth=0), "depth must be at least 1"),
        (lambda: ConvNet(depth=4)((3, 8, 8), 2), "depth=4 halves 8x8 images to nothing"),
        (lambda: ConvNet(width=6, norm="group")((3, 8, 8), 2), "multiple of 4, got 6"),
        (lambda: ConvNet(4)((3, 8, 8), 0), "classes must be at least 1, got 0"),
        (lambda: LeNet()((3, 12, 12), 2), "too small"),
        (lambda: ResNet18()((3, 8, 8), 2), "two pixels or more"),
        (lambda: ResNet18("batch", "avg")((3, 7, 7), 2), "too small"),
        (lambda: ResNet18(pooling="max"), "pooling must be stride or avg, got 'max'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()

"""What names stand for: the one table of what people may type. Reading it imports nothing of what it names."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "Names", "listing"]


class Names(Mapping[str, Callable[..., Any]]):
    """Name -> what makes it, imported when it is asked for.

    Args:
        places: ``"module:attribute"`` of every name, the module without the package's own name.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return _imported(self._places[name])

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def first_line(self, name: str) -> str:
        """Of the docstring of what a name stands for, read from the source, without importing it."""
        module, _, attribute = self._places[name].partition(":")
        return _first_lines(module)[attribute]


@cache
def _imported(place: str) -> Callable[..., Any]:
    module, _, attribute = place.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"ddreplay.{module}"), attribute)
    return found


@cache
def _first_lines(module: str) -> dict[str, str]:
    """The first docstring line of every function and class of a module."""
    path = Path(__file__).parent.joinpath(*module.split(".")).with_suffix(".py")
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {
        n.name: (ast.get_docstring(n) or "").partition("\n")[0].replace("`", "") for n in nodes if isinstance(n, kinds)
    }


KINDS: dict[str, Names] = {
    "method": Names(
        {
            "dm": "methods.distribution:dm",
            "idm": "methods.distribution:idm",
            "ddm": "methods.distribution:ddm",
            "m3d": "methods.distribution:m3d",
            "ncfm": "methods.distribution:ncfm",
            "dc": "methods.gradient:dc",
            "dsa": "methods.gradient:dsa",
            "dcc": "methods.gradient:dcc",
            "dsac": "methods.gradient:dsac",
            "idc": "methods.multi_formation:idc",
            "dream": "methods.multi_formation:dream",
            "mtt": "methods.trajectory:mtt",
            "tesla": "methods.trajectory:tesla",
            "bptt": "methods.unrolled:bptt",
            "dd": "methods.unrolled:dd",
            "ld": "methods.unrolled:ld",
            "cafe": "methods.alignment:cafe",
            "frepo": "methods.regression:frepo",
            "kip": "methods.regression:kip",
            "whitened": "methods.whitened:Whitened",
        }
    ),
    "selection": Names(
        {
            "random": "methods.selections:random",
            "herding": "methods.selections:herding",
            "k_center": "methods.selections:k_center",
            "k_means": "methods.selections:k_means",
            "forgetting": "methods.selections:forgetting",
            "el2n": "methods.selections:el2n",
            "c_score": "methods.selections:c_score",
            "grand": "methods.selections:grand",
        }
    ),
    "net": Names(
        {
            "convnet": "backbones.families:ConvNet",
            "lenet": "backbones.families:LeNet",
            "alexnet": "backbones.families:AlexNet",
            "vgg11": "backbones.families:VGG11",
            "resnet18": "backbones.families:ResNet18",
            "mlp": "backbones.families:MLP",
            "bfloat16": "backbones.precision:Bfloat16",
        }
    ),
    "networks": Names(
        {
            "fresh": "networks.fresh:Fresh",
            "banked": "networks.bank:Banked",
            "model_queue": "networks.queue:ModelQueue",
            "expert_segments": "networks.experts:ExpertSegments",
            "trained_on_synthetic": "networks.trained_on_synthetic:TrainedOnSynthetic",
            "trained_on_real": "networks.trained_on_real:TrainedOnReal",
            "trained_pool": "networks.trained_pool:TrainedPool",
            "until_settled": "networks.until_settled:UntilSettled",
        }
    ),
    "parameterize": Names(
        {
            "pixels": "parameterize.pixels:Pixels",
            "partitioned": "parameterize.partitioned:Partitioned",
            "coded": "parameterize.coded:Coded",
            "frequency": "parameterize.frequency:Frequency",
            "basis": "parameterize.basis:Basis",
        }
    ),
    "codec": Names(
        {
            "float32": "storage.codecs.plain:float32",
            "float16": "storage.codecs.plain:float16",
            "uint8": "storage.codecs.plain:uint8",
            "bits": "storage.codecs.plain:bits",
            "jpeg": "storage.codecs.jpeg:jpeg",
            "webp": "storage.codecs.webp:webp",
            "avif": "storage.codecs.avif:avif",
            "thumb": "storage.codecs.thumb:thumb",
            "dct": "storage.codecs.dct:dct",
        }
    ),
    "augment": Names(
        {
            "siamese": "augment.siamese:Siamese",
            "composed": "augment.siamese:Composed",
            "identity": "augment.siamese:Identity",
            "by_class": "augment.by_class:ByClass",
        }
    ),
    "mix": Names(
        {
            "mixup": "augment.mixing:MixUp",
            "cutmix": "augment.mixing:CutMix",
        }
    ),
    "scope": Names(
        {
            "warmup": "objectives.gradient_matching:WarmUp",
        }
    ),
    "loops": Names(
        {
            "loops": "networks.trained_on_synthetic:Loops",
        }
    ),
    "pretrained": Names(
        {
            "pretrained": "networks.queue:Pretrained",
        }
    ),
    "draw": Names(
        {
            "uniform": "networks.real_batches:Uniform",
            "representative": "networks.real_batches:Representative",
        }
    ),
    "init": Names(
        {
            "representative_images": "networks.real_batches:RepresentativeImages",
            "xavier_noise": "parameterize.form:XavierNoise",
        }
    ),
    "choose": Names(
        {
            "fixed": "condense.image_count:Fixed",
            "at_quality": "condense.image_count:AtQuality",
            "validated": "condense.image_count:Validated",
            "by_codec": "condense.image_count:ByCodec",
        }
    ),
    "optimizer": Names(
        {
            "sgd": "condense.optimizer:SGD",
            "adam": "condense.optimizer:Adam",
            "lamb": "condense.optimizer:LAMB",
            "halved": "condense.optimizer:Halved",
            "cosine": "condense.optimizer:Cosine",
        }
    ),
    "term": Names(
        {
            "mean_embedding": "objectives.mean_embedding:MeanEmbedding",
            "random_prefix": "objectives.random_prefix:RandomPrefix",
            "style_moments": "objectives.style_moments:StyleMoments",
            "gram_matching": "objectives.gram_matching:GramMatching",
            "intra_class_diversity": "objectives.intra_class_diversity:IntraClassDiversity",
            "maximum_mean_discrepancy": "objectives.maximum_mean_discrepancy:MaximumMeanDiscrepancy",
            "characteristic_function": "objectives.characteristic_function:CharacteristicFunction",
            "mutual_information": "objectives.mutual_information:MutualInformation",
            "class_regulariser": "objectives.class_regulariser:ClassRegulariser",
            "gradient_matching": "objectives.gradient_matching:GradientMatching",
            "kernel_regression": "objectives.kernel_regression:KernelRegression",
            "feature_alignment": "objectives.feature_alignment:FeatureAlignment",
        }
    ),
    "kernel": Names(
        {
            "tangent_kernel": "objectives.tangent_kernels:TangentKernel",
            "conv_tangent_kernel": "objectives.tangent_kernels:ConvTangentKernel",
        }
    ),
}
"""Kind of object -> name -> what makes it. Kinds are named after the arguments that take them."""


def listing() -> dict[str, dict[str, str]]:
    """Kind -> name -> the first line of its docstring."""
    return {kind: {name: table.first_line(name) for name in table} for kind, table in KINDS.items()}

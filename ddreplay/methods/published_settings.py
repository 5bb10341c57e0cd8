"""The settings of IDM's released commands, by data set and budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ddreplay.backbones import ConvNet
from ddreplay.networks import ModelQueue, Pretrained
from ddreplay.parameterize.pixels import Pixels

__all__ = ["IDM_SETTINGS", "MTT_SETTINGS", "idm_settings"]

_WHOLE_CLASS = 5000  # real images per class; smaller classes give all they have


_CIFAR: dict[str, Any] = {"weight": 0.5, "batch_real": 256, "networks": ModelQueue()}


_TINY: dict[str, Any] = {**_CIFAR, "net": ConvNet(depth=3)}


_IMAGENET: dict[str, Any] = {
    "net": ConvNet(depth=6),
    "weight": 3.0,
    "batch_real": 128,
    "networks": ModelQueue(size=50, push_interval=50, batch_size=128, meter_interval=None),
}


IDM_SETTINGS: dict[tuple[str, int], dict[str, Any]] = {
    ("cifar10", 1): {**_CIFAR, "batch_real": _WHOLE_CLASS, "networks": ModelQueue(push_interval=5)},
    ("cifar10", 10): _CIFAR,
    ("cifar10", 50): {**_CIFAR, "weight": 0.1, "networks": ModelQueue(meter_interval=500)},
    ("cifar100", 1): {**_CIFAR, "batch_real": _WHOLE_CLASS, "networks": ModelQueue(push_interval=5)},
    ("cifar100", 10): {**_CIFAR, "weight": 0.1, "networks": ModelQueue(train_steps=50)},
    ("cifar100", 50): {**_CIFAR, "weight": 0.1, "networks": ModelQueue(meter_interval=500)},
    ("tinyimagenet", 1): _TINY,
    ("tinyimagenet", 10): {**_TINY, "networks": ModelQueue(meter_interval=500)},
    ("tinyimagenet", 50): {**_TINY, "weight": 0.8, "networks": ModelQueue(train_steps=50, meter_interval=1000)},
    ("imagenet100", 1): _IMAGENET,
    ("imagenet100", 10): _IMAGENET,
    ("imagenet100", 50): {
        **_IMAGENET,
        "networks": replace(_IMAGENET["networks"], size=100, pretrained=Pretrained()),
        "parameterize": Pixels(),
    },
}


"""Arguments of `idm` that differ from its defaults' row, by (data set, images per class).

The paper's text has 0.5 and 10 training steps where CIFAR-100 at 10 per class was run with 0.1 and 50. Running accuracies start
anew at every evaluation of the images, hence the queue's ``meter_interval``; on ImageNet they do not.
"""


def idm_settings(dataset: str, images_per_class: int) -> dict[str, Any]:
    """Arguments for `idm` as released for this data set; a budget between two rows takes the larger one's, above the last the last.

    Raises:
        ValueError: for a data set that has no released command.
    Example:
        >>> idm_settings("cifar100", 10)["networks"].train_steps
        50
    """
    rows = sorted(budget for name, budget in IDM_SETTINGS if name == dataset)
    if not rows:
        known = ", ".join(sorted({name for name, _ in IDM_SETTINGS}))
        raise ValueError(f"dataset must be one of {known}, got {dataset!r}; give idm its arguments yourself")
    return dict(IDM_SETTINGS[dataset, next((budget for budget in rows if budget >= images_per_class), rows[-1])])


_COLUMNS = ("steps", "segment", "latest_start", "lr", "lr_lr", "inner_lr", "batch")


MTT_SETTINGS: dict[tuple[str, int], dict[str, Any]] = {
    key: dict(zip(_COLUMNS, row, strict=True))
    for key, row in {
        ("cifar10", 1): (50, 2, 2, 100.0, 1e-7, 0.01, None),
        ("cifar10", 10): (30, 2, 20, 100.0, 1e-5, 0.001, None),
        ("cifar10", 50): (30, 2, 40, 1000.0, 1e-5, 0.001, None),
        ("cifar100", 1): (20, 3, 20, 1000.0, 1e-5, 0.01, None),
        ("cifar100", 10): (20, 2, 20, 1000.0, 1e-5, 0.01, None),
        ("cifar100", 50): (80, 2, 40, 1000.0, 1e-5, 0.01, 125),
        ("tinyimagenet", 1): (10, 2, 10, 1e4, 1e-4, 0.01, None),
        ("tinyimagenet", 10): (20, 2, 40, 1e4, 1e-4, 0.01, 200),
        ("tinyimagenet", 50): (20, 2, 40, 1e4, 1e-4, 0.01, 300),
    }.items()
}


"""Arguments of `mtt` by (data, images per class), as the authors gave them: ``mtt(net, **MTT_SETTINGS["cifar10", 10])``. All CIFAR
rows but CIFAR-10 with 50 and CIFAR-100 with 10 images per class were made on whitened images (ZCA), see `Whitened`."""

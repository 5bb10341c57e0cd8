"""Means and standard deviations of pixels in [0, 1], by data set and by the code that published results with them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

__all__ = ["COMPUTED", "Normalization", "channel_moments", "normalization"]

COMPUTED = "computed from the train split"

_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# constants every published code shares
_SHARED: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": _CIFAR10,
    "tinyimagenet": _IMAGENET,
    "imagenet": _IMAGENET,
}

# CIFAR-100 differs: the codes of DC, DSA, DCC, MTT, TESLA, CAFE and IDC normalise it with the constants of CIFAR-10
_CIFAR100: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "dm": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "dcc": _CIFAR10,
    "rtp": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "idc-continual": ((0.5071, 0.4866, 0.4409), (0.2009, 0.1984, 0.2023)),
}

_SAME_AS = {
    "own": "dm",
    "idm": "dm",
    "ddm": "dm",
    "dc": "dcc",
    "dsa": "dcc",
    "dsac": "dcc",
    "mtt": "dcc",
    "tesla": "dcc",
    "cafe": "dcc",
    "idc": "dcc",
}


class Normalization(NamedTuple):
    """Normalisation of pixels in [0, 1], one number per channel, and the name under which records keep it."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str


def normalization(dataset: str, source: str = "own") -> Normalization:
    """The constants a published code normalises a data set with.

    Args:
        dataset: mnist, fashion-mnist, svhn, cifar10, cifar100, tinyimagenet or imagenet.
        source: whose code: dc, dsa, dcc, dsac, dm, idm, ddm, mtt, tesla, cafe, idc, rtp or idc-continual (the
            continual-learning script of IDC). They differ on CIFAR-100 alone, where "own" are CIFAR-100's own moments,
            as in the release of DM; rtp and idc-continual are known for CIFAR-100 only.
    Raises:
        ValueError: if no such constants are known.

    >>> normalization("cifar100", "dcc").mean == normalization("cifar10").mean
    True
    >>> normalization("cifar100", "dcc").name
    'cifar100:dcc'
    """
    known = _SAME_AS.get(source, source)
    if known not in _CIFAR100:
        raise ValueError(f"source must be one of {sorted({*_CIFAR100, *_SAME_AS})}, got {source!r}")
    table = _CIFAR100 if dataset == "cifar100" else {"dm": _SHARED.get(dataset), "dcc": _SHARED.get(dataset)}
    constants = table.get(known)
    if constants is None:
        raise ValueError(
            f"no constants of source {source!r} are known for {dataset!r} (data sets: {[*_SHARED, 'cifar100']}); "
            "use 'train' to compute them from the train split"
        )
    return Normalization(*constants, name=f"{dataset}:{known}" if dataset == "cifar100" else dataset)


def channel_moments(images: UInt8[Tensor, "n c h w"]) -> Normalization:
    """Mean and population standard deviation of every channel over all pixels, exact; a constant channel gets std 1.

    >>> channel_moments(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))[:2]
    ((0.5,), (0.5,))
    """
    if len(images) == 0:
        raise ValueError("images are empty: they have no mean")
    counts = torch.stack([_histogram(images[:, k]) for k in range(images.shape[1])]).double()
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ values
    std = (share * (values - mean[:, None]).square()).sum(1).sqrt()
    std = torch.where(std > 0, std, torch.ones_like(std))
    return Normalization(tuple(mean.tolist()), tuple(std.tolist()), COMPUTED)


def _histogram(values: UInt8[Tensor, "n h w"]) -> Tensor:
    total = torch.zeros(256, dtype=torch.int64)
    for start in range(0, len(values), 16384):  # bincount widens to int64: keep that small
        total += torch.bincount(values[start : start + 16384].flatten(), minlength=256).cpu()
    return total

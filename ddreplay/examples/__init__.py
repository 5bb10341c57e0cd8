"""Condensed sets that come with the package, so that something can be looked at and trained on at once."""

from __future__ import annotations

from importlib.resources import files

from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["EXAMPLES", "load_example"]

EXAMPLES = ("digits-dm", "digits-dsa", "digits-herding")
"""scikit-learn's digits (8 x 8 grey levels), five images per class in 3.2 kB: two sets condensed, one of real images.
``python -m benchmarks catalogue`` makes them."""


def load_example(name: str = "digits-dm") -> CondensedSet:
    """A set that comes with the package.

    Args:
        name: one of `EXAMPLES`.
    Raises:
        ValueError: for another name.
    Example:
        >>> digits = load_example()
        >>> digits.images().x.shape, digits.nbytes, digits.provenance["method"]
        (torch.Size([50, 1, 8, 8]), 3236, 'dm')
    """
    if name not in EXAMPLES:
        raise ValueError(f"name must be one of {', '.join(EXAMPLES)}, got {name!r}")
    return CondensedSet.from_bytes(files("ddreplay.examples").joinpath(f"{name}.safetensors").read_bytes(), name)

"""The settings of IDM's released commands, by data set and budget."""

from __future__ import annotations

import pytest

from ddreplay import methods


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "tinyimagenet", "imagenet100"])
@pytest.mark.parametrize("images_per_class", [1, 10, 20, 50, 100])
def test_released_settings_make_a_distiller(dataset: str, images_per_class: int) -> None:
    assert methods.idm(**methods.idm_settings(dataset, images_per_class)).name == "idm"


def test_settings_of_an_unknown_data_set_are_refused() -> None:
    with pytest.raises(ValueError, match="must be one of"):
        methods.idm_settings("svhn", 10)

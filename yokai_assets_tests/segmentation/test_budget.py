"""Layers take no more room than they may."""

from pathlib import Path

import pytest
from upath import UPath

from yokai_assets.segmentation.budget import LayersBudgetError, check_layers_budget


def test_a_full_budget_stops_before_anything_is_cut(tmp_path: Path) -> None:
    """Protects: the disk of somebody who said how much there is; the message names what, how much and the remedy."""
    layers = tmp_path / "layers"
    assert check_layers_budget(UPath(layers), 0.001) == 0
    for number in range(3):
        file = layers / f"e{number}" / "character" / "0.webp"
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(400_000))
    assert check_layers_budget(UPath(layers), 0.0013) == 1_200_000
    with pytest.raises(LayersBudgetError, match=r"0\.00 GB.*layers_budget_gb is 0\.001.*Raise it"):
        check_layers_budget(UPath(layers), 0.001)
    assert check_layers_budget(UPath(layers), None) == 0

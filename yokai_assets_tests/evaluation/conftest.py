"""Fixtures of the evaluation tests."""

from pathlib import Path

import pytest

from yokai_assets_tests.evaluation.fakes import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two characters, the first with a dataset on disk."""
    return World(tmp_path)

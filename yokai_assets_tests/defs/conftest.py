"""Parts that the tests of the Dagster layer share: settings on a temporary root, a real instance."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from yokai_assets.defs.resources import SettingsResource


@pytest.fixture
def source(tmp_path: Path) -> SettingsResource:
    """Settings of the demo profile on an empty root and an empty frames source."""
    (tmp_path / "frames").mkdir()
    return SettingsResource.of(
        overrides={
            "profile": "demo",
            "data_root": str(tmp_path / "data"),
            "frames_source": str(tmp_path / "frames"),
            "device": "cpu",
        }
    )


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A real instance on SQLite."""
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield instance

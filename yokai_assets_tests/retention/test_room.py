"""Room on the disk, looked at before much is written."""

from pathlib import Path

import pytest

from yokai_assets.retention.room import NoRoomError, require_room
from yokai_assets.settings import load_settings


def test_an_episode_is_not_begun_on_a_full_disk(tmp_path: Path) -> None:
    """Protects the disk from runs that nobody watches, of the UI and of automation; in the message: what to do."""
    root = {"data_root": str(tmp_path / "not" / "there" / "yet"), "profile": "demo"}
    require_room(load_settings(None, overrides={**root, "retention": {"min_free_gb": 0.0}}))
    with pytest.raises(NoRoomError, match=r"GB are free.*yokai space.*min_free_gb"):
        require_room(load_settings(None, overrides={**root, "retention": {"min_free_gb": 1e9}}))

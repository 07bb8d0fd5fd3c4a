"""The log of failures: what of it is still open."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from upath import UPath

from yokai_assets.gallery import FailureRecord, append_failures, build_gallery, load_gallery_data, open_failures
from yokai_assets.storage.layout import Layout
from yokai_assets_tests.gallery.sample import SampleSeries


def test_a_failure_is_closed_by_newer_output_only(tmp_path: Path):
    """Protects the list of failures: mended ones vanish, repeated ones appear once, torn lines do not hurt."""
    layout = Layout(UPath(tmp_path), "s")
    now = datetime.now(UTC)
    for partition in ("e01", "e02"):
        layout.table("frames", partition).parent.mkdir(parents=True, exist_ok=True)
        layout.table("frames", partition).write_bytes(b"")
    append_failures(
        layout,
        [
            FailureRecord(at=now - timedelta(hours=1), step="frames", partition="e01", reason="mended"),
            FailureRecord(at=now + timedelta(hours=1), step="frames", partition="e02", reason="first"),
            FailureRecord(at=now + timedelta(hours=2), step="frames", partition="e02", reason="again"),
            FailureRecord(at=now, step="clusters", reason="too much noise", is_check=True),
        ],
    )
    with (layout.pipeline / "failures.jsonl").open("a") as file:
        file.write('{"at": "2026-')
    assert [failure.reason for failure in open_failures(layout)] == ["again", "too much noise"]
    assert open_failures(layout, lambda failure: failure.reason != "again")[0].reason == "again"


@pytest.mark.parametrize("step", ["embedding_index", "character_registry", "catalog", "gallery"])
def test_failures_of_steps_without_a_table_are_closed_too(tmp_path: Path, step: str):
    """Protects against failures that stay for ever: the index, the registry and the report have other outputs."""
    layout = SampleSeries(tmp_path, 1, episode_count=1, side_px=40, exemplar_count=1, image_count=3).write()
    build_gallery(layout, load_gallery_data(layout))
    layout.database.write_bytes(b"")
    past = FailureRecord(at=datetime(2020, 1, 1, tzinfo=UTC), step=step, reason="disk full")
    append_failures(layout, [past])
    assert step not in [failure.step for failure in open_failures(layout)]
    append_failures(layout, [past.model_copy(update={"at": datetime.now(UTC) + timedelta(hours=1)})])
    assert step in [failure.step for failure in open_failures(layout)]

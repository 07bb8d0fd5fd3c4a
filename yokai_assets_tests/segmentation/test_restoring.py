"""Removed layers come back as they were, only those that are wanted; a missing file is not taken for a removed one."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from yokai_assets.retention.ledger import LayerKind, Removed, note_removal
from yokai_assets.segmentation.backgrounds import build_backgrounds
from yokai_assets.segmentation.layers import segment_episode
from yokai_assets.segmentation.restoring import LayerRestorer, NotRestorableError
from yokai_assets.settings.model import BackgroundSettings
from yokai_assets.storage.parquet import write_table
from yokai_assets.tables import BACKGROUNDS, FRAMES, INSTANCES
from yokai_assets_tests.segmentation.mattes import ColourMatte
from yokai_assets_tests.segmentation.test_layers import GREY, SETTINGS, Series, with_character

BACKGROUND = BackgroundSettings()


class Shown(Series):
    """An episode whose layers are made and stored."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for n in range(4):
            self.write(f"{n}.png", with_character(n))
        self.write("4.png", GREY[4])
        self.frames = self.scan()
        self.instances = self.segment(self.frames).instances
        self.plates = build_backgrounds(self.frames, self.instances, self.source, BACKGROUND, self.layout)
        for spec, table, asset in (
            (FRAMES, self.frames, "frames"),
            (INSTANCES, self.instances, "character_layers"),
            (BACKGROUNDS, self.plates, "background_layers"),
        ):
            write_table(spec, table, self.layout.table(asset, "ep"))
        self.matte.seen = 0

    def remove(self, kind: LayerKind, *, is_noted: bool = True) -> dict[str, bytes]:
        files = [file for file in kind.folder(self.layout, "ep").iterdir() if file.name.endswith(".webp")]
        content = {self.layout.relative(file): file.read_bytes() for file in files}
        if is_noted:
            removed = Removed(at=datetime.now(UTC), file_count=len(files), size_bytes=1, policy="until_dataset")
            note_removal(self.layout, "ep", kind, removed)
        for file in files:
            file.unlink()
        return content

    def restorer(self, matte: ColourMatte | None = None) -> LayerRestorer:
        return LayerRestorer(self.layout, self.source, SETTINGS, BACKGROUND, lambda: matte or self.matte)

    def there(self, paths) -> dict[str, bytes]:
        return {p: self.layout.absolute(p).read_bytes() for p in paths if self.layout.absolute(p).exists()}


@pytest.fixture
def series(tmp_path: Path) -> Shown:
    return Shown(tmp_path)


def test_what_is_wanted_comes_back_and_nothing_else(series: Shown) -> None:
    """Protects: the same bytes under the same name, and the price: one frame, not the episode."""
    before = series.remove(LayerKind.CHARACTERS)
    wanted = series.instances["cutout"][1]
    restore = series.restorer()
    restore([wanted])
    assert series.there(before) == {wanted: before[wanted]}
    assert (restore.restored_count, series.matte.seen) == (1, 1)
    restore([wanted])
    assert series.matte.seen == 1  # it is there


def test_everything_made_again_is_the_same_table(series: Shown) -> None:
    """Protects what was made of the layers: equal rows have an equal version, so nothing after them is stale."""
    before = series.remove(LayerKind.CHARACTERS)
    series.restorer()(series.instances["cutout"])
    again = segment_episode(
        series.frames, series.source, series.matte, SETTINGS, series.layout, previous=series.instances
    )
    assert again.instances.equals(series.instances)
    assert series.there(before) == before


def test_a_plate_needs_its_masks_too(series: Shown) -> None:
    """Protects: a plate without the masks of its frames would show the characters it must not show."""
    plates = series.remove(LayerKind.BACKGROUNDS)
    series.remove(LayerKind.CHARACTERS)
    series.restorer()(plates)
    assert series.there(plates) == plates


def test_missing_is_not_removed(series: Shown) -> None:
    """Protects against hiding a fault: what nobody noted as removed is the reader's to report."""
    before = series.remove(LayerKind.CHARACTERS, is_noted=False)
    series.restorer()(series.instances["cutout"])
    assert series.there(before) == {}


def test_another_matte_is_refused(series: Shown) -> None:
    """Protects a training set from a mixture of two mattes' masks."""
    series.remove(LayerKind.CHARACTERS)
    with pytest.raises(NotRestorableError, match=r"ep .1 episode.*the matte or its settings have changed.*Materialize"):
        series.restorer(ColourMatte("another"))(series.instances["cutout"])


def test_a_frame_that_changed_since_stays_away(series: Shown) -> None:
    """Protects: no cut-out of another picture under the old name; the others come back."""
    before = series.remove(LayerKind.CHARACTERS)
    changed = series.frames.with_columns(
        content_sha256=pl.when(pl.col("frame_index") == 0).then(pl.lit("x")).otherwise(pl.col("content_sha256"))
    )
    write_table(FRAMES, changed, series.layout.table("frames", "ep"))
    restore = series.restorer()
    restore(series.instances["cutout"])
    assert len(series.there(before)) == len(before) - 1
    assert "changed since" in restore.problems[0]

"""Clean plates: no character left in them, no smear where the camera moves."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from yokai_assets.segmentation.backgrounds import build_backgrounds, masked_median, remove_stale_plates
from yokai_assets.segmentation.inpainting import fill_hidden
from yokai_assets.settings.model import BackgroundSettings
from yokai_assets_tests.frames.pictures import scene, with_disc
from yokai_assets_tests.segmentation.mattes import CHARACTER
from yokai_assets_tests.segmentation.test_layers import Series

SETTINGS = BackgroundSettings.model_validate({})


def plates(series: Series, frames: pl.DataFrame | None = None, settings: BackgroundSettings = SETTINGS):
    frames = series.scan() if frames is None else frames
    instances = series.segment(frames).instances
    table = build_backgrounds(frames, instances, series.source, settings, series.layout)
    images = [np.asarray(Image.open(str(series.layout.absolute(p))).convert("RGB")).astype(int) for p in table["plate"]]
    return table, images


def all_in_one_shot(frames: pl.DataFrame) -> pl.DataFrame:
    """Every frame its own representative, all of one shot."""
    return frames.with_columns(shot=pl.lit(0, dtype=pl.Int32), representative=pl.col("frame_id"))


def grey(seed: int, **size: int) -> Image.Image:
    return scene(seed, **size).convert("L").convert("RGB")


def test_a_walking_character_leaves_no_trace(tmp_path: Path) -> None:
    """Protects: what one frame hides, another shows: nothing is invented."""
    series, ground = Series(tmp_path), grey(1)
    for n in range(5):
        series.write(f"{n}.png", with_disc(ground, (20 + 30 * n, 50), 16, CHARACTER))
    table, (plate,) = plates(series, all_in_one_shot(series.scan()))
    assert np.abs(plate - np.asarray(ground)).mean() < 3
    assert np.abs(plate - np.asarray(ground)).max() < 40
    assert table["filled_share"].to_list() == [0.0]
    assert table["frame_count"].to_list() == [5]


def test_what_no_frame_shows_is_filled_from_around(tmp_path: Path) -> None:
    """Protects: a standing character is taken out; the share of invented pixels is told."""
    series, ground = Series(tmp_path), grey(2)
    series.write("0.png", with_disc(ground, (80, 50), 20, CHARACTER))
    table, (plate,) = plates(series)
    share = np.pi * 20**2 / (160 * 96)
    assert share < table["filled_share"][0] < 1.6 * share
    assert np.abs(plate[..., 0] - plate[..., 1]).max() < 40  # no magenta is left
    assert np.abs(plate - np.asarray(ground)).mean() < 10


def test_a_pan_is_not_smeared(tmp_path: Path) -> None:
    """Protects: where the camera moves, the plate is the frame with the least character, completed from the others."""
    series = Series(tmp_path)
    rng = np.random.default_rng(3)
    wide = Image.fromarray(rng.integers(30, 220, (12, 60), dtype=np.uint8)).resize((480, 96), Image.Resampling.NEAREST)
    for n in range(5):
        view = wide.convert("RGB").crop((n * 40, 0, n * 40 + 160, 96))
        series.write(f"{n}.png", with_disc(view, (80, 50), 10 if n == 3 else 20, CHARACTER))
    table, (plate,) = plates(series, all_in_one_shot(series.scan()))
    assert table["frame_count"][0] > 1
    assert table["filled_share"].to_list() == [0.0]
    view = np.asarray(wide.convert("RGB").crop((120, 0, 280, 96))).astype(int)
    assert np.abs(plate - view).mean() < 6


def test_a_zoom_takes_nothing_from_frames_that_do_not_fit(tmp_path: Path) -> None:
    """Protects: where no shift explains the surroundings, pixels are invented and told, not taken from elsewhere."""
    series = Series(tmp_path)
    wide = Image.fromarray(np.random.default_rng(4).integers(30, 220, (24, 40), dtype=np.uint8)).convert("RGB")
    for n in range(4):
        view = wide.crop((4 * n, 2 * n, 40 - 4 * n, 24 - 2 * n)).resize((160, 96), Image.Resampling.NEAREST)
        series.write(f"{n}.png", with_disc(view, (80, 50), 14 + 2 * n, CHARACTER))
    table, (plate,) = plates(series, all_in_one_shot(series.scan()))
    assert table["frame_count"].to_list() == [1]
    assert table["filled_share"][0] > 0.03
    assert np.abs(plate[..., 0] - plate[..., 1]).max() < 40  # no magenta is left


def test_shots_without_anything_to_see(tmp_path: Path) -> None:
    """Protects: dark shots and unreadable frames have no plate; an episode of them has an empty table."""
    series = Series(tmp_path)
    series.write("0.png", Image.new("RGB", (160, 96)))
    frames = series.scan()
    assert plates(series, frames)[0].is_empty()
    series.write("1.png", grey(1))
    frames = series.scan()
    (Path(str(series.source)) / "ep/1.png").write_bytes(b"gone")
    assert plates(series, frames)[0].is_empty()


def test_plates_are_bounded_and_cleaned_up(tmp_path: Path) -> None:
    """Protects: limits of frames and width; old plates go when told; a rerun writes the same names."""
    series = Series(tmp_path)
    for n in range(7):
        series.write(f"{n}.png", with_disc(grey(1), (20 + 15 * n, 50), 12, CHARACTER))
    frames = all_in_one_shot(series.scan())
    first, _ = plates(series, frames)
    small, _ = plates(series, frames, BackgroundSettings.model_validate({"max_width_px": 64, "max_frames_per_shot": 3}))
    assert (small["width_px"][0], small["height_px"][0], small["frame_count"][0]) == (64, 38, 3)
    assert remove_stale_plates(first, series.layout, "ep") == 1
    assert plates(series, frames)[0].equals(first)


def test_masked_median_equals_numpy() -> None:
    """Protects: the banded median is the plain (lower) median of the visible pixels."""
    rng = np.random.default_rng(0)
    pictures = list(rng.integers(0, 256, (6, 100, 30, 3), dtype=np.uint8))
    hidden = list(rng.random((6, 100, 30)) < 0.4)
    plate, is_hidden = masked_median(pictures, hidden)
    stacked = np.where(np.stack(hidden)[..., None], np.nan, np.stack(pictures).astype(float))
    visible = ~is_hidden
    expected = np.nanquantile(stacked[:, visible], 0.5, axis=0, method="lower")
    assert np.array_equal(plate[visible], expected.astype(np.uint8))
    assert np.array_equal(is_hidden, np.stack(hidden).all(axis=0))


@pytest.mark.parametrize("shape", [(64, 64), (33, 71), (1, 40), (720, 5)])
def test_filling_a_gradient(shape: tuple[int, int]) -> None:
    """Protects: filled pixels continue their surroundings; visible ones are untouched; odd sizes work."""
    ramp = np.repeat(np.linspace(20, 220, shape[1])[None, :, None], shape[0], 0).repeat(3, 2).astype(np.uint8)
    is_hidden = np.zeros(shape, bool)
    is_hidden[shape[0] // 4 : 3 * shape[0] // 4, shape[1] // 3 : 2 * shape[1] // 3] = True
    damaged = np.where(is_hidden[..., None], 255, ramp).astype(np.uint8)
    filled = fill_hidden(damaged, is_hidden)
    assert np.array_equal(filled[~is_hidden], ramp[~is_hidden])
    if is_hidden.any():
        assert np.abs(filled.astype(int) - ramp)[is_hidden].mean() < 25
    assert np.array_equal(fill_hidden(ramp, np.ones(shape, bool)), ramp)


def test_a_plate_fits_its_file_format(tmp_path: Path) -> None:
    """Protects: a frame taller than WebP allows gets a smaller plate, and the episode its others."""
    series = Series(tmp_path)
    series.write("0.png", grey(1, width_px=40, height_px=17000))
    table, images = plates(series)
    assert images[0].shape == (16383, round(40 * 16383 / 17000), 3)
    assert table["height_px"].to_list() == [16383]

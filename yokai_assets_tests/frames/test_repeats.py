"""Pictures that come back in other episodes are found, every one; pictures that only look alike to a hash are not."""

import numpy as np
import polars as pl
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.frames.duplicates import miniature_distances
from yokai_assets.frames.episodes import find_episode
from yokai_assets.frames.hamming import MAX_RADIUS, nearest_leaders
from yokai_assets.frames.repeats import find_repeats, repeated_pictures
from yokai_assets.frames.scan import scan_episode
from yokai_assets.previews.stages import repeats_sheet
from yokai_assets.settings.model import FramesSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import write_table
from yokai_assets.tables import FRAMES
from yokai_assets_tests.frames.pictures import scene, with_disc, with_grain, write

RNG = np.random.default_rng(0)


def by_comparing_all(hashes: np.ndarray, miniatures: np.ndarray, radius: int, most_apart: float) -> list[int]:
    """The definition, word for word: every hash against every leader before it."""
    leaders: list[int] = []
    found = []
    for position, value in enumerate(hashes):
        near = [
            (int(np.bitwise_count(hashes[leader] ^ value)), leader)
            for leader in leaders
            if np.bitwise_count(hashes[leader] ^ value) <= radius
            and miniature_distances(miniatures[leader], miniatures[position][None])[0] <= most_apart
        ]
        found.append(min(near)[1] if near else position)
        if not near:
            leaders.append(position)
    return found


@pytest.mark.parametrize("radius", [0, 1, 4, 6, 7, MAX_RADIUS])
def test_no_pair_within_the_radius_is_missed(radius: int) -> None:
    """Protects: exact to the chosen radius, for every radius that settings allow, also where hashes crowd."""
    centres = RNG.integers(0, 2**64, 12, dtype=np.uint64)
    hashes = centres[RNG.integers(12, size=400)].copy()
    for _ in range(radius + 2):
        is_hit = RNG.random(400) < 0.6
        hashes[is_hit] ^= np.uint64(1) << RNG.integers(0, 64, int(is_hit.sum())).astype(np.uint64)
    pictures = RNG.integers(0, 255, (3, 144)).astype(np.uint8)
    miniatures = pictures[RNG.integers(3, size=400)]
    found = nearest_leaders(hashes, miniatures, radius, 10.0)
    assert found.tolist() == by_comparing_all(hashes, miniatures, radius, 10.0)
    assert 12 <= len(set(found.tolist())) < 400


def write_series(tmp_path, episodes: int) -> pl.DataFrame:
    """An opening of five pictures and a title that differs, then frames of the episode's own."""
    opening = [scene(seed, 320, 180) for seed in range(5)]
    for episode in range(episodes):
        own = [scene(100 + 10 * episode + number, 320, 180) for number in range(4)]
        title = with_disc(opening[0], (60 + 60 * episode, 90), 14, (255, 255, 255))
        pictures: list[Image.Image] = [*opening, *own[:2], title, *own[2:], opening[3]]
        for number, picture in enumerate(pictures):
            write(
                tmp_path / f"e{episode}/{number:03d}.jpg",
                with_grain(picture, 50 * episode + number),
                "JPEG",
                quality=88,
            )
    source = UPath(tmp_path)
    tables = [scan_episode(find_episode(source, f"e{n}"), source, FramesSettings()) for n in range(episodes)]
    return pl.concat(tables)


def test_an_opening_is_found_in_every_episode(tmp_path) -> None:
    """Protects: what 214 openings cost; a title that only adds something small is a picture of its own."""
    table = find_repeats(write_series(tmp_path, 4), 4, 10.0)
    shown = repeated_pictures(table)
    assert shown["first_frame_id"].to_list() == ["e0/000003", "e0/000000", "e0/000001", "e0/000002", "e0/000004"]
    assert shown["episode_count"].to_list() == [4] * 5
    assert shown.filter(pl.col("first_frame_id") == "e0/000003")["time_count"].item() == 8
    assert not table.filter(pl.col("frame_index") == 7).height
    assert table.filter(pl.col("frame_id") == pl.col("repeat_of"))["bits"].to_list() == [0] * 5


def test_they_are_shown(tmp_path) -> None:
    """Protects: the picture in the UI: which pictures come back, drawn from their first episode."""
    layout = Layout(UPath(tmp_path / "data"), "s")
    frames = write_series(tmp_path / "frames", 2)
    for (episode,), rows in frames.partition_by("episode", as_dict=True).items():
        write_table(FRAMES, rows, layout.table("frames", episode))
    sheet = repeats_sheet(repeated_pictures(find_repeats(frames, 4, 10.0)), layout, UPath(tmp_path / "frames"))
    assert sheet is not None and sheet.width > 5 * 160
    assert repeats_sheet(repeated_pictures(find_repeats(frames.head(0), 4, 10.0)), layout, UPath(tmp_path)) is None


def test_frames_that_stand_for_nobody_do_not_count(tmp_path) -> None:
    """Protects: black, faded and unreadable frames, and duplicates inside a shot, make no groups."""
    frames = write_series(tmp_path, 2)
    dark = frames.with_columns(status=pl.lit("dark"), representative=pl.lit(None, pl.String))
    assert find_repeats(dark, 4, 10.0).is_empty()
    assert find_repeats(frames.head(0), 4, 10.0).is_empty()


def test_a_single_episode_repeats_only_itself(tmp_path) -> None:
    """Protects: a picture that returns in another shot of one episode is told as such."""
    shown = repeated_pictures(find_repeats(write_series(tmp_path, 1), 4, 10.0))
    assert shown.rows() == [("e0/000003", 1, 2, 2)]

"""Pictures that come back: openings, endings, recaps and stock shots, over all episodes of the series.

Works on the tables of frames; no files here, and nothing is ever deleted. Near-duplicates inside a shot are the matter
of `duplicates`.
"""

import numpy as np
import polars as pl

from yokai_assets.tables import REPEATS

FRAME_COLUMNS = ("frame_id", "episode", "frame_index", "status", "representative", "dhash", "miniature")
"""What `find_repeats` needs of table `frames`."""


def find_repeats(frames: pl.DataFrame, near_duplicate_bits: int, near_duplicate_luma: float) -> pl.DataFrame:
    """Group representatives of all episodes that show the same picture.

    The leader of a group is its first picture, by episode and frame; every other one is within `near_duplicate_bits`
    and `near_duplicate_luma` of the leader (see `duplicates.choose_representatives`), exactly: no pair is missed.

    Args:
        frames: `FRAME_COLUMNS` of any episodes.
        near_duplicate_bits: Largest Hamming distance.
        near_duplicate_luma: Largest distance of miniatures.

    Returns:
        REPEATS: the groups of two and more.
    """
    from yokai_assets.frames.hamming import nearest_leaders

    weights = frames.group_by("representative").len("frame_count")
    shown = (
        frames.filter(pl.col("status") == "ok", pl.col("representative") == pl.col("frame_id"))
        .join(weights, on="representative", how="left")
        .sort("episode", "frame_index")
    )
    if shown.is_empty():
        return REPEATS.empty()
    hashes = shown["dhash"].to_numpy()
    pixels = np.frombuffer(b"".join(shown["miniature"].to_list()), np.uint8).reshape(shown.height, -1)
    leader = nearest_leaders(hashes, pixels, near_duplicate_bits, near_duplicate_luma)
    bits = np.bitwise_count(hashes ^ hashes[leader]).astype(np.int32)
    grouped = shown.with_columns(repeat_of=shown["frame_id"].gather(leader), bits=pl.Series(bits))
    in_groups = grouped.filter(pl.len().over("repeat_of") > 1)
    return REPEATS.conform(in_groups.select(REPEATS.schema.names()))


def repeated_pictures(repeats: pl.DataFrame) -> pl.DataFrame:
    """Return one row per picture that comes back, most episodes first.

    Args:
        repeats: REPEATS.

    Returns:
        `first_frame_id`, `episode_count`, `time_count` (how often it is shown), `frame_count`.
    """
    counted = repeats.group_by(pl.col("repeat_of").alias("first_frame_id")).agg(
        pl.col("episode").n_unique().alias("episode_count"),
        pl.len().alias("time_count"),
        pl.col("frame_count").sum(),
    )
    return counted.sort(["episode_count", "frame_count", "first_frame_id"], descending=[True, True, False])

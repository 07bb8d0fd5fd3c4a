"""What an episode's measured frames are: readable or not, black, faded, credits; their shots; who stands for whom.

Works on columns of numbers, so that other thresholds need no file to be opened again. Measuring is `scan`'s.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from yokai_assets.frames.duplicates import choose_representatives
from yokai_assets.frames.shots import Cutting, cut_shots
from yokai_assets.settings.model import FramesSettings
from yokai_assets.tables import FRAMES

MAX_CREDITS_SHARE = 0.3
"""Where more of an episode looks like lines of text, that is how it is drawn, and nothing counts as credits."""


def judge_frames(measured: pl.DataFrame, episode: str, settings: FramesSettings) -> pl.DataFrame:
    """Turn measurements into table `frames`.

    Args:
        measured: `source` and what was measured, in order of frames; a frame without `dhash` could not be read, and
            has a `reason`.
        episode: Its key.
        settings: Thresholds.
    """
    numbers = (
        pl.when(pl.col("dhash").is_null())
        .then(pl.lit("unreadable"))
        .when(pl.col("luma_mean") < settings.dark_luma)
        .then(pl.lit("dark"))
        .when(pl.col("luma_deviation") < settings.flat_luma_deviation)
        .then(pl.lit("blank"))
        .otherwise(pl.lit("ok"))
    )
    frames = measured.with_row_index("frame_index").with_columns(
        pl.lit(episode).alias("episode"),
        (pl.lit(f"{episode}/") + pl.col("frame_index").cast(pl.String).str.zfill(6)).alias("frame_id"),
        numbers.alias("status"),
    )
    readable = frames.filter(pl.col("status") != "unreadable")
    pixels = _miniatures(readable)
    cutting = _cut(readable, pixels, settings)
    status = _with_pictures_judged(readable, cutting, settings)
    readable = readable.with_columns(status, pl.Series("shot", cutting.shot))
    readable = readable.with_columns(_representatives(readable, pixels, settings))
    judged = frames.drop("status").join(
        readable.select("frame_id", "status", "shot", "representative"),
        on="frame_id",
        how="left",
        maintain_order="left",
    )
    judged = judged.with_columns(pl.col("status").fill_null("unreadable"))
    return FRAMES.conform(judged.with_columns(_reason(settings)))


def _miniatures(readable: pl.DataFrame) -> NDArray[np.uint8]:
    joined = b"".join(readable["miniature"].to_list())
    return np.frombuffer(joined, np.uint8).reshape(readable.height, -1 if readable.height else 0)


def _cut(readable: pl.DataFrame, pixels: NDArray[np.uint8], settings: FramesSettings) -> Cutting:
    return cut_shots(
        readable["dhash"].to_numpy(),
        pixels,
        readable["luma_mean"].to_numpy(),
        (readable["status"] == "ok").to_numpy(),
        settings.shot_cut_bits,
    )


def _with_pictures_judged(readable: pl.DataFrame, cutting: Cutting, settings: FramesSettings) -> pl.Series:
    is_ok = (readable["status"] == "ok").to_numpy()
    text_share = readable["text_share"].fill_null(0.0).to_numpy()
    is_credits = is_ok & (text_share >= settings.credits_text_share) & (settings.credits_text_share < 1)
    if is_credits.sum() > MAX_CREDITS_SHARE * is_ok.sum():
        is_credits[:] = False
    status = readable["status"].to_numpy().astype(object)
    status[is_ok & cutting.is_faded] = "faded"
    status[is_credits] = "credits"
    return pl.Series("status", status.tolist(), dtype=pl.String)


def _representatives(readable: pl.DataFrame, pixels: NDArray[np.uint8], settings: FramesSettings) -> pl.Series:
    """Return who stands for each frame; null where the frame is not `ok`."""
    at = np.flatnonzero((readable["status"] == "ok").to_numpy())
    ok = readable[at.tolist()]
    chosen = choose_representatives(
        ok["dhash"].to_numpy(),
        pixels[at],
        ok["shot"].to_numpy(),
        ok["luma_deviation"].to_numpy(),
        settings.near_duplicate_bits,
        settings.near_duplicate_luma,
    )
    representative = np.full(readable.height, None, dtype=object)
    representative[at] = ok["frame_id"].to_numpy()[chosen]
    return pl.Series("representative", representative.tolist(), dtype=pl.String)


def _reason(settings: FramesSettings) -> pl.Expr:
    reasons = {
        "dark": pl.format("mean luma {} is below {}", pl.col("luma_mean").round(1), pl.lit(settings.dark_luma)),
        "blank": pl.format(
            "luma deviation {} is below {}", pl.col("luma_deviation").round(1), pl.lit(settings.flat_luma_deviation)
        ),
        "faded": pl.lit("inside a fade or a dissolve: neither picture is whole"),
        "credits": pl.format("lines of text on plain ground ({} of the edges)", pl.col("text_share").round(2)),
    }
    reason = pl.when(pl.col("status") == "unreadable").then(pl.col("reason"))
    for status, text in reasons.items():
        reason = reason.when(pl.col("status") == status).then(text)
    return reason.otherwise(None).alias("reason")

"""The one picture that each stage shows of its work: which images, in which order, with which labels.

Picking only; drawing is `sheets` and `charts`. A picture that cannot be made is `None`, never an error: a preview
must not cost a finished stage.
"""

import contextlib
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
from PIL import Image
from upath import UPath

from yokai_assets.frames.decoding import IMAGE_ERRORS, open_image
from yokai_assets.previews.cutouts import open_or_blank
from yokai_assets.previews.sheets import contact_sheet
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_columns
from yokai_assets.tables import FRAMES

MAX_TILES = 40


def evenly(frame: pl.DataFrame, count: int) -> pl.DataFrame:
    """Return `count` rows spread evenly over `frame`, in order."""
    if frame.height <= count:
        return frame
    return frame[np.linspace(0, frame.height - 1, count).round().astype(int).tolist()]


def frames_sheet(frames: pl.DataFrame, frames_source: UPath) -> Image.Image | None:
    """Show the first representative of up to 24 shots."""
    from yokai_assets.frames.reader import iter_frames

    firsts = frames.filter(pl.col("status") == "ok").unique("shot", keep="first", maintain_order=True)
    rows = evenly(firsts, 24)
    pictures = [(row, image) for row, image in iter_frames(rows, frames_source) if isinstance(image, Image.Image)]
    return _sheet(
        [image for _, image in pictures], [f"shot {row['shot']}" for row, _ in pictures], columns=6, tile_px=160
    )


def repeats_sheet(pictures: pl.DataFrame, layout: Layout, frames_source: UPath) -> Image.Image | None:
    """Show the first frames of up to 24 pictures that come back, from `repeats.repeated_pictures`."""
    from yokai_assets.frames.reader import iter_frames

    top = pictures.head(24)
    labels = {
        row["first_frame_id"]: f"{row['episode_count']} ep., {row['time_count']}x" for row in top.iter_rows(named=True)
    }
    is_shown = pl.col("frame_id").is_in(list(labels))
    episodes = sorted({frame_id.rpartition("/")[0] for frame_id in labels})
    columns = ["frame_id", "source", "content_sha256"]
    rows = read_columns(FRAMES, layout.tables / "frames", columns, episodes, where=is_shown)
    shown = {
        row["frame_id"]: image for row, image in iter_frames(rows, frames_source) if isinstance(image, Image.Image)
    }
    found = [frame_id for frame_id in labels if frame_id in shown]
    return _sheet([shown[key] for key in found], [labels[key] for key in found], columns=6, tile_px=160)


def files_sheet(
    layout: Layout, files: Iterable[str], labels: Sequence[str] | None = None, *, columns: int = 8, tile_px: int = 96
) -> Image.Image | None:
    """Show image files given relative to the data root; unreadable ones are left out."""
    images: list[Image.Image] = []
    shown: list[str] = []
    for index, file in enumerate(files):
        with contextlib.suppress(*IMAGE_ERRORS), layout.absolute(file).open("rb") as stream:
            image = open_image(stream)
            image.load()
            images.append(image)
            shown.append(labels[index] if labels else "")
    return _sheet(images, shown if labels else None, columns=columns, tile_px=tile_px)


def instances_sheet(instances: pl.DataFrame, layout: Layout) -> Image.Image | None:
    """Show up to 40 cut-outs of an episode, spread over it."""
    rows = evenly(instances.sort("frame_index", "instance_index"), MAX_TILES)
    return files_sheet(layout, rows["cutout"].to_list(), [f"{i:,}" for i in rows["frame_index"]])


def groups_sheet(
    groups: dict[str, list[str]], layout: Layout, *, per_group: int = 8, max_groups: int = 24, label_lines: int = 1
) -> Image.Image | None:
    """Show one row per group (cluster, character): its name (on so many lines) and up to `per_group` cut-outs."""
    files: list[str] = []
    labels: list[str] = []
    for name, cutouts in list(groups.items())[:max_groups]:
        row = cutouts[:per_group]
        files += row + [""] * (per_group - len(row))
        labels += [name] + [""] * (per_group - 1)
    images = [open_or_blank(layout, file) for file in files]
    return _sheet(images, labels, columns=per_group, tile_px=84, label_lines=label_lines)


def _sheet(
    images: list[Image.Image], labels: Sequence[str] | None, *, columns: int, tile_px: int, label_lines: int = 1
) -> Image.Image | None:
    if not images:
        return None
    columns = min(columns, len(images))
    return contact_sheet(images, columns=columns, tile_px=tile_px, labels=labels, label_lines=label_lines)

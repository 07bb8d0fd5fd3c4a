"""Cut-outs of instances for pictures: which file it is, and its image. What is gone or unreadable is left blank."""

import contextlib

import polars as pl
from PIL import Image

from yokai_assets.frames.decoding import IMAGE_ERRORS, open_image
from yokai_assets.retention.ledger import LayerKind, removed_layers
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_columns
from yokai_assets.tables import INSTANCES


def cutouts_of(rows: pl.DataFrame, layout: Layout) -> dict[str, str]:
    """Return instance -> cut-out, relative to the data root, reading only the episodes that are needed.

    Args:
        rows: `instance_id` and `episode`; instances that are there no more, or whose table is damaged, are left out.
        layout: Where tables lie.
    """
    is_wanted = pl.col("instance_id").is_in(rows["instance_id"].implode())
    folder, episodes = layout.tables / "character_layers", rows["episode"].unique().to_list()
    columns = ["instance_id", "cutout"]
    return dict(read_columns(INSTANCES, folder, columns, episodes, where=is_wanted, skip_damaged=True).iter_rows())


def without_removed(rows: pl.DataFrame, layout: Layout) -> pl.DataFrame:
    """Leave instances out whose cut-outs were removed to save space and are not there.

    Args:
        rows: `instance_id` and `episode`.
        layout: Where tables and layers lie.
    """
    gone = [episode for episode, kinds in removed_layers(layout).items() if LayerKind.CHARACTERS in kinds]
    is_gone = pl.col("episode").is_in(gone)
    concerned = rows.filter(is_gone)
    if concerned.is_empty():
        return rows
    folders = (LayerKind.CHARACTERS.folder(layout, episode) for episode in concerned["episode"].unique())
    there = {layout.relative(file) for folder in folders if folder.exists() for file in folder.iterdir()}
    kept = [name for name, cutout in cutouts_of(concerned, layout).items() if cutout in there]
    return rows.filter(~is_gone | pl.col("instance_id").is_in(kept))


def open_or_blank(layout: Layout, file: str) -> Image.Image:
    """Return a cut-out, or a transparent picture for no file and for one that cannot be read."""
    if file:
        with contextlib.suppress(*IMAGE_ERRORS), layout.absolute(file).open("rb") as stream:
            image = open_image(stream)
            image.load()
            return image
    return Image.new("RGBA", (8, 8), (0, 0, 0, 0))

"""The montage of a character: what it looks like, and the members that may not be it.

Picking only; drawing is `sheets`. A picture that cannot be made is `None`, never an error.
"""

import contextlib

import numpy as np
import polars as pl
from PIL import Image

from yokai_assets.analysis.diversity import medoids
from yokai_assets.previews.cutouts import cutouts_of, open_or_blank
from yokai_assets.previews.sheets import contact_sheet
from yokai_assets.registry.registry import Registry
from yokai_assets.segmentation.restoring import Restore, nothing_to_restore
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_columns
from yokai_assets.tables import EMBEDDINGS, TableError

COLUMNS, TYPICAL_COUNT, DOUBTFUL_COUNT = 8, 16, 8
_MAX_MEMBERS = 600


def character_montage(
    character_id: str, registry: Registry, layout: Layout, *, restore: Restore = nothing_to_restore
) -> Image.Image | None:
    """Draw a character's looks, each by the member that stands for most of its kind, and its most doubtful members.

    The looks are medoids, those that stand for most members first. Doubtful are members whose cosine to the character
    exceeds that to another one least; the label says whom they resemble. `restore` is called with the cut-outs that
    will be read.
    """
    members = registry.members_of(character_id)
    with contextlib.suppress(TableError):
        vectors, shown = _vectors(_sample(members), layout)
        files = cutouts_of(shown, layout)
        if shown.is_empty():
            return None
        looks = medoids(vectors, TYPICAL_COUNT)
        doubtful = _doubtful(vectors, character_id, registry, set(looks))
        pictures = [files.get(name, "") for name in shown["instance_id"]]
        restore(pictures[place] for place in (*looks, *(place for place, _ in doubtful)))
        images = [open_or_blank(layout, pictures[place]) for place in looks]
        labels = [""] * len(looks)
        if doubtful:
            fill = -len(looks) % min(COLUMNS, len(looks) + len(doubtful)) if len(looks) > COLUMNS else 0
            images += [open_or_blank(layout, "") for _ in range(fill)]
            images += [open_or_blank(layout, pictures[place]) for place, _ in doubtful]
            labels += [""] * fill + [note for _, note in doubtful]
        name = registry.characters.filter(pl.col("character_id") == character_id)["name"].to_list()
        title = f"{character_id}{f' · {name[0]}' if name and name[0] else ''} · {members.height:,} images"
        note = "; labelled: the most doubtful, and whom they resemble" if doubtful else ""
        return contact_sheet(images, columns=COLUMNS, tile_px=96, labels=labels, title=title + note)
    return None


def _sample(members: pl.DataFrame) -> pl.DataFrame:
    """Return members spread evenly over the character, and those farthest from its centre."""
    order = members.sort("centroid_cosine", "instance_id", descending=[True, False])
    if order.height <= _MAX_MEMBERS:
        return order
    step = order.gather_every(-(-order.height // (_MAX_MEMBERS - 100)))
    return pl.concat([step, order.tail(100)]).unique("instance_id", maintain_order=True)


def _vectors(members: pl.DataFrame, layout: Layout) -> tuple[np.ndarray, pl.DataFrame]:
    """Return vectors float32 [N, D] of one model and the members that have them."""
    is_member = pl.col("instance_id").is_in(members["instance_id"].implode())
    folder, episodes = layout.tables / "embeddings", members["episode"].unique().to_list()
    columns = ["instance_id", "model_fingerprint", "vector"]
    found = read_columns(EMBEDDINGS, folder, columns, episodes, where=is_member, skip_damaged=True)
    if found.is_empty():
        return np.zeros((0, 0), np.float32), members.clear()
    usual = found["model_fingerprint"].mode().sort()[0]
    rows = members.join(
        found.filter(pl.col("model_fingerprint") == usual), on="instance_id", how="inner", maintain_order="left"
    )  # fmt: skip
    return np.asarray(rows["vector"].to_list(), np.float32), rows


def _doubtful(vectors: np.ndarray, character_id: str, registry: Registry, taken: set[int]) -> list[tuple[int, str]]:
    """Return place and note of the members that another character's centroid is nearest to, relative to their own."""
    rows = registry.characters.filter(pl.col("member_count") > 0)
    own = rows.filter(pl.col("character_id") == character_id)["centroid"].to_list()
    others = rows.filter(pl.col("character_id") != character_id)
    if not own or others.is_empty() or len(own[0]) != vectors.shape[1]:
        return []
    rivals = vectors @ np.asarray(others["centroid"].to_list(), np.float32).T
    margin = vectors @ np.asarray(own[0], np.float32) - rivals.max(axis=1)
    names = others["character_id"].to_list()
    places = [int(place) for place in np.argsort(margin, kind="stable") if int(place) not in taken][:DOUBTFUL_COUNT]
    return [(place, f"{names[int(rivals[place].argmax())]} {margin[place]:+.2f}") for place in places]

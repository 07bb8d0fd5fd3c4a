"""Which images make a character's training set: chosen, held out, and known to have a readable cut-out.

The sequence of `selection` and `split`, repeated without the images whose cut-outs turn out to be unusable. Rendering
and writing are `build`.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from yokai_assets.datasets import selection
from yokai_assets.datasets.selection import QualityLimits, Selection
from yokai_assets.datasets.split import hold_out
from yokai_assets.frames.decoding import FrameError
from yokai_assets.frames.reader import decoder_threads
from yokai_assets.segmentation.layers import load_cutout
from yokai_assets.settings.model import DatasetSettings
from yokai_assets.storage.layout import Layout

_MAX_POOL = 6000
_EPISODES_NAMED = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """What a training set is to be made of.

    Attributes:
        rows: INSTANCES of the chosen images, with what the selection added.
        held_out: instance_ids of those that are not trained on.
        dropped: Reason -> members left out for it.
        notes: What went differently than asked for, in sentences.
    """

    rows: pl.DataFrame
    held_out: frozenset[str]
    dropped: Counter[str]
    notes: tuple[str, ...]


def choose(
    character_id: str,
    members: pl.DataFrame,
    instances: pl.DataFrame,
    embeddings: pl.DataFrame,
    layout: Layout,
    settings: DatasetSettings,
    seed: int,
    *,
    resolution_px: int,
    limits: QualityLimits,
) -> Choice:
    """Choose a character's training images and those held out.

    Every chosen cut-out is read. If some cannot be used, the choice is made again as if they did not exist, so that
    the next best images take their places; arguments are those of `build.build_dataset`.
    """
    pool = selection.candidates(character_id, members, instances, embeddings)
    pool = selection.passing_quality(pool, settings.min_side_px, limits)
    usable: set[str] = set()
    unusable: set[str] = set()
    while True:
        rng = np.random.default_rng([seed, *digest(character_id)[:2]])
        left = pool.keep(np.flatnonzero(~_is_in(pool.rows, unusable)), "unreadable")
        choice = _choose(left, settings, resolution_px, limits, rng)
        unread = choice.rows.filter(~pl.col("instance_id").is_in(list(usable)))
        found = _unusable(unread, layout)
        if not found:
            break
        usable |= set(unread["instance_id"]) - found
        unusable |= found | _gone(pool.rows, found, layout)
    return Choice(choice.rows, choice.held_out, choice.dropped, (*_note(pool.rows, unusable), *choice.notes))


def read_cutout(layout: Layout, row: Mapping[str, Any]) -> Image.Image | None:
    """Return the cut-out (RGBA) of a row of INSTANCES; None where it is missing, damaged or not as large as its box."""
    try:
        cutout = load_cutout(layout, row["cutout"])
    except FrameError:
        return None
    return cutout if cutout.size == (row["x1"] - row["x0"], row["y1"] - row["y0"]) else None


def digest(text: str) -> list[int]:
    """Return four 32-bit numbers that depend on the text alone: seeds that do not shift when images come or go."""
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], "<u4").tolist()


def _choose(
    pool: Selection, settings: DatasetSettings, resolution_px: int, limits: QualityLimits, rng: np.random.Generator
) -> Choice:
    share = settings.held_out_share
    most_held_out = max(2, round(settings.max_images * share / max(1 - share, share, 0.01)))
    most = max(2 * settings.max_images, min(limits.pool_per_image * settings.max_images, _MAX_POOL))
    pool = selection.without_near_duplicates(selection.within_pool(pool, most), limits)
    pool = selection.large_enough(pool, settings.max_images + most_held_out, resolution_px, limits)
    shots = selection.shot_numbers(pool.rows)
    split = hold_out(shots, pool.rows["frame_index"].to_numpy(), share, settings.min_images, rng)
    trained = np.setdiff1d(np.arange(pool.rows.height), split.positions)
    sides = [
        selection.diverse(Selection(pool.rows[side], pool.vectors[side]), count)
        for side, count in ((trained, settings.max_images), (split.positions, most_held_out))
    ]
    notes = []
    if split.torn_shot is not None:
        torn = pool.rows.row(int(np.flatnonzero(shots == split.torn_shot)[0]), named=True)
        notes.append(
            f"No whole shots hold about {share:.0%} of the images, so the end of shot {torn['shot']} of "
            f"{torn['episode']} is held out and the rest of it trained on: what the evaluation measures on held-out "
            "images flatters the LoRA."
        )
    return Choice(
        pl.concat([side.rows for side in sides]),
        frozenset(sides[1].rows["instance_id"]),
        pool.dropped + sides[0].dropped + sides[1].dropped,
        tuple(notes),
    )


def _unusable(rows: pl.DataFrame, layout: Layout) -> set[str]:
    with ThreadPoolExecutor(decoder_threads(), thread_name_prefix="cut-out") as pool:
        is_usable = pool.map(lambda row: read_cutout(layout, row) is not None, rows.iter_rows(named=True))
        return {i for i, is_fine in zip(rows["instance_id"], is_usable, strict=True) if not is_fine}


def _gone(rows: pl.DataFrame, found: set[str], layout: Layout) -> set[str]:
    """Return what else is missing in the folders of unusable cut-outs: one listing each, not one round each.

    A folder that was removed would else cost a choice for every handful of its images.
    """
    folders = rows.select("instance_id", pl.col("cutout").str.extract(r"^(.*)/", 1).alias("folder"), "cutout")
    bad = folders.filter(pl.col("instance_id").is_in(list(found)))["folder"].unique().drop_nulls()
    gone: set[str] = set()
    for folder in bad:
        try:
            names = {file.name for file in layout.absolute(folder).iterdir()}
        except OSError:
            names = set()
        inside = folders.filter(pl.col("folder") == folder)
        gone |= {i for i, cutout in inside.select("instance_id", "cutout").iter_rows()
                 if cutout.rpartition("/")[2] not in names}  # fmt: skip
    return gone


def _note(rows: pl.DataFrame, unusable: set[str]) -> tuple[str, ...]:
    if not unusable:
        return ()
    bad = rows.filter(_is_in(rows, unusable)).sort("instance_id")
    episodes = bad["episode"].unique().sort().to_list()
    named = ", ".join(episodes[:_EPISODES_NAMED]) + (", ..." if len(episodes) > _EPISODES_NAMED else "")
    return (
        f"{bad.height} cut-out(s) are missing, damaged or not as large as their box, e.g. {bad['cutout'][0]}; the next "
        f"best images take their places. Materialize `character_layers` again, of {len(episodes)} episode(s): {named}.",
    )


def _is_in(rows: pl.DataFrame, instance_ids: set[str]) -> np.ndarray:
    return rows["instance_id"].is_in(list(instance_ids)).to_numpy()

"""Which images make a character's training set: chosen, held out, and known to have a clean, readable cut-out.

The sequence of `selection` and `split`, repeated without the images whose cut-outs turn out to be unusable. Reading
them is `looks`, rendering and writing are `build`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from yokai_assets.analysis.outfits import find_outfits
from yokai_assets.datasets import selection
from yokai_assets.datasets.looks import Look, faults_of, read_looks
from yokai_assets.datasets.seeding import digest
from yokai_assets.datasets.selection import QualityLimits, Selection
from yokai_assets.datasets.split import hold_out
from yokai_assets.segmentation.restoring import Restore, nothing_to_restore
from yokai_assets.settings.model import DatasetSettings
from yokai_assets.storage.layout import Layout

_MAX_POOL = 6000
_EPISODES_NAMED = 5
_READ_PER_IMAGE = 2
"""Images read for each one wanted: outfits are told apart on them, and bad ones are replaced from among them."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known of a character beside its rows.

    Attributes:
        rivals: Unit centroids of the other characters, f32 [R, D].
        views: instance_id -> from which side the character is seen, where it can be told.
        removed: `cutout_sha256` of images that a person took out.
    """

    rivals: NDArray[np.float32] | None = None
    views: Mapping[str, str] = field(default_factory=dict)
    removed: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """What a training set is to be made of.

    Attributes:
        rows: INSTANCES of the chosen images, with what the selection added, `view`, `framing` and `outfit`.
        held_out: instance_ids of those that are not trained on.
        dropped: instance_id -> reason, of every other member.
        notes: What went differently than asked for, in sentences.
    """

    rows: pl.DataFrame
    held_out: frozenset[str]
    dropped: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Shortlist:
    """Images to be read, and how many of them are wanted, of the trained and of the held-out ones."""

    sides: tuple[tuple[Selection, int], tuple[Selection, int]]
    dropped: dict[str, str]
    notes: tuple[str, ...]

    @property
    def rows(self) -> pl.DataFrame:
        return pl.concat([side.rows for side, _ in self.sides])


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
    knowledge: Knowledge,
    restore: Restore = nothing_to_restore,
) -> Choice:
    """Choose a character's training images and those held out.

    Twice as many as are wanted are read. If some cannot be used, the choice is made again as if they did not exist,
    so that the next best images take their places; arguments are those of `build.build_dataset`.
    """
    pool = selection.candidates(character_id, members, instances, embeddings, knowledge.rivals)
    pool = selection.passing_quality(pool, settings.min_side_px, limits, removed=knowledge.removed)
    looks: dict[str, Look | None] = {}
    unusable: dict[str, str] = {}
    unlike = _unlike(pool, settings, limits)
    while True:
        rng = np.random.default_rng([seed, *digest(character_id)[:2]])
        shortlist = _shortlist(unlike.without(unusable), settings, resolution_px, limits, rng)
        unread = shortlist.rows.filter(~pl.col("instance_id").is_in(list(looks)))
        restore(unread["cutout"])
        looks |= read_looks(unread, layout)
        found = {name: reason for name, reason in faults_of(looks, limits).items() if name not in unusable}
        if not found:
            break
        unusable |= found
        unreadable = {name for name, reason in found.items() if reason == "unreadable"}
        if unreadable:  # what was left out for being like it may take its place
            unusable |= dict.fromkeys(_gone(pool.rows, unreadable, layout), "unreadable")
            unlike = _unlike(pool.without(unusable), settings, limits)
    traits = _traits(shortlist, looks, knowledge.views, seed)
    sides = [_picked(side, count, traits) for side, count in shortlist.sides]
    lost = {name for name, reason in unusable.items() if reason == "unreadable"}
    return Choice(
        pl.concat([side.rows for side in sides], how="vertical_relaxed"),
        frozenset(sides[1].rows["instance_id"]),
        shortlist.dropped | sides[0].dropped | sides[1].dropped,
        (*_note(pool.rows, lost), *shortlist.notes),
    )


def _unlike(pool: Selection, settings: DatasetSettings, limits: QualityLimits) -> Selection:
    """Return what may be chosen from: bounded, and without near-duplicates."""
    most = max(2 * settings.max_images, min(limits.pool_per_image * settings.max_images, _MAX_POOL))
    return selection.without_near_duplicates(selection.within_pool(pool, most), limits)


def _shortlist(
    pool: Selection, settings: DatasetSettings, resolution_px: int, limits: QualityLimits, rng: np.random.Generator
) -> _Shortlist:
    share = settings.held_out_share
    most_held_out = max(2, round(settings.max_images * share / max(1 - share, share, 0.01)))
    pool = selection.large_enough(pool, settings.max_images + most_held_out, resolution_px, limits)
    shots = selection.shot_numbers(pool.rows)
    split = hold_out(shots, pool.rows["frame_index"].to_numpy(), share, settings.min_images, rng)
    trained = np.setdiff1d(np.arange(pool.rows.height), split.positions)
    train, held_out = (
        selection.diverse(Selection(pool.rows[side], pool.vectors[side]), _READ_PER_IMAGE * count)
        for side, count in ((trained, settings.max_images), (split.positions, most_held_out))
    )
    notes = []
    if split.torn_shot is not None:
        torn = pool.rows.row(int(np.flatnonzero(shots == split.torn_shot)[0]), named=True)
        notes.append(
            f"No whole shots hold about {share:.0%} of the images, so the end of shot {torn['shot']} of "
            f"{torn['episode']} is held out and the rest of it trained on: what the evaluation measures on held-out "
            "images flatters the LoRA."
        )
    return _Shortlist(
        ((train, settings.max_images), (held_out, most_held_out)),
        pool.dropped | train.dropped | held_out.dropped,
        tuple(notes),
    )


def _traits(
    shortlist: _Shortlist, looks: Mapping[str, Look | None], views: Mapping[str, str], seed: int
) -> pl.DataFrame:
    """Return `instance_id`, `outfit`, `view` and `framing` of the images of both sides."""
    rows = shortlist.rows
    pictures = [look.thumbnail for name in rows["instance_id"] if (look := looks[name]) is not None]
    outfits = find_outfits(pictures, np.concatenate([side.vectors for side, _ in shortlist.sides]), seed)
    return rows.select(
        "instance_id",
        pl.Series("outfit", outfits.labels, pl.Int32),
        pl.Series("view", [views.get(name) for name in rows["instance_id"]], pl.String),
        selection.framing(rows),
    )


def _picked(side: Selection, count: int, traits: pl.DataFrame) -> Selection:
    """Return the images of one side, even over episodes, and as far as these allow over outfits, views and framings."""
    rows = side.rows.join(traits, on="instance_id", how="left", maintain_order="left")
    return selection.diverse(Selection(rows, side.vectors, {}), count, ("outfit", "view", "framing"))


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
    bad = rows.filter(pl.col("instance_id").is_in(list(unusable))).sort("instance_id")
    episodes = bad["episode"].unique().sort().to_list()
    named = ", ".join(episodes[:_EPISODES_NAMED]) + (", ..." if len(episodes) > _EPISODES_NAMED else "")
    return (
        f"{bad.height} cut-out(s) are missing, damaged or not as large as their box, e.g. {bad['cutout'][0]}; the next "
        f"best images take their places. Materialize `character_layers` again, of {len(episodes)} episode(s): {named}.",
    )

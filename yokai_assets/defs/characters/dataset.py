"""The training set of a character: what the asset reads and shows. The work is `yokai_assets.datasets`."""

from typing import Any

import dagster as dg
import polars as pl
from upath import UPath

from yokai_assets.analysis import load_vocabulary
from yokai_assets.captioning import told_values
from yokai_assets.datasets import (
    DatasetResult,
    Knowledge,
    build_dataset,
    changes_between,
)
from yokai_assets.datasets.regularisation import regularisation_parts
from yokai_assets.defs.characters.inputs import MemberRows, frames_of, load_registry, plates_of, rivals_of, rows_of
from yokai_assets.defs.layers import restorer_of, told
from yokai_assets.defs.partitions import CHARACTERS
from yokai_assets.defs.resources import ProgressResource, SettingsResource
from yokai_assets.defs.results import SOURCE_TAG, made, picture, timed
from yokai_assets.previews.datasets import coverage_chart, rejected_sheet, tag_chart, training_sheet
from yokai_assets.retention.room import require_room
from yokai_assets.storage.files import folder_bytes, sha256_of_parts
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_earlier_table
from yokai_assets.tables import DATASET


@dg.asset(
    partitions_def=CHARACTERS,
    deps=[dg.AssetDep("background_layers", partition_mapping=dg.AllPartitionMapping())],
)
def training_dataset(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    progress: ProgressResource,
    character_members: pl.DataFrame,
    captions: pl.DataFrame,
) -> dg.MaterializeResult:
    """The character's training images, captions and masks on disk, with a held-out part that is never trained on.

    A selection: quality first, then no near-duplicates, then a subset that is even over episodes, outfits, views and
    framings; held out by whole shots. What people change in the folder by hand is kept.
    """
    chosen, layout, character = settings.load(), settings.layout, context.partition_key
    require_room(chosen)
    rows = rows_of(character_members, layout)
    knowledge = Knowledge(
        rivals=rivals_of(load_registry(layout), character, rows.embeddings),
        views=told_values(captions, load_vocabulary(chosen.analysis.vocabulary), "view"),
    )
    earlier = read_earlier_table(DATASET, layout.table("training_dataset", character))
    restore = restorer_of(context, settings, progress)
    with timed() as watch:
        result = build_dataset(
            character, character_members, rows.instances, frames_of(rows.instances, layout), rows.embeddings, captions,
            UPath(chosen.frames_source), layout, chosen.dataset, chosen.seed, knowledge=knowledge,
            resolution_px=chosen.training.resolution_px, plates=plates_of(character_members, layout),
            progress=progress.of(context), restore=restore,
        )  # fmt: skip
    metadata = {
        **_numbers(result),
        **rows.told(context),
        **told(restore),
        "changes": changes_between(earlier, result.table),
        "seconds": watch.seconds,
        **_pictures(result, rows, captions, layout),
    }
    source = dataset_fingerprint(result.edits_fingerprint, layout, character)
    return made("training_dataset", chosen, value=result.table, metadata=metadata, tags={SOURCE_TAG: source})


def dataset_fingerprint(edits_fingerprint: str, layout: Layout, character: str) -> str:
    """Return a hash of what a set is made of beside its inputs: edits, and the regularisation set that it names."""
    return sha256_of_parts(edits_fingerprint, regularisation_parts(layout, character))[:32]


def _numbers(result: DatasetResult) -> dict[str, Any]:
    counts = dict(result.table.group_by("split").len().iter_rows())
    return {
        "train_image_count": counts.get("train", 0),
        "held_out_image_count": counts.get("held_out", 0),
        "grounds": dict(result.table["background"].value_counts(sort=True).iter_rows()),
        "outfit_count": result.table["outfit"].n_unique(),
        "dropped": result.dropped_counts,
        "dropped_count": len(result.dropped),
        "by_hand": result.edits.counts,
        "own_file_count": result.own_file_count,
        "notes": list(result.notes),
        "folder": dg.MetadataValue.path(str(result.folder)),
        "dataset_bytes": folder_bytes(result.folder),
    }


def _pictures(
    result: DatasetResult, rows: MemberRows, captions: pl.DataFrame, layout: Layout
) -> dict[str, dg.MetadataValue]:
    shown = {
        "contact_sheet": (
            training_sheet(result.table, layout, count=24),
            "training images and captions, held-out ones first",
        ),
        "rejected": (rejected_sheet(result.dropped, rows.instances, layout), "images left out, by reason"),
        "tags": (tag_chart(result.table, captions), "how often each tag is said"),
        "coverage": (coverage_chart(result.table, rows.instances, captions), "images of each episode"),
    }
    return {name: picture(image, alt) for name, (image, alt) in shown.items() if image is not None}


ASSETS = [training_dataset]

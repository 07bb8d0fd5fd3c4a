"""Assets that bring the episodes together: repeated pictures, the index in DuckDB. SQL is in `sql/`."""

from dataclasses import asdict

import dagster as dg
from upath import UPath

from yokai_assets.defs.policies import DUCKDB_POOL
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.defs.results import (
    SOURCE_TAG,
    made,
    picture,
    records,
    timed,
)
from yokai_assets.frames.repeats import FRAME_COLUMNS, find_repeats, repeated_pictures
from yokai_assets.previews.stages import repeats_sheet
from yokai_assets.storage.database import publish
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import files_fingerprint, read_columns, table_files
from yokai_assets.storage.vectors import embeddings_version
from yokai_assets.tables import FRAMES

INDEXED = {"frames": "frames", "instances": "character_layers", "embeddings": "embeddings"}
"""Database table -> asset whose partitions fill it."""


def indexed_files(layout: Layout) -> dict[str, dict[str, UPath]]:
    """Return database table -> partition -> Parquet file of what the index holds."""
    return {table: table_files(layout.tables / asset) for table, asset in INDEXED.items()}


def index_fingerprint(layout: Layout) -> str:
    """Return a hash of which files the index would be made of now."""
    return files_fingerprint(indexed_files(layout))


def frames_fingerprint(layout: Layout) -> str:
    """Return a hash of which tables of frames there are now."""
    return files_fingerprint({"frames": table_files(layout.tables / "frames")})


@dg.asset(deps=[dg.AssetDep("frames", partition_mapping=dg.AllPartitionMapping())])
def repeated_frames(settings: SettingsResource) -> dg.MaterializeResult:
    """Pictures that come back in other shots and episodes: openings, endings, recaps, stock shots.

    One row per representative frame that is shown again. All episodes that exist are compared; an episode whose table
    is damaged is left out.
    """
    chosen, layout = settings.load(), settings.layout
    fingerprint = frames_fingerprint(layout)
    with timed() as watch:
        frames = read_columns(FRAMES, layout.tables / "frames", FRAME_COLUMNS, skip_damaged=True)
        table = find_repeats(frames, chosen.frames.near_duplicate_bits, chosen.frames.near_duplicate_luma)
    groups = repeated_pictures(table)
    sheet = repeats_sheet(groups, layout, UPath(chosen.frames_source))
    metadata = {
        "frame_count": frames.height,
        "picture_count": groups.height,
        "repeated_share": round(table["frame_count"].sum() / max(1, frames.height), 4),
        "most_shown": records(groups),
        "seconds": watch.seconds,
        **({"contact_sheet": picture(sheet, "pictures that come back, most often first")} if sheet else {}),
    }
    return made(
        "repeated_frames", chosen, value=table, metadata=metadata,
        tags={SOURCE_TAG: fingerprint}, is_partitioned=False,
    )  # fmt: skip


@dg.asset(
    deps=[
        dg.AssetDep("frames", partition_mapping=dg.AllPartitionMapping()),
        dg.AssetDep("character_layers", partition_mapping=dg.AllPartitionMapping()),
        dg.AssetDep("embeddings", partition_mapping=dg.AllPartitionMapping()),
    ],
    pool=DUCKDB_POOL,
)
def embedding_index(context: dg.AssetExecutionContext, settings: SettingsResource) -> dg.MaterializeResult:
    """Frames, instances and vectors of all episodes in one DuckDB file, for SQL and for the clustering.

    Only changed episodes are written: into a copy that then takes the published file's name, so readers neither wait
    nor make it wait. Missing or failed episodes are simply not in it. While episodes are embedded anew with another
    model, the vectors of the model that most vectors have are in it, and the others are named as left out.
    """
    chosen, layout = settings.load(), settings.layout
    sources = indexed_files(layout)
    fingerprint = files_fingerprint(sources)
    report = publish(layout.database, sources)
    for problem in report.problems:
        context.log.warning(f"{problem.table}/{problem.partition} left out: {problem.reason}. {problem.remedy}")
    metadata = {
        "episode_count": len(sources["embeddings"]),
        "left_out_count": len(report.problems),
        "partitions_written": len(report.changed),
        "partitions_removed": len(report.removed),
        "partitions_unchanged": report.unchanged,
        "problems": dg.MetadataValue.json([asdict(problem) for problem in report.problems]),
        "database": dg.MetadataValue.path(str(layout.database)),
        "database_bytes": report.size_bytes,
        "seconds": report.seconds,
    }
    return made(
        "embedding_index", chosen, version=embeddings_version(layout.database), metadata=metadata,
        tags={SOURCE_TAG: fingerprint}, is_partitioned=False,
    )  # fmt: skip


ASSETS = [repeated_frames, embedding_index]

"""Assets of the whole series. Methods are in `yokai_assets.clustering` and `.registry`, SQL in `sql/`."""

from dataclasses import asdict
from datetime import UTC, datetime

import dagster as dg
import polars as pl
from pydantic import Field
from upath import UPath

from yokai_assets.clustering import judge_groups, update_groups
from yokai_assets.defs.policies import DUCKDB_POOL, POLICIES
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.defs.results import (
    CODE_VERSION_TAG,
    MODEL_TAG,
    SETTINGS_TAG,
    SOURCE_TAG,
    made,
    picture,
    records,
    settings_fingerprint,
    timed,
)
from yokai_assets.frames.repeats import FRAME_COLUMNS, find_repeats, repeated_pictures
from yokai_assets.previews.groups import map_chart, place_instances, suspects_sheet
from yokai_assets.previews.stages import groups_sheet, repeats_sheet
from yokai_assets.registry import DecisionStore, RegistryStore, update_registry
from yokai_assets.registry.deciding import boxes_of
from yokai_assets.registry.states import STATE_MEANINGS, doubts_of
from yokai_assets.settings import Settings
from yokai_assets.storage.database import publish
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import files_fingerprint, read_columns, read_earlier_table, table_files
from yokai_assets.storage.vectors import embeddings_version, read_vectors
from yokai_assets.tables import CLUSTERS, FRAMES, GROUPS, INSTANCES

INDEXED = {"frames": "frames", "instances": "character_layers", "embeddings": "embeddings"}
"""Database table -> asset whose partitions fill it."""

CHARACTER_COLUMNS = ("character_id", "name", "state", "other_id", "reason", "member_count", "episode_count")


def indexed_files(layout: Layout) -> dict[str, dict[str, UPath]]:
    """Return database table -> partition -> Parquet file of what the index holds."""
    return {table: table_files(layout.tables / asset) for table, asset in INDEXED.items()}


def index_fingerprint(layout: Layout) -> str:
    """Return a hash of which files the index would be made of now."""
    return files_fingerprint(indexed_files(layout))


def frames_fingerprint(layout: Layout) -> str:
    """Return a hash of which tables of frames there are now."""
    return files_fingerprint({"frames": table_files(layout.tables / "frames")})


def decisions_fingerprint(layout: Layout) -> str:
    """Return a hash of the decisions that hold now."""
    return DecisionStore(layout.registry).load().fingerprint


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


class ClusteringRun(dg.Config):
    """How the groups are to be made in this run."""

    is_full: bool = Field(default=False, description="Cluster the whole series anew, whatever there is.")


@dg.asset(deps=[embedding_index])
def clusters(
    context: dg.AssetExecutionContext,
    config: ClusteringRun,
    settings: SettingsResource,
    repeated_frames: pl.DataFrame,
) -> dg.MaterializeResult:
    """Groups of instances that look like one character; what belongs to none is noise (-1).

    A new episode's instances join by the vote of their neighbours; everything is clustered anew every night, when
    settings or models changed, and when too many stay without a group. Near-identical instances of a shot, and of
    pictures that come back, count once. A group is only a proposal: identity is the registry's.
    """
    chosen, layout = settings.load(), settings.layout
    index = read_vectors(layout.database)
    repeat_of = dict(repeated_frames.select("frame_id", "repeat_of").iter_rows())
    with timed() as watch:
        found = update_groups(
            index, read_earlier_table(CLUSTERS, layout.table("clusters")), chosen.clustering, chosen.seed,
            repeat_of=repeat_of, full_reason=_why_full(context, config, chosen, index.model_fingerprint),
        )  # fmt: skip
    table = found.table
    sizes = table.filter(pl.col("cluster_label") >= 0)["cluster_label"].value_counts()["count"]
    metadata = {
        "instance_count": table.height,
        "noise_share": round(1 - int(sizes.sum()) / max(1, table.height), 4),
        "cluster_count": sizes.len(),
        "smallest": int(sizes.min() or 0),  # pyright: ignore[reportArgumentType]
        "largest": int(sizes.max() or 0),  # pyright: ignore[reportArgumentType]
        "how": f"clustered anew: {found.full_reason}" if found.full_reason else f"{found.joined_count} joined groups",
        "waiting_share": round(found.waiting_share, 4),
        "near_identical_count": found.collapsed_count,
        "method": found.method,
        "parameters": dg.MetadataValue.json(found.parameters),
        "seconds": watch.seconds,
    }
    return made(
        "clusters", chosen, value=table, metadata=metadata, tags={MODEL_TAG: index.model_fingerprint[:32]},
        is_partitioned=False,
    )  # fmt: skip


def _why_full(
    context: dg.AssetExecutionContext, config: ClusteringRun, settings: Settings, model_fingerprint: str
) -> str | None:
    """Return why everything must be clustered anew; None where new instances may join what is there."""
    if config.is_full:
        return "asked for"
    record = context.instance.get_latest_materialization_event(context.asset_key)
    tags = (record.asset_materialization.tags or {}) if record and record.asset_materialization else {}
    now = {
        "code": (CODE_VERSION_TAG, POLICIES["clusters"].code_version),
        "settings": (SETTINGS_TAG, settings_fingerprint(settings, "clusters")),
        "embedding model": (MODEL_TAG, model_fingerprint[:32]),
    }
    changed = [what for what, (tag, value) in now.items() if tags.get(tag) != value]
    return f"another {' and '.join(changed)}" if changed else None


@dg.asset(deps=[embedding_index])
def group_quality(settings: SettingsResource, clusters: pl.DataFrame) -> dg.MaterializeResult:
    """How good each group is: tightness, rivals, one character or two, found again in parts of the series.

    Suspicions are shown side by side; a group that is both in two halves and not found again is no character to be
    trained before a person accepts it (`yokai characters accept`).
    """
    chosen, layout = settings.load(), settings.layout
    index = read_vectors(layout.database)
    labels = index.align(clusters, "cluster_label", missing=-1)
    is_rare = index.align(clusters.cast({"is_rare_group": pl.Int8}), "is_rare_group", missing=0).astype(bool)
    former = read_earlier_table(GROUPS, layout.table("group_quality")) if clusters["is_joined"].any() else None
    with timed() as watch:
        found = judge_groups(
            index.vectors, labels, is_rare, index.frame_ids, chosen.clustering, chosen.seed, former=former
        )
        points = place_instances(index.vectors, labels, chosen.seed)
    suspects = found.table.filter(pl.col("suspicion").is_not_null())
    groups = groups_sheet(_cutouts_by(clusters.filter(pl.col("cluster_label") >= 0), "cluster_label", layout), layout)
    pairs = suspects_sheet(suspects, index, labels, layout, chosen.seed)
    metadata = {
        "group_count": found.table.height,
        "noise_share": round(found.noise_share, 4),
        "silhouette": found.silhouette,
        "stability": found.table["stability"].mean(),
        **{
            f"suspected_{kind}_count": suspects.filter(suspicion=kind).height for kind in ("merge", "split", "unstable")
        },
        "groups": records(found.table, limit=100),
        "seconds": watch.seconds,
        **({"contact_sheet": picture(groups, "one row per group")} if groups else {}),
        **({"suspects": picture(pairs, "suspected merges and splits, a row for each side")} if pairs else {}),
        **({"map": picture(map_chart(points), "instances by likeness, a colour per group")} if points.height else {}),
    }
    return made("group_quality", chosen, value=found.table, metadata=metadata, is_partitioned=False)


character_decisions = dg.AssetSpec(
    "character_decisions",
    description="What people decided with `yokai characters`: names, merges, splits, exclusions, what is no character. "
    "Each decision is an event of it.",
)


@dg.asset(deps=[character_decisions])
def character_registry(
    settings: SettingsResource, clusters: pl.DataFrame, group_quality: pl.DataFrame
) -> dg.MaterializeResult:
    """The characters of the series, with ids that never move.

    Each clustering is matched to the known characters (shared members first, centroids second), then decisions are
    applied; what happened to each - born, grown, merged, split, named, ... - is an event. Only `active` ones are
    trained; the state of the others says why not.
    """
    chosen, layout = settings.load(), settings.layout
    store, decisions = RegistryStore(layout.registry), DecisionStore(layout.registry).load()
    previous = store.load()
    with timed() as watch:
        registry = update_registry(
            previous, clusters, read_vectors(layout.database).as_embeddings(), chosen.registry,
            chosen.clustering.min_cluster_size, datetime.now(UTC), decisions=decisions,
            boxes=boxes_of([reference.instance_id for reference in decisions.referenced()], layout),
            doubts=doubts_of(group_quality),
        )  # fmt: skip
        store.save(registry)
    states = dict(registry.characters.group_by("state").len().iter_rows())
    groups = _cutouts_by(registry.members.sort("centroid_cosine", descending=True), "character_id", layout)
    sheet = groups_sheet(groups, layout)
    metadata = {
        "registry_version": registry.version,
        **{f"{state}_count": states.get(state, 0) for state in STATE_MEANINGS},
        "member_count": registry.members.height,
        "characters": records(registry.characters.select(CHARACTER_COLUMNS)),
        "has_changed": registry is not previous,
        "newest_events": records(registry.new_events.select("character_id", "kind", "other_id", "note")),
        "decisions": records(registry.decisions.select("decision_id", "meaning", "status", "reason").reverse()),
        "seconds": watch.seconds,
        **({"contact_sheet": picture(sheet, "one row per character, most typical first")} if sheet else {}),
    }
    return made(
        "character_registry", chosen, version=registry.content_hash, metadata=metadata,
        tags={SOURCE_TAG: decisions.fingerprint}, is_partitioned=False,
    )  # fmt: skip


def _cutouts_by(rows: pl.DataFrame, column: str, layout: Layout) -> dict[str, list[str]]:
    """Return group -> cut-outs, largest group first, reading only the episodes that are needed."""
    top = rows.group_by(column, maintain_order=True).head(8)
    sizes = rows.group_by(column).len().sort("len", descending=True)
    folder, episodes = layout.tables / "character_layers", top["episode"].unique().to_list()
    is_shown = pl.col("instance_id").is_in(top["instance_id"].implode())
    instances = read_columns(INSTANCES, folder, ["instance_id", "cutout"], episodes, where=is_shown)
    named = top.join(instances, on="instance_id", how="inner", maintain_order="left")
    return {str(key): named.filter(pl.col(column) == key)["cutout"].to_list() for key in sizes[column]}


ASSETS = [repeated_frames, embedding_index, clusters, group_quality, character_registry]
SOURCES = [character_decisions]

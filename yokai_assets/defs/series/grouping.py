"""Groups of the series and how good they are. Methods are in `yokai_assets.clustering`."""

import dagster as dg
import polars as pl
from pydantic import Field

from yokai_assets.analysis.kinds import scenery_probabilities
from yokai_assets.clustering import judge_groups, update_groups
from yokai_assets.defs.policies import POLICIES
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.defs.results import (
    CODE_VERSION_TAG,
    MODEL_TAG,
    SETTINGS_TAG,
    made,
    picture,
    records,
    settings_fingerprint,
    timed,
)
from yokai_assets.defs.series.assets import embedding_index
from yokai_assets.embedding.model import EmbeddingModelError, open_image_text_model
from yokai_assets.previews.cutouts import without_removed
from yokai_assets.previews.groups import cutouts_by, map_chart, place_instances, suspects_sheet
from yokai_assets.previews.stages import groups_sheet
from yokai_assets.settings import Settings
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_columns, read_earlier_table
from yokai_assets.storage.vectors import VectorIndex, read_vectors
from yokai_assets.tables import CLUSTERS, GROUPS, INSTANCES

SUSPICIONS = ("merge", "split", "several", "scenery", "unstable")


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

    A new episode's instances join by the vote of their neighbours; everything is clustered anew by the schedule, when
    settings or models changed, and when too many stay without a group. Near-identical instances of a shot, and of
    pictures that come back, count once. A group is only a proposal: identity is the registry's.
    """
    chosen, layout = settings.load(), settings.layout
    index = read_vectors(layout.database)
    repeat_of = dict(repeated_frames.select("frame_id", "repeat_of").iter_rows())
    previous = read_earlier_table(CLUSTERS, layout.table("clusters"))
    reason = _why_full(context, config, chosen, index.model_fingerprint, has_groups=not previous.is_empty())
    with timed() as watch:
        found = update_groups(index, previous, chosen.clustering, chosen.seed, repeat_of=repeat_of, full_reason=reason)
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
    context: dg.AssetExecutionContext,
    config: ClusteringRun,
    settings: Settings,
    model_fingerprint: str,
    *,
    has_groups: bool,
) -> str | None:
    """Return why everything must be clustered anew; None where new instances may join what is there."""
    if config.is_full:
        return "asked for"
    record = context.instance.get_latest_materialization_event(context.asset_key)
    if record is None or record.asset_materialization is None:
        return "nothing tells how the groups that are there were made" if has_groups else "there are no groups yet"
    tags = record.asset_materialization.tags or {}
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
    earlier = read_earlier_table(GROUPS, layout.table("group_quality"))
    former = earlier if clusters["is_joined"].any() and earlier.height else None
    signs = _signs(index, chosen, layout)
    with timed() as watch:
        found = judge_groups(
            index.vectors, labels, is_rare, index.frame_ids, chosen.clustering, chosen.seed,
            former=former, signs=signs,
        )  # fmt: skip
        points = place_instances(index.vectors, labels, chosen.seed)
    suspects = found.table.filter(pl.col("suspicion").is_not_null())
    shown = without_removed(clusters.filter(pl.col("cluster_label") >= 0), layout)
    groups = groups_sheet(cutouts_by(shown, "cluster_label", layout), layout)
    pairs = suspects_sheet(suspects, index, labels, layout, chosen.seed)
    metadata = {
        "group_count": found.table.height,
        "noise_share": round(found.noise_share, 4),
        "silhouette": found.silhouette,
        "is_scenery_judged_by_words": bool(signs["scenery_probability"].count()),
        "stability": found.table["stability"].mean(),
        **{f"suspected_{kind}_count": suspects.filter(suspicion=kind).height for kind in SUSPICIONS},
        "groups": records(found.table, limit=100),
        "seconds": watch.seconds,
        **({"contact_sheet": picture(groups, "one row per group")} if groups else {}),
        **({"suspects": picture(pairs, "suspected merges and splits, a row for each side")} if pairs else {}),
        **({"map": picture(map_chart(points), "instances by likeness, a colour per group")} if points.height else {}),
    }
    return made("group_quality", chosen, value=found.table, metadata=metadata, is_partitioned=False)


def _signs(index: VectorIndex, settings: Settings, layout: Layout) -> pl.DataFrame:
    """Return what else is known of each instance that tells a character from scenery, in the order of the vectors.

    A few words are all that the model is asked for: the CPU will do, and no GPU is waited for.
    """
    columns = ["instance_id", "edge_contact_share", "lobe_count"]
    instances = read_columns(INSTANCES, layout.tables / "character_layers", columns, skip_damaged=True)
    by_words = None
    try:
        model = open_image_text_model(settings.embedding, "cpu")
        if model.fingerprint == index.model_fingerprint:
            by_words = scenery_probabilities(index.vectors, model)
    except EmbeddingModelError as error:
        dg.get_dagster_logger().warning(f"Scenery is not judged by words: {error}")
    return (
        index.rows.select("instance_id", "shot")
        .join(instances, on="instance_id", how="left", maintain_order="left")
        .with_columns(
            pl.lit(None, pl.Float32).alias("scenery_probability") if by_words is None
            else pl.Series("scenery_probability", by_words, pl.Float32)
        )
    )  # fmt: skip


ASSETS = [clusters, group_quality]

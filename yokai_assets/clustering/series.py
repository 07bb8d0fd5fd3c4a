"""The groups of a series as a table, kept up to date: new episodes join at once, all is clustered anew when it must.

Deciding which, and tables in and out; the arithmetic is in `clustering` and `joining`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from yokai_assets.clustering.clustering import cluster_instances
from yokai_assets.clustering.grouping import NOISE
from yokai_assets.clustering.joining import join_groups
from yokai_assets.clustering.representatives import pools_of
from yokai_assets.settings.model import ClusteringSettings
from yokai_assets.storage.vectors import VectorIndex
from yokai_assets.tables import CLUSTERS


@dataclass(frozen=True, slots=True)
class SeriesGroups:
    """Groups of a series.

    Attributes:
        table: `CLUSTERS`.
        full_reason: Why all was clustered anew; None where new instances joined.
        joined_count: New instances that joined a group.
        waiting_share: Share of all instances that came since the last clustering of all and are in no group.
        method: Name in `METHODS`; empty where nothing was clustered.
        parameters: What decided the outcome besides the vectors.
        collapsed_count: Near-identical instances that stood back for another one.
    """

    table: pl.DataFrame
    full_reason: str | None
    joined_count: int = 0
    waiting_share: float = 0.0
    method: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    collapsed_count: int = 0


def update_groups(
    index: VectorIndex,
    previous: pl.DataFrame,
    settings: ClusteringSettings,
    seed: int,
    *,
    repeat_of: Mapping[str, str],
    full_reason: str | None,
) -> SeriesGroups:
    """Cluster the series, or let what is new join the groups there are.

    Args:
        index: Published vectors.
        previous: `CLUSTERS` as they are; empty for none.
        settings: Method, sizes, and the share of waiting instances beyond which all is clustered anew.
        seed: Seed of everything random.
        repeat_of: Frame -> first frame with the same picture.
        full_reason: Why all must be clustered anew in any case; None if nothing demands it.
    """
    reason = full_reason or ("there are no groups yet" if previous.is_empty() else None)
    if reason is None:
        joined = _join(index, previous)
        gone = 1 - joined.table.filter(~pl.col("is_joined")).height / max(1, (~previous["is_joined"]).sum())
        if joined.waiting_share > settings.recluster_share:
            reason = f"{joined.waiting_share:.1%} of the instances came since and belong to no group"
        elif gone > settings.recluster_share:
            reason = f"{gone:.1%} of the clustered instances are gone or were cut anew"
        else:
            return joined
    return _cluster_all(index, settings, seed, repeat_of, reason)


def _cluster_all(
    index: VectorIndex, settings: ClusteringSettings, seed: int, repeat_of: Mapping[str, str], reason: str
) -> SeriesGroups:
    pools = pools_of(index.rows["shot"].to_list(), index.frame_ids, repeat_of)
    found = cluster_instances(index.vectors, index.frame_ids, settings, seed, pools=pools)
    table = index.rows.select("instance_id", "episode", "cutout_sha256").with_columns(
        pl.Series("cluster_label", found.labels),
        pl.Series("probability", found.probabilities),
        pl.Series("is_rare_group", found.is_rare_group),
        index.rows["instance_id"].gather(found.stands_for).alias("representative"),
        pl.lit(value=False).alias("is_joined"),
    )
    collapsed = int((found.stands_for != np.arange(len(found.labels))).sum())
    return SeriesGroups(
        CLUSTERS.conform(table), reason,
        method=found.method, parameters=found.parameters, collapsed_count=collapsed,
    )  # fmt: skip


def _join(index: VectorIndex, previous: pl.DataFrame) -> SeriesGroups:
    """Keep what is known of instances whose pixels are the same; let the others vote themselves into groups."""
    rows = index.rows.select("instance_id", "episode", "frame_id", "cutout_sha256").join(
        previous.drop("episode"), on=["instance_id", "cutout_sha256"], how="left", maintain_order="left"
    )
    is_waiting = (rows["cluster_label"] == NOISE) & rows["is_joined"]
    is_new = (rows["cluster_label"].is_null() | is_waiting.fill_null(value=False)).to_numpy()
    labels = rows["cluster_label"].fill_null(NOISE).to_numpy().astype(np.int32)
    frame_codes = rows["frame_id"].rank("dense").to_numpy().astype(np.int64)
    found = join_groups(index.vectors, labels, is_new, frame_codes)
    probability = rows["probability"].fill_null(0.0).to_numpy().copy()
    labels[is_new], probability[is_new] = found.labels, found.votes
    rare = previous.filter("is_rare_group")["cluster_label"].unique().to_numpy()
    table = rows.drop("frame_id").with_columns(
        pl.Series("cluster_label", labels),
        pl.Series("probability", probability.astype(np.float32)),
        pl.Series("is_rare_group", np.isin(labels, rare)),
        pl.col("representative").fill_null(pl.col("instance_id")),
        pl.col("is_joined").fill_null(value=True),
    )
    waiting = int(((table["cluster_label"] == NOISE) & table["is_joined"]).sum())
    return SeriesGroups(
        CLUSTERS.conform(table),
        None,
        joined_count=int((found.labels != NOISE).sum()),
        waiting_share=waiting / max(1, table.height),
    )

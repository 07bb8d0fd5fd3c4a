"""Keeping the registry on disk up to date: newest version and decisions in, next version out and saved.

The one road for whoever has a clustering, our own or an imported one; the rules are `updating`, the files `store`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import polars as pl

from yokai_assets.registry.deciding import boxes_of
from yokai_assets.registry.decisions import DecisionLog
from yokai_assets.registry.registry import Registry
from yokai_assets.registry.states import Doubt
from yokai_assets.registry.store import DecisionStore, RegistryStore
from yokai_assets.registry.updating import update_registry
from yokai_assets.settings import Settings
from yokai_assets.storage.layout import Layout


def keep_registry(
    clusters: pl.DataFrame,
    embeddings: pl.DataFrame,
    settings: Settings,
    layout: Layout,
    *,
    doubts: Mapping[int, Doubt] | None = None,
) -> tuple[Registry, Registry | None, DecisionLog]:
    """Make the next version of the registry from a clustering and what people decided, and save it.

    Args:
        clusters: `CLUSTERS` of the whole series.
        embeddings: `EMBEDDINGS` of the whole series.
        settings: Thresholds.
        layout: Where registry and decisions lie.
        doubts: Cluster label -> what speaks against training the group.

    Returns:
        The version now (the former one itself where nothing changed), the former one, and the decisions.

    Raises:
        RegistryError: Clusters without vectors, or damaged files.
    """
    store, decisions = RegistryStore(layout.registry), DecisionStore(layout.registry).load()
    former = store.load()
    now = update_registry(
        former,
        clusters,
        embeddings,
        settings.registry,
        settings.clustering.min_cluster_size,
        datetime.now(UTC),
        decisions=decisions,
        boxes=boxes_of([reference.instance_id for reference in decisions.referenced()], layout),
        doubts=doubts,
    )
    store.save(now)
    return now, former, decisions

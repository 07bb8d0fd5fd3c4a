"""Checks of the clustering and of the registry."""

import dagster as dg
import polars as pl

from yokai_assets.clustering import assess_clustering
from yokai_assets.defs.characters.inputs import load_registry
from yokai_assets.defs.checking import judged
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.defs.series import assets
from yokai_assets.registry import RegistryStore, changed_share
from yokai_assets.storage.vectors import read_vectors


@dg.asset_check(asset=assets.clusters, blocking=True)
def clusters_are_usable(settings: SettingsResource, clusters: pl.DataFrame) -> dg.AssetCheckResult:
    """The clustering found groups and left not too much as noise."""
    limit = settings.load().clustering.max_noise_share
    noise_share = clusters.filter(pl.col("cluster_label") < 0).height / max(1, clusters.height)
    count = clusters.filter(pl.col("cluster_label") >= 0)["cluster_label"].n_unique()
    return judged(
        count > 0 and noise_share <= limit,
        expected=f"at least one group and at most {limit:.0%} noise",
        actual=f"{count} groups, {noise_share:.1%} noise of {clusters.height} instances",
        remedy="More episodes, a smaller `clustering.min_cluster_size`, or another embedding model.",
        noise_share=round(noise_share, 4),
        cluster_count=count,
    )


@dg.asset_check(asset=assets.clusters)
def clusters_are_apart(settings: SettingsResource, clusters: pl.DataFrame) -> dg.AssetCheckResult:
    """Groups are compact and apart (silhouette); sizes as numbers."""
    chosen = settings.load()
    index = read_vectors(settings.layout.database)
    labels = index.align(clusters, "cluster_label", missing=-1)
    quality = assess_clustering(index.vectors, labels, chosen.seed)
    silhouette = quality.silhouette
    return judged(
        silhouette is None or silhouette >= chosen.clustering.min_silhouette,
        expected=f"silhouette of at least {chosen.clustering.min_silhouette}",
        actual=f"silhouette {silhouette}, sizes {quality.smallest} to {quality.largest}",
        remedy="Look at `contact_sheet` of `clusters`: mixed rows mean that groups should be split "
        "(`clustering.min_samples` up) or that the embedding model does not tell these characters apart.",
        severity=dg.AssetCheckSeverity.WARN,
        smallest=quality.smallest or 0,
        largest=quality.largest or 0,
    )


@dg.asset_check(asset=assets.character_registry)
def characters_stay_themselves(settings: SettingsResource) -> dg.AssetCheckResult:
    """Few instances changed their character since the last clustering."""
    limit = settings.load().registry.max_changed_share
    now, before = RegistryStore(settings.layout.registry).load_last_two()
    share = changed_share(before, now) if before else 0.0
    return judged(
        share <= limit,
        expected=f"at most {limit:.0%} of the instances known before change character",
        actual=f"{share:.1%} changed" if before else "this is the first clustering",
        remedy="Read the events in `character_registry`. If the new clustering is worse, restore its parameters and "
        "materialize `clusters` and `character_registry` again.",
        severity=dg.AssetCheckSeverity.WARN,
        changed_share=round(share, 4),
    )


@dg.asset_check(asset=assets.character_registry)
def decisions_hold(settings: SettingsResource) -> dg.AssetCheckResult:
    """Every decision that a person made still applies to what the clustering finds."""
    registry = load_registry(settings.layout)
    lapsed = registry.decisions.filter(pl.col("status") == "lapsed").select("decision_id", "meaning", "reason")
    return judged(
        lapsed.is_empty(),
        expected="every decision in force applies",
        actual=f"{lapsed.height} of {registry.decisions.height} decisions do not apply any more",
        remedy="Look at the characters that they speak of (`yokai characters show`) and decide anew; "
        "`yokai characters undo` takes a lapsed one off the list.",
        severity=dg.AssetCheckSeverity.WARN,
        sample=lapsed,
        lapsed_count=lapsed.height,
    )


CHECKS = [clusters_are_usable, clusters_are_apart, characters_stay_themselves, decisions_hold]

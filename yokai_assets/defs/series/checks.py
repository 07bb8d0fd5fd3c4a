"""Checks of the clustering and of the registry."""

import dagster as dg
import polars as pl

from yokai_assets.clustering.judging import (
    IS_SCENERY,
    MERGED_HALVES_LINKAGE,
    SEVERAL_SHARE,
    SPLIT_RIVAL_LINKAGE,
    UNSTABLE_JACCARD,
)
from yokai_assets.defs.characters.inputs import load_registry
from yokai_assets.defs.checking import judged
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.defs.series import grouping, registry
from yokai_assets.registry import RegistryStore, changed_share

MAX_UNSTABLE_SHARE = 0.5
"""Share of members in groups that are not found again from which the whole clustering is luck."""


@dg.asset_check(asset=grouping.clusters, blocking=True)
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


@dg.asset_check(asset=grouping.group_quality)
def groups_are_apart(settings: SettingsResource, group_quality: pl.DataFrame) -> dg.AssetCheckResult:
    """Members are nearer to their own group than to any other."""
    limit = settings.load().clustering.max_stray_share
    strays = _members(group_quality, group_quality["stray_share"]) / max(1.0, _members(group_quality))
    worst = group_quality.sort("low_margin", nulls_last=True).select(
        "cluster_label", "size", "low_margin", "rival_label"
    )
    return judged(
        strays <= limit,
        expected=f"at most {limit:.0%} of the members nearer to another group's centre",
        actual=f"{strays:.1%} of the members",
        remedy="Look at `contact_sheet` and `map` of `group_quality`. Mixed rows mean that the embedding model does "
        "not tell these characters apart (try a larger one), or `clustering.min_samples` is too low.",
        severity=dg.AssetCheckSeverity.WARN,
        sample=worst,
        stray_share=round(strays, 4),
    )


@dg.asset_check(asset=grouping.group_quality)
def groups_are_one_character(group_quality: pl.DataFrame) -> dg.AssetCheckResult:
    """No group falls into halves as unlike as two characters."""
    return _suspects(
        group_quality,
        pl.col("halves_linkage") < MERGED_HALVES_LINKAGE,
        expected=f"halves of every group more alike than {MERGED_HALVES_LINKAGE} (0: two characters, 1: the same)",
        remedy="Look at `suspects`: where a row's halves are two characters, `yokai characters split ID --into 2`.",
    )


@dg.asset_check(asset=grouping.group_quality)
def groups_are_single_figures(group_quality: pl.DataFrame) -> dg.AssetCheckResult:
    """No group is made of cut-outs in which two figures touch, nor of scenery."""
    is_several = pl.col("several_share") >= SEVERAL_SHARE
    return _suspects(
        group_quality,
        is_several | IS_SCENERY,
        expected="groups of single figures that are mostly whole in the frame",
        remedy="Look at `contact_sheet`. Pairs, scenery and titles: `yokai characters dismiss ID` (scenery is not "
        "trained in any case; `accept` if it is a character). Big heads on thin necks look like pairs: leave them.",
    )


@dg.asset_check(asset=grouping.group_quality)
def characters_are_one_group(group_quality: pl.DataFrame) -> dg.AssetCheckResult:
    """No two groups are as like as parts of one character."""
    return _suspects(
        group_quality,
        pl.col("rival_linkage") >= SPLIT_RIVAL_LINKAGE,
        expected=f"every group less like its rival than {SPLIT_RIVAL_LINKAGE} (0: two characters, 1: the same)",
        remedy="Look at `suspects`: where both rows show one character, `yokai characters merge ID OTHER`.",
    )


@dg.asset_check(asset=grouping.group_quality, blocking=True)
def groups_are_found_again(group_quality: pl.DataFrame) -> dg.AssetCheckResult:
    """Clustering parts of the series gives the same groups: they are in the data, not in the luck of the draw."""
    judged_groups = group_quality.filter(pl.col("stability").is_not_null())
    unstable = judged_groups.filter(pl.col("stability") < UNSTABLE_JACCARD)
    share = _members(unstable) / max(1.0, _members(judged_groups))
    is_bad = share > MAX_UNSTABLE_SHARE
    return judged(
        unstable.is_empty(),
        expected=f"every group found again with a Jaccard index of at least {UNSTABLE_JACCARD}",
        actual=f"{unstable.height} of {judged_groups.height} groups are not, with {share:.0%} of the members",
        remedy="More episodes settle this best. Before: another embedding model, or a larger "
        f"`clustering.min_cluster_size`. Beyond {MAX_UNSTABLE_SHARE:.0%} of the members nothing is trained.",
        severity=dg.AssetCheckSeverity.ERROR if is_bad else dg.AssetCheckSeverity.WARN,
        sample=unstable.select("cluster_label", "size", "stability", "suspicion"),
        unstable_share=round(share, 4),
        mean_stability=float(judged_groups["stability"].mean() or 0.0),  # pyright: ignore[reportArgumentType]
    )


def _members(groups: pl.DataFrame, share: pl.Series | None = None) -> float:
    """Return how many members the groups have; of each group only a share, where one is given."""
    sizes = groups["size"].to_numpy()
    return float(sizes.sum() if share is None else (sizes * share.to_numpy()).sum())


def _suspects(groups: pl.DataFrame, is_suspect: pl.Expr, *, expected: str, remedy: str) -> dg.AssetCheckResult:
    found = groups.filter(is_suspect)
    return judged(
        found.is_empty(),
        expected=expected,
        actual=f"{found.height} of {groups.height} groups are suspect",
        remedy=remedy,
        severity=dg.AssetCheckSeverity.WARN,
        sample=found,
        suspect_count=found.height,
        suspect_member_share=round(_members(found) / max(1.0, _members(groups)), 4),
    )


@dg.asset_check(asset=registry.character_registry)
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


@dg.asset_check(asset=registry.character_registry)
def decisions_hold(settings: SettingsResource) -> dg.AssetCheckResult:
    """Every decision that a person made still applies to what the clustering finds."""
    decisions = load_registry(settings.layout).decisions
    lapsed = decisions.filter(pl.col("status") == "lapsed").select("decision_id", "meaning", "reason")
    return judged(
        lapsed.is_empty(),
        expected="every decision in force applies",
        actual=f"{lapsed.height} of {decisions.height} decisions do not apply any more",
        remedy="Look at the characters that they speak of (`yokai characters show`) and decide anew; "
        "`yokai characters undo` takes a lapsed one off the list.",
        severity=dg.AssetCheckSeverity.WARN,
        sample=lapsed,
        lapsed_count=lapsed.height,
    )


CHECKS = [
    clusters_are_usable,
    groups_are_apart,
    groups_are_one_character,
    groups_are_single_figures,
    characters_are_one_group,
    groups_are_found_again,
    characters_stay_themselves,
    decisions_hold,
]

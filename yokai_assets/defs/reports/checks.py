"""Checks of the series as a whole, when everything of it is there to be compared."""

import shlex

import dagster as dg
import polars as pl

from yokai_assets.defs.checking import judged
from yokai_assets.defs.reports import assets
from yokai_assets.defs.reports.closing import failures_over
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.gallery.failures import open_failures
from yokai_assets.registry import RegistryStore
from yokai_assets.storage.parquet import read_columns, table_files
from yokai_assets.tables import DATASET

MIN_SIZE_SHARE = 0.2
"""Training images of a character, as a share of the series' median, below which its LoRA is not to be compared with
the others: it sees each of its images five times as often."""


@dg.asset_check(asset=assets.catalog)
def datasets_are_balanced(settings: SettingsResource) -> dg.AssetCheckResult:
    """No character's training set is far smaller than what is usual in the series."""
    layout = settings.layout
    registry = RegistryStore(layout.registry).load()
    active = registry.characters.filter(state="active")["character_id"].to_list() if registry else []
    there = set(table_files(layout.tables / "training_dataset"))
    wanted = [character for character in active if character in there]
    columns = ["character_id", "split"]
    rows = read_columns(DATASET, layout.tables / "training_dataset", columns, wanted, skip_damaged=True)
    sizes = (
        pl.DataFrame({"character_id": wanted}, schema={"character_id": pl.String})
        .join(rows.filter(split="train").group_by("character_id").len("image_count"), on="character_id", how="left")
        .with_columns(pl.col("image_count").fill_null(0))
        .sort("image_count", "character_id")
    )
    usual = float(sizes.select(pl.col("image_count").median().fill_null(0.0)).item())
    small = sizes.filter(pl.col("image_count") < MIN_SIZE_SHARE * usual)
    return judged(
        small.is_empty(),
        expected=f"every set with at least {MIN_SIZE_SHARE:.0%} of the median's {usual:.0f} training images",
        actual=f"{small.height} of {sizes.height} sets are smaller",
        remedy="More episodes help most. Until then train them with fewer steps, or look into `rejected` of their "
        "`training_dataset` for what keeps images out.",
        severity=dg.AssetCheckSeverity.WARN,
        sample=small,
        smallest_image_count=int(sizes["image_count"][0]) if sizes.height else 0,
        median_image_count=usual,
    )


@dg.asset_check(asset=assets.gallery)
def nothing_is_left_failed(context: dg.AssetCheckExecutionContext, settings: SettingsResource) -> dg.AssetCheckResult:
    """No episode, character or step of the series is left failed or refused, whoever launched it."""
    is_over = failures_over(context.instance, settings.load())
    left = [failure for failure in open_failures(settings.layout, is_over) if not failure.is_too_small]
    rows = [{"partition": f.partition, "step": f.step, "at": f.at, "reason": f.reason} for f in left]
    command = shlex.join(["yokai", "run", *(["--config", settings.config_file] if settings.config_file else [])])
    schema = {"partition": pl.String, "step": pl.String, "at": pl.Datetime(time_zone="UTC"), "reason": pl.String}
    return judged(
        not left,
        expected="nothing left failed",
        actual=f"{len(left)} steps are left failed or refused",
        remedy=f"Mend what the reasons say; then `{command}` makes what is missing, or materialize the partition here.",
        severity=dg.AssetCheckSeverity.WARN,
        sample=pl.DataFrame(rows, schema=schema),
        failure_count=len(left),
    )


CHECKS = [datasets_are_balanced, nothing_is_left_failed]

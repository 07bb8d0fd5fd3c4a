"""The code location: every asset, check, job, sensor and schedule, built by one function that takes other parts.

Wiring only. Tests and the command line call `build_definitions` with their own resources and get the same graph.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from yokai_assets.defs.characters import assets as character_assets
from yokai_assets.defs.characters import checks as character_checks
from yokai_assets.defs.characters import dataset, dataset_checks, evaluation, models
from yokai_assets.defs.episodes import assets as episode_assets
from yokai_assets.defs.episodes import checks as episode_checks
from yokai_assets.defs.io import parquet_tables
from yokai_assets.defs.operations.jobs import JOBS, SCHEDULES
from yokai_assets.defs.operations.retention_job import retention_job, weekly_retention
from yokai_assets.defs.operations.sensors import SENSORS
from yokai_assets.defs.policies import with_policy
from yokai_assets.defs.reports import assets as report_assets
from yokai_assets.defs.reports import checks as report_checks
from yokai_assets.defs.reports import comparison
from yokai_assets.defs.resources import ProgressResource, SettingsResource
from yokai_assets.defs.series import assets as series_assets
from yokai_assets.defs.series import checks as series_checks
from yokai_assets.defs.series import grouping, registry


def build_definitions(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return fresh definitions.

    Args:
        resources: Replace the default ones by name: `settings`, `progress`, `io_manager`.
    """
    chosen = {"settings": SettingsResource(), "progress": ProgressResource(), **(resources or {})}
    chosen.setdefault("io_manager", parquet_tables)
    assets = [
        *episode_assets.ASSETS,
        *series_assets.ASSETS,
        *grouping.ASSETS,
        *registry.ASSETS,
        *registry.SOURCES,
        *character_assets.ASSETS,
        *dataset.ASSETS,
        *models.ASSETS,
        *evaluation.ASSETS,
        *report_assets.ASSETS,
        *comparison.ASSETS,
    ]
    return dg.Definitions(
        assets=list(dg.map_asset_specs(with_policy, assets)),
        asset_checks=[
            *episode_checks.CHECKS,
            *series_checks.CHECKS,
            *dataset_checks.CHECKS,
            *character_checks.CHECKS,
            *report_checks.CHECKS,
            *comparison.CHECKS,
        ],
        jobs=[*JOBS, retention_job],
        schedules=[*SCHEDULES, weekly_retention],
        sensors=SENSORS,
        resources=chosen,
        # Also for what is materialized in the UI without a job: its steps share the loaded models. With Dagster's
        # default, a process per step, the same small episode took 52 s instead of 22 (benchmark `partitions`).
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The code location that `workspace.yaml` and `pyproject.toml` name."""
    return build_definitions()

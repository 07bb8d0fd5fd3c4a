"""Runs on their way, whoever has launched them: which there are, and what they make. Reading only."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from yokai_assets.defs.operations.planning import UPSTREAM

_STATUSES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


WILL_RETRY_TAG, RETRY_TAG = "dagster/will_retry", "dagster/auto_retry_run_id"
RETRY_SECONDS = 180.0
"""A retry that Dagster has announced and not launched for so long does not come."""


def runs_ahead(instance: dg.DagsterInstance, tags: Mapping[str, str] | None = None) -> Sequence[dg.DagsterRun]:
    """Return the runs that wait or work, and those killed that Dagster is about to try again; all bear `tags`."""
    on_their_way = instance.get_runs(filters=dg.RunsFilter(statuses=_STATUSES, tags=tags))
    announced = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={**(tags or {}), WILL_RETRY_TAG: "true"},
        updated_after=datetime.now(UTC) - timedelta(seconds=RETRY_SECONDS),
    )
    return [*on_their_way, *(run for run in instance.get_runs(filters=announced) if RETRY_TAG not in run.tags)]


def assets_of(run: dg.DagsterRun) -> set[str]:
    """Return the assets that a run is to make: those chosen, else all of its job."""
    if run.asset_selection:
        return {key.to_user_string() for key in run.asset_selection}
    return set(UPSTREAM.get(run.job_name, ()))

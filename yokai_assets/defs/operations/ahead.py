"""Runs on their way, whoever has launched them: which there are, and what they make. Reading only."""

from collections.abc import Mapping, Sequence

import dagster as dg

from yokai_assets.defs.operations.planning import UPSTREAM

_STATUSES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def runs_ahead(instance: dg.DagsterInstance, tags: Mapping[str, str] | None = None) -> Sequence[dg.DagsterRun]:
    """Return the runs that wait or work, of those that bear `tags`."""
    return instance.get_runs(filters=dg.RunsFilter(statuses=_STATUSES, tags=tags))


def assets_of(run: dg.DagsterRun) -> set[str]:
    """Return the assets that a run is to make: those chosen, else all of its job."""
    if run.asset_selection:
        return {key.to_user_string() for key in run.asset_selection}
    return set(UPSTREAM.get(run.job_name, ()))

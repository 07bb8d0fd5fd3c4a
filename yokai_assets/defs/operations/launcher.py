"""The run launcher of `dagster.yaml`: Dagster's own, which besides says whether a run's process still lives.

With it, run monitoring marks runs of killed processes as failed whoever launched them, `run_retries` tries them again,
and their pool slots are freed. Only Dagster's daemon loads this.
"""

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

from yokai_assets.defs.operations.workers import is_worker_gone


class WatchedRunLauncher(dg.DefaultRunLauncher):
    """Looks at the process that executes a run."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring may ask."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Say that a worker failed where its process is known and gone."""
        if is_worker_gone(self._instance, run):
            return CheckRunHealthResult(WorkerStatus.FAILED, msg="the process that executed this run is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

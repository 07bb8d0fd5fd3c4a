"""Executing runs in the command's own process, one after the other, models loaded once: `--in-process`, the demo.

The same jobs, partitions, checks and records as through the queue, and the UI shows them; but no daemon is needed, and
a run costs about a second instead of a process of its own (`docs/performance.md`, overhead of a partition).
"""

import os
import time
from collections.abc import Callable, Iterator

import dagster as dg

from yokai_assets.defs.operations.failing import failures_of_run, log_failures
from yokai_assets.defs.operations.observing import Observer
from yokai_assets.defs.operations.planning import Work
from yokai_assets.defs.operations.report import Interrupted, RoadReport
from yokai_assets.defs.operations.space import SpaceKeeper
from yokai_assets.defs.operations.workers import PROCESS_TAG
from yokai_assets.storage.layout import Layout

_PAUSE_SECONDS = 2.0
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class InProcessRunner:
    """Executes work itself."""

    def __init__(
        self,
        definitions: dg.Definitions,
        instance: dg.DagsterInstance,
        layout: Layout,
        observer: Observer,
        *,
        space: SpaceKeeper,
        is_stop_asked: Callable[[], bool] = lambda: False,
    ) -> None:
        self._definitions, self._instance, self._layout = definitions, instance, layout
        self._observer, self._space, self._is_stop_asked = observer, space, is_stop_asked

    def run_all(self, plan: Callable[[], Iterator[Work]], work: list[Work], report: RoadReport) -> None:  # noqa: ARG002
        """Execute the work of a stage; `plan` is not asked again: it has just been.

        Raises:
            Interrupted: It is asked to stop.
        """
        for item in work:
            self._wait_for_room()
            if self._is_stop_asked():
                raise Interrupted
            self._run(item, report)
            self._space.after_run(item)

    def _wait_for_room(self) -> None:
        while not self._space.has_room() and not self._is_stop_asked():
            time.sleep(_PAUSE_SECONDS)

    def _run(self, work: Work, report: RoadReport) -> None:
        self._observer.run_started(work)
        start = time.perf_counter()
        result = self._definitions.resolve_job_def(work.job).execute_in_process(
            instance=self._instance,
            partition_key=work.partition,
            asset_selection=[dg.AssetKey(asset) for asset in work.assets],
            raise_on_error=False,
            run_config=_QUIET,
            tags={PROCESS_TAG: str(os.getpid())},
        )
        seconds = time.perf_counter() - start
        if _is_interrupted(result):
            raise Interrupted
        failures = failures_of_run(self._instance, result.run_id)
        log_failures(self._layout, failures)
        report.add(work, result.success, seconds, failures)
        self._observer.run_ended(work, result.success, seconds, failures)


def _is_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    """Say whether a signal ended a run: Dagster takes it for a failure of the step that it hit, and goes on."""
    ends = [event for event in result.all_events if event.event_type == dg.DagsterEventType.RUN_FAILURE]
    reasons = [event.job_failure_data.failure_reason for event in ends]
    return any(reason is not None and reason.value == "UNEXPECTED_TERMINATION" for reason in reasons)

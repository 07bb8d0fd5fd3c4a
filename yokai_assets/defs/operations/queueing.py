"""Executing runs through Dagster's queue: what `yokai run` does unless it is told otherwise.

Why so, and not in the command's own process: the runs are then those that the UI launches (same jobs, partitions,
configuration shown and editable, re-execution, cancelling, pools, limits, retries after crashes); several work at once
where pools allow; the command may die, the queue goes on; and what somebody does in the UI meanwhile counts. The price
is a process for each partition, about 20 s: nothing for an episode of thousands of frames, much for one of sixty. So
the demo, tests and small series have `in_process`.

Why single runs and not Dagster's backfills: a backfill fixes its partitions and assets at its start, so it could
neither leave out what the UI made since nor take only the stale assets of each partition, and its daemon looks only
every 30 s. Partitions of these runs are counted by the job's own partition page just as those of a backfill.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from yokai_assets.defs.operations.ahead import RETRY_SECONDS, RETRY_TAG, WILL_RETRY_TAG, assets_of, runs_ahead
from yokai_assets.defs.operations.daemons import Daemon
from yokai_assets.defs.operations.failing import asset_of_step, failures_of_run, log_failures
from yokai_assets.defs.operations.observing import Observer
from yokai_assets.defs.operations.planning import Work
from yokai_assets.defs.operations.report import Interrupted, RoadReport
from yokai_assets.defs.operations.space import SpaceKeeper
from yokai_assets.defs.operations.workers import release_dead_runs
from yokai_assets.defs.operations.workspace import Workspace
from yokai_assets.runs import StopMode
from yokai_assets.storage.layout import Layout

ROAD_TAG = "yokai/road"
WHY_TAG = "yokai/why"
PARTITION_TAG = "dagster/partition"

_POLL_SECONDS = 2.0
_LOOK_AFTER_SECONDS = 10.0
_CANCEL_SECONDS = 60.0
_PROGRESS = re.compile(r"^(\d+)/(\d+)\s*(.*)$")


@dataclass(slots=True)
class _Flight:
    """A run on its way; `is_foreign` if somebody else has launched it."""

    work: Work
    run_id: str
    is_foreign: bool = False
    is_started: bool = False
    started_seconds: float = field(default_factory=time.monotonic)
    ended_seconds: float | None = None
    cursor: str | None = None


class QueueRunner:
    """Launches work into the queue, a bounded number at once, and follows it to its end."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        workspace: Workspace,
        daemon: Daemon,
        layout: Layout,
        observer: Observer,
        *,
        road_id: str,
        run_config: Mapping[str, Any],
        in_flight_limit: int,
        space: SpaceKeeper,
        asked_to_stop: Callable[[], StopMode | None] = lambda: None,
    ) -> None:
        self._instance, self._workspace, self._daemon = instance, workspace, daemon
        self._layout, self._observer = layout, observer
        self._road_id, self._run_config, self._limit = road_id, run_config, in_flight_limit
        self._space, self._asked_to_stop = space, asked_to_stop
        self._looked_after_seconds = 0.0

    def run_all(self, plan: Callable[[], Iterator[Work]], work: list[Work], report: RoadReport) -> None:
        """Have the work of a stage executed and wait for its end.

        Raises:
            Interrupted: It is asked to stop; what ran was canceled or has ended, as asked.
            DaemonError: No daemon stays alive; queued runs wait for the next one.
        """
        queue = _Queue(plan, list(work))
        flights: list[_Flight] = []
        try:
            while queue.pending or flights:
                self._look_after()
                stop = self._asked_to_stop()
                if stop is StopMode.NOW:
                    raise KeyboardInterrupt
                if stop is StopMode.AFTER_RUNNING:
                    queue.pending.clear()
                    flights = self._drop_queued(flights)
                self._submit(queue, flights)
                flights = [flight for flight in flights if not self._is_over(flight, queue, report)]
                if flights or queue.pending:  # without flights where the disk is full
                    time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            self._cancel(flights)
            raise Interrupted from None
        if self._asked_to_stop():
            raise Interrupted

    def _look_after(self) -> None:
        """See to it that a daemon lives, and that no run waits for a process that is gone."""
        if time.monotonic() - self._looked_after_seconds < _LOOK_AFTER_SECONDS:
            return
        self._daemon.ensure()
        for run_id in release_dead_runs(self._instance):
            self._observer.notice(f"run {run_id[:8]}: its process was killed; Dagster tries it again")
        self._looked_after_seconds = time.monotonic()

    def _submit(self, queue: "_Queue", flights: list[_Flight]) -> None:
        if not queue.pending or len(flights) >= self._limit or not self._space.has_room():
            return
        if self._has_foreign_success_since(queue.planned_at):
            queue.plan_again()
        while queue.pending and len(flights) < self._limit:
            work = queue.pending.pop(0)
            foreign = self._foreign_run(work)
            if foreign:
                whose = "a killed run that Dagster tries again" if foreign.is_finished else "somebody else's run"
                self._observer.notice(f"{_name(work)}: {whose} makes it ({foreign.run_id[:8]}); waiting for that")
                flights.append(_Flight(work, foreign.run_id, is_foreign=True))
            else:
                flights.append(_Flight(work, self._launch(work)))

    def _launch(self, work: Work) -> str:
        tags = {ROAD_TAG: self._road_id, WHY_TAG: work.why}
        if work.partition:
            tags[PARTITION_TAG] = work.partition
        return self._workspace.launch(work.job, work.assets, tags, self._run_config)

    def _foreign_run(self, work: Work) -> dg.DagsterRun | None:
        """Return a run on its way, launched by others, that makes any of the work's assets."""
        tags = {PARTITION_TAG: work.partition} if work.partition else None
        for run in runs_ahead(self._instance, tags):
            if run.tags.get(ROAD_TAG) != self._road_id and assets_of(run) & set(work.assets):
                return run
        return None

    def _has_foreign_success_since(self, at: float) -> bool:
        from datetime import UTC, datetime

        since = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], updated_after=datetime.fromtimestamp(at, UTC))
        return any(run.tags.get(ROAD_TAG) != self._road_id for run in self._instance.get_runs(filters=since))

    def _is_over(self, flight: _Flight, queue: "_Queue", report: RoadReport) -> bool:
        run = self._instance.get_run_by_id(flight.run_id)
        if run is None:  # deleted in the UI
            queue.pending.append(flight.work)
            return True
        if not run.is_finished:
            self._follow(flight, run)
            return False
        if run.status == dg.DagsterRunStatus.FAILURE and self._is_tried_again(flight, run):
            return False
        if flight.is_foreign:
            queue.plan_again(also=flight.work)
            return True
        self._end(flight, run, report)
        return True

    def _is_tried_again(self, flight: _Flight, run: dg.DagsterRun) -> bool:
        """Say whether Dagster tries a run again whose process was killed; the flight goes on with the new run."""
        if run.tags.get(WILL_RETRY_TAG) != "true":
            return False
        again = run.tags.get(RETRY_TAG)
        if again:
            self._observer.notice(f"{_name(flight.work)}: run {run.run_id[:8]} was killed; tried again: {again[:8]}")
            if flight.is_started:
                self._observer.run_waits(flight.work)
            flight.run_id, flight.cursor, flight.ended_seconds, flight.is_started = again, None, None, False
            return True
        flight.ended_seconds = flight.ended_seconds or time.monotonic()
        return time.monotonic() - flight.ended_seconds < RETRY_SECONDS

    def _follow(self, flight: _Flight, run: dg.DagsterRun) -> None:
        if run.status != dg.DagsterRunStatus.STARTED:
            return
        if not flight.is_started:
            flight.is_started, flight.started_seconds = True, time.monotonic()
            self._observer.run_started(flight.work)
        news = self._instance.get_records_for_run(flight.run_id, cursor=flight.cursor, limit=500)
        flight.cursor = news.cursor
        for record in news.records:
            self._tell(record.event_log_entry, flight.work)

    def _tell(self, entry: dg.EventLogEntry, work: Work) -> None:
        if not entry.step_key:
            return
        name = asset_of_step(entry.step_key)[1] or entry.step_key
        if entry.dagster_event and entry.dagster_event.event_type == dg.DagsterEventType.STEP_START:
            self._observer.step(name, work.partition, 0, 0, "")
        elif not entry.dagster_event and (found := _PROGRESS.match(entry.user_message)):
            self._observer.step(name, work.partition, int(found[1]), int(found[2]), found[3])

    def _end(self, flight: _Flight, run: dg.DagsterRun, report: RoadReport) -> None:
        is_success = run.status == dg.DagsterRunStatus.SUCCESS
        failures = failures_of_run(self._instance, run.run_id)
        log_failures(self._layout, failures)
        if not flight.is_started:
            self._observer.run_started(flight.work)
        stats = self._instance.get_run_stats(run.run_id)
        seconds = (stats.end_time or 0) - (stats.start_time or stats.end_time or 0)
        report.add(flight.work, is_success, seconds, failures)
        self._observer.run_ended(flight.work, is_success, seconds, failures)
        self._space.after_run(flight.work)

    def _drop_queued(self, flights: list[_Flight]) -> list[_Flight]:
        """Take what has not begun out of the queue; what others have launched is theirs."""
        kept = []
        for flight in flights:
            run = self._instance.get_run_by_id(flight.run_id)
            if run and run.status == dg.DagsterRunStatus.QUEUED and not flight.is_foreign:
                self._workspace.terminate(run.run_id)
            elif not flight.is_foreign:
                kept.append(flight)
        return kept

    def _cancel(self, flights: list[_Flight]) -> None:
        """Interrupt the road's own runs and wait until they have ended: what they hold is written whole or not."""
        own = [flight for flight in flights if not flight.is_foreign]
        if own:
            self._observer.notice(f"stopping {len(own)} runs: finished parts stay, the rest is made by the next run")
        for flight in own:
            self._workspace.terminate(flight.run_id)
        until = time.monotonic() + _CANCEL_SECONDS
        while own and time.monotonic() < until:
            time.sleep(0.5)
            own = [f for f in own if (run := self._instance.get_run_by_id(f.run_id)) and not run.is_finished]


class _Queue:
    """What is still to be launched of a stage, planned anew where others have worked on it meanwhile."""

    def __init__(self, plan: Callable[[], Iterator[Work]], pending: list[Work]) -> None:
        self.pending = pending
        self.planned_at = time.time()
        self._plan = plan

    def plan_again(self, also: Work | None = None) -> None:
        """Keep of what is pending (and of `also`) what still is to be made."""
        wanted = {work.partition for work in self.pending} | ({also.partition} if also else set())
        self.planned_at = time.time()
        self.pending = [work for work in self._plan() if work.partition in wanted]


def _name(work: Work) -> str:
    return work.partition or work.job

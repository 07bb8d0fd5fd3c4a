"""Running the road from the command line: plan, register partitions, run partition by partition, tell what happened.

Runs are ordinary Dagster runs on the persistent instance; the UI shows them. They execute in this process, one
after the other, so models stay loaded between partitions. A failed partition is told and the others go on.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg
import psutil
from upath import UPath

from yokai_assets.defs.operations import jobs
from yokai_assets.defs.operations.planning import Planner, Work
from yokai_assets.defs.partitions import CHARACTERS, EPISODES, register
from yokai_assets.defs.policies import POLICIES
from yokai_assets.frames.episodes import SourceProblem, discover_episodes
from yokai_assets.gallery.failures import FailureRecord, append_failures
from yokai_assets.registry import RegistryStore
from yokai_assets.settings import Settings
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.leftovers import remove_leftovers
from yokai_assets.storage.parquet import table_files

PROCESS_TAG = "yokai/process"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(slots=True)
class RoadReport:
    """What a pass over the road did."""

    runs: list[tuple[Work, bool, float]] = field(default_factory=list)
    failures: list[FailureRecord] = field(default_factory=list)
    problems: list[SourceProblem] = field(default_factory=list)

    @property
    def has_worked(self) -> bool:
        """Whether anything was out of date."""
        return bool(self.runs)


class Observer:
    """Hears what happens; override what is of interest."""

    def stage(self, job: str, work: list[Work]) -> None:
        """A domain begins, with the work that it has."""

    def run_started(self, work: Work) -> None:
        """A run begins."""

    def run_ended(self, work: Work, is_success: bool, seconds: float, failures: list[FailureRecord]) -> None:
        """A run ended."""


class Road:
    """Drives the four jobs over what is missing or out of date."""

    def __init__(
        self,
        definitions: dg.Definitions,
        instance: dg.DagsterInstance,
        settings: Settings,
        observer: Observer | None = None,
    ) -> None:
        self._definitions = definitions
        self._instance = instance
        self._settings = settings
        self._layout = Layout.of(settings)
        self._planner = Planner(instance, settings)
        self._observer = observer or Observer()

    def drive(
        self, *, total_episodes: int | None = None, skip_episodes: bool = False, skip_series: bool = False
    ) -> RoadReport:
        """Make everything that is missing or out of date, from the episodes to the report.

        Args:
            total_episodes: Only the first so many episodes are made; what was made of others stays in the series.
            skip_episodes: Make nothing of episodes: what is there is what there is.
            skip_series: Leave clustering and registry as they are.
        """
        report = RoadReport()
        release_dead_runs(self._instance)
        remove_leftovers(self._layout.root)
        if not skip_episodes:
            self._drive_episodes(total_episodes, report)
        if not skip_series:
            self._run_all("series", self._planner.series, report)
        characters = self.trainable_characters()
        register(self._instance, CHARACTERS, characters)
        self._run_all("characters", lambda: self._planner.characters(characters), report)
        self._run_all("report", self._planner.report, report)
        return report

    def apply_decisions(self) -> RoadReport:
        """Make the registry anew from the clustering that is there, so that decisions show without a whole pass.

        Not from one that a blocking check has refused: that is a failure of this pass.
        """
        report = RoadReport()
        release_dead_runs(self._instance)
        work = Work(jobs.SERIES_JOB, None, ("character_registry",), {"character_registry": "decisions"})
        if self._planner.is_stopped(jobs.SERIES_JOB, "character_registry"):
            reason = "a blocking check refused the clustering (see its checks in the UI). Mend that, then `yokai run`."
            report.failures.append(_failure(work, "character_registry", reason, asset="character_registry"))
            return report
        self._run_all(jobs.SERIES_JOB, lambda: iter([work]), report)
        register(self._instance, CHARACTERS, self.trainable_characters())
        return report

    def _drive_episodes(self, total_episodes: int | None, report: RoadReport) -> None:
        episodes, report.problems = discover_episodes(UPath(self._settings.frames_source))
        report.problems = [*report.problems, *self._gone_episodes({episode.key for episode in episodes})]
        episodes = episodes[:total_episodes]
        register(self._instance, EPISODES, [episode.key for episode in episodes])
        self._run_all("episodes", lambda: self._planner.episodes(episodes), report)

    def plan(self, *, total_episodes: int | None = None) -> list[Work]:
        """Return what `drive` would begin with now; work of later domains shows once earlier ones are done."""
        episodes, _ = discover_episodes(UPath(self._settings.frames_source))
        return [
            *self._planner.episodes(episodes[:total_episodes]),
            *self._planner.series(),
            *self._planner.characters(self.trainable_characters()),
            *self._planner.report(),
        ]

    def trainable_characters(self) -> list[str]:
        """Return the characters to train, largest first, at most `max_characters`."""
        registry = RegistryStore(self._layout.registry).load()
        return registry.trainable_ids()[: self._settings.max_characters] if registry else []

    def _gone_episodes(self, present: set[str]) -> list[SourceProblem]:
        """Name episodes that were made but have left the frames source: they stay in the series until told to go."""
        made = table_files(self._layout.tables / "frames")
        remedy = (
            "What was made of it stays in the series. Put it back; or, to take it out, delete its files under "
            f"{self._layout.tables}."
        )
        return [
            SourceProblem(key, "the episode is not in the frames source any more", remedy)
            for key in sorted(made.keys() - present)
        ]

    def _run_all(self, job: str, plan: Callable[[], Iterator[Work]], report: RoadReport) -> None:
        work = list(plan())
        self._observer.stage(job, work)
        for item in work:
            self._run(item, report)

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
        failures = list(_failures(result, work))
        report.runs.append((work, result.success, seconds))
        report.failures += failures
        append_failures(self._layout, failures)
        self._observer.run_ended(work, result.success, seconds, failures)


def _failures(result: dg.ExecuteInProcessResult, work: Work) -> Iterator[FailureRecord]:
    stopped_by_check = False
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR:
            stopped_by_check = True
            asset = evaluation.asset_key.to_user_string()
            yield _failure(work, evaluation.check_name, evaluation.description or "", asset=asset, is_check=True)
    for event in result.all_events:
        if event.is_step_failure and event.step_key:
            error = event.step_failure_data.error
            cause = error.cause if error and error.cause else error
            if stopped_by_check and cause and "DagsterAssetCheckFailedError" in (cause.cls_name or ""):
                continue
            message = (cause.message if cause else "failed").strip().splitlines()
            step, asset = _step_of(event.step_key)
            yield _failure(work, step, " ".join(message)[:2000], asset=asset)


def _step_of(step_key: str) -> tuple[str, str | None]:
    """Return the asset that a step makes; or a check, whose step is named `<asset>_<check>`, and its asset."""
    if step_key not in POLICIES:
        for asset in sorted(POLICIES, key=len, reverse=True):
            if step_key.startswith(f"{asset}_"):
                return step_key.removeprefix(f"{asset}_"), asset
    return step_key, None


def _failure(work: Work, step: str, reason: str, *, asset: str | None = None, is_check: bool = False) -> FailureRecord:
    at = datetime.now(UTC)
    return FailureRecord(at=at, step=step, asset=asset, partition=work.partition, reason=reason, is_check=is_check)


def release_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs of processes that are gone as failed and free the pool slots they held. Returns their ids.

    A killed process leaves its run `STARTED` and its slot of a pool taken: with a limit of one, the next run would
    wait for ever.
    """
    released = []
    for run in instance.get_runs(
        filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED])
    ):
        process = run.tags.get(PROCESS_TAG)
        if process and not _is_alive(int(process)):
            instance.report_run_failed(run, message=f"The process {process} that executed this run is gone.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            released.append(run.run_id)
    return released


def _is_alive(process_id: int) -> bool:
    return psutil.pid_exists(process_id) and process_id != os.getpid()

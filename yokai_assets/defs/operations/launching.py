"""Driving the road: plan each domain, register its partitions, have the work executed, go on to the next.

Who executes is a `Runner`: Dagster's queue (`queueing`) or this process (`in_process`). A failed partition is told and
the others go on. What is told to whom is `observing`.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Protocol

import dagster as dg
from upath import UPath

from yokai_assets.defs.operations import jobs
from yokai_assets.defs.operations.observing import Observer
from yokai_assets.defs.operations.planning import Planner, Work
from yokai_assets.defs.operations.report import Interrupted, RoadReport
from yokai_assets.defs.operations.space import SpaceKeeper
from yokai_assets.defs.operations.workers import release_dead_runs
from yokai_assets.defs.partitions import CHARACTERS, EPISODES, register
from yokai_assets.defs.reports.closing import failures_over
from yokai_assets.frames.episodes import SourceProblem, discover_episodes
from yokai_assets.gallery.failures import FailureRecord, open_failures
from yokai_assets.registry import RegistryStore
from yokai_assets.settings import Settings
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.leftovers import remove_leftovers
from yokai_assets.storage.parquet import table_files


class Runner(Protocol):
    """Has the work of a stage executed and notes in the report how each run ended."""

    def run_all(self, plan: Callable[[], Iterator[Work]], work: list[Work], report: RoadReport) -> None:
        """Return when all of `work` has ended; raise `Interrupted` where it is asked to stop. `plan` plans it anew."""
        ...


class Road:
    """Drives the four jobs over what is missing or out of date."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        settings: Settings,
        runner: Runner,
        observer: Observer | None = None,
        space: SpaceKeeper | None = None,
    ) -> None:
        self._instance = instance
        self._runner = runner
        self._settings = settings
        self._layout = Layout.of(settings)
        self._planner = Planner(instance, settings)
        self._observer = observer or Observer()
        self._space = space or SpaceKeeper(instance, settings, self._observer)

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
        try:
            if not skip_episodes:
                self._drive_episodes(total_episodes, report)
            if not skip_series:
                self._run_all(jobs.SERIES_JOB, self._planner.series, report)
            characters = self.trainable_characters()
            register(self._instance, CHARACTERS, characters)
            self._run_all(
                jobs.CHARACTERS_JOB, lambda: self._planner.characters(characters), report, partitions=len(characters)
            )
            self._run_all(jobs.REPORT_JOB, self._planner.report, report)
            self._space.close()
        except Interrupted:
            report.is_interrupted = True
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
            report.failures.append(_refused(work, "character_registry", reason))
            return report
        self._run_all(jobs.SERIES_JOB, lambda: iter([work]), report)
        register(self._instance, CHARACTERS, self.trainable_characters())
        return report

    def _drive_episodes(self, total_episodes: int | None, report: RoadReport) -> None:
        episodes, report.problems = discover_episodes(UPath(self._settings.frames_source))
        report.problems = [*report.problems, *self._gone_episodes({episode.key for episode in episodes})]
        episodes = episodes[:total_episodes]
        register(self._instance, EPISODES, [episode.key for episode in episodes])
        self._run_all(jobs.EPISODES_JOB, lambda: self._planner.episodes(episodes), report, partitions=len(episodes))

    def plan(self, *, total_episodes: int | None = None) -> list[Work]:
        """Return what `drive` would begin with now; work of later domains shows once earlier ones are done."""
        episodes, _ = discover_episodes(UPath(self._settings.frames_source))
        return [
            *self._planner.episodes(episodes[:total_episodes]),
            *self._planner.series(),
            *self._planner.characters(self.trainable_characters()),
            *self._planner.report(),
        ]

    def left_failed(self) -> list[FailureRecord]:
        """Return what failed, in this pass or before, whoever launched it, and has not been mended since.

        Characters with too few images are left out: that is a fact.
        """
        found = open_failures(self._layout, failures_over(self._instance, self._settings))
        return [failure for failure in found if not failure.is_too_small]

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

    def _run_all(
        self, job: str, plan: Callable[[], Iterator[Work]], report: RoadReport, *, partitions: int = 1
    ) -> None:
        work = list(plan())
        self._observer.stage(job, work, partitions - len(work))
        self._space.foretell(job, work)
        self._runner.run_all(plan, work, report)


def _refused(work: Work, asset: str, reason: str) -> FailureRecord:
    return FailureRecord(at=datetime.now(UTC), step=asset, asset=asset, partition=work.partition, reason=reason)

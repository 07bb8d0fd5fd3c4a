"""Keeping the record of a run (`yokai_assets.runs`) while it is at work: what `yokai status` shows."""

import time
from threading import Lock

from yokai_assets.defs.operations.observing import Observer
from yokai_assets.defs.operations.planning import Work
from yokai_assets.gallery.failures import FailureRecord
from yokai_assets.runs import Failure, Running, RunRecord, RunRoom, Stage
from yokai_assets.runs.record import now

_SECONDS_BETWEEN_WRITES = 1.0
_KEPT_FAILURES = 200
_KEPT_NOTICES = 20


class Recorder(Observer):
    """Writes the record at each change, progress of steps at most once a second."""

    def __init__(self, room: RunRoom, record: RunRecord) -> None:
        self._room, self._record = room, record
        self._lock = Lock()
        self._written_seconds = 0.0
        self._write()

    def stage(self, job: str, work: list[Work], skipped: int = 0) -> None:
        """A stage begins; the one before has ended."""
        self._end_stage()
        self._record.stages.append(Stage(job=job, started_at=now(), to_do=len(work), skipped=max(0, skipped)))
        self._write()

    def run_started(self, work: Work) -> None:
        """A partition is at work."""
        self._stage.running.append(Running(partition=work.partition, since=now()))
        self._write()

    def run_waits(self, work: Work) -> None:
        """A partition is at work no longer."""
        self._leave(work)
        self._write()

    def step(self, asset: str, partition: str | None, done: int, total: int, note: str) -> None:
        """Note how far a partition is."""
        for running in self._stage.running:
            if running.partition == partition:
                running.step, running.note = asset, note
                running.done, running.total = (done, total) if total else (None, None)
        if time.monotonic() - self._written_seconds > _SECONDS_BETWEEN_WRITES:
            self._write()

    def run_ended(
        self,
        work: Work,
        is_success: bool,
        seconds: float,  # noqa: ARG002
        failures: list[FailureRecord],
    ) -> None:
        """Count how a partition ended."""
        stage = self._stage
        self._leave(work)
        if is_success:
            stage.done += 1
        elif failures and all(failure.is_check for failure in failures):
            stage.refused += 1
        else:
            stage.failed += 1
        self._record.failures += [
            Failure(partition=f.partition, step=f.step, reason=f.reason, is_check=f.is_check) for f in failures
        ]
        del self._record.failures[:-_KEPT_FAILURES]
        self._write()

    def notice(self, text: str) -> None:
        """Keep it."""
        self._record.notices.append(text)
        del self._record.notices[:-_KEPT_NOTICES]
        self._write()

    def end(self, exit_code: int) -> None:
        """Say that the run has ended, and how."""
        self._end_stage()
        self._record.ended_at, self._record.exit_code = now(), exit_code
        self._write()

    @property
    def _stage(self) -> Stage:
        return self._record.stages[-1]

    def _leave(self, work: Work) -> None:
        running = self._stage.running
        self._stage.running = [one for one in running if one.partition != work.partition]

    def _end_stage(self) -> None:
        if self._record.stages:
            self._stage.ended_at, self._stage.running = now(), []

    def _write(self) -> None:
        with self._lock:
            self._room.write(self._record)
            self._written_seconds = time.monotonic()

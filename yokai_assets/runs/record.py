"""How far a run is, as one small JSON file: written by the run, read by `yokai status`, scripts and dashboards."""

from datetime import UTC, datetime
from enum import StrEnum

import psutil
from pydantic import BaseModel, ConfigDict, Field


class StopMode(StrEnum):
    """How a run is asked to stop: `now` ends what runs; `after_running` lets it finish and begins nothing more."""

    NOW = "now"
    AFTER_RUNNING = "after_running"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Running(_Part):
    """A partition at work: what of it, and how far (`done` of `total` where the step says so)."""

    partition: str | None
    since: datetime
    step: str = ""
    done: int | None = None
    total: int | None = None
    note: str = ""


class Failure(_Part):
    """A partition that failed or was refused by a check, and why."""

    partition: str | None
    step: str
    reason: str
    is_check: bool = False


class Stage(_Part):
    """Partitions of one stage of the road.

    Attributes:
        job: Name of the job: episodes, series, characters, report.
        to_do: Partitions that had anything to be made.
        skipped: Partitions that had nothing to be made.
        done: ... of `to_do`, made.
        failed: ... not made.
        refused: ... made, and refused by a check (too few images, a LoRA that is no better than the base, ...).
        running: ... at work now.
    """

    job: str
    started_at: datetime
    ended_at: datetime | None = None
    to_do: int = 0
    skipped: int = 0
    done: int = 0
    failed: int = 0
    refused: int = 0
    running: list[Running] = Field(default_factory=list)

    @property
    def ended_count(self) -> int:
        """Partitions that are through, one way or the other."""
        return self.done + self.failed + self.refused

    @property
    def queued(self) -> int:
        """Partitions whose turn has not come."""
        return max(0, self.to_do - self.ended_count - len(self.running))

    def per_hour(self, now: datetime) -> float | None:
        """Partitions an hour since the stage began; None before the first is through."""
        seconds = ((self.ended_at or now) - self.started_at).total_seconds()
        return 3600 * self.ended_count / seconds if self.ended_count and seconds > 0 else None

    def seconds_left(self, now: datetime) -> float | None:
        """Seconds until the stage is through, if the rest takes as long as what is through."""
        rate = self.per_hour(now)
        return None if rate is None or self.ended_at else 3600 * (self.to_do - self.ended_count) / rate


class RunRecord(_Part):
    """A `yokai run` from its start to its end.

    Attributes:
        process_id: The process that leads the run, of `host`.
        process_started: Its start (seconds since the epoch): a number is given again, never with the same start.
        mode: `daemon`: runs go through Dagster's queue; `in_process`: one after the other in the run's own process.
        ended_at: None: it is at work, or was killed.
        exit_code: 0 all good, 1 some failed, 2 could not start or go on, 130 stopped.
    """

    process_id: int
    process_started: float
    host: str
    started_at: datetime
    command: str
    mode: str
    log: str
    series: str
    stages: list[Stage] = Field(default_factory=list)
    failures: list[Failure] = Field(default_factory=list)
    notices: list[str] = Field(default_factory=list)
    ended_at: datetime | None = None
    exit_code: int | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the very process that wrote this is there still (on this machine)."""
        try:
            return abs(psutil.Process(self.process_id).create_time() - self.process_started) < 1.0
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True

    @property
    def was_killed(self) -> bool:
        """Whether it ended without saying so."""
        return self.ended_at is None and not self.is_alive

    def in_words(self) -> str:
        """Say which run this is: process, since when, what command."""
        since = self.started_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        return f"process {self.process_id} since {since}: {self.command}"


def now() -> datetime:
    """Return the time, with its zone."""
    return datetime.now(UTC)

"""Who hears what happens on the road: the terminal, the log, the record that `yokai status` reads."""

from collections.abc import Sequence

from yokai_assets.defs.operations.planning import Work
from yokai_assets.gallery.failures import FailureRecord


class Observer:
    """Hears what happens; override what is of interest."""

    def stage(self, job: str, work: list[Work], skipped: int = 0) -> None:
        """A domain begins, with the work that it has; so many partitions had nothing to be made."""

    def run_started(self, work: Work) -> None:
        """A run begins."""

    def run_waits(self, work: Work) -> None:
        """A run that had begun waits for its turn again: its process was killed."""

    def step(self, asset: str, partition: str | None, done: int, total: int, note: str) -> None:
        """A step says how far it is."""

    def run_ended(self, work: Work, is_success: bool, seconds: float, failures: list[FailureRecord]) -> None:
        """A run ended."""

    def notice(self, text: str) -> None:
        """Something that a person should know: a daemon was started, a run was killed and is tried again."""


class Observers(Observer):
    """Tells several."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def stage(self, job: str, work: list[Work], skipped: int = 0) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.stage(job, work, skipped)

    def run_started(self, work: Work) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.run_started(work)

    def run_waits(self, work: Work) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.run_waits(work)

    def step(self, asset: str, partition: str | None, done: int, total: int, note: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.step(asset, partition, done, total, note)

    def run_ended(self, work: Work, is_success: bool, seconds: float, failures: list[FailureRecord]) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.run_ended(work, is_success, seconds, failures)

    def notice(self, text: str) -> None:
        """Tell all."""
        for observer in self._observers:
            observer.notice(text)

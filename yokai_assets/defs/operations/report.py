"""What a pass over the road did, and what ends one early."""

from dataclasses import dataclass, field

from yokai_assets.defs.operations.planning import Work
from yokai_assets.frames.episodes import SourceProblem
from yokai_assets.gallery.failures import FailureRecord


class Interrupted(Exception):  # noqa: N818 - it is asked for, no error
    """The road is asked to stop: what is made stays, the rest is planned again by the next pass."""


@dataclass(slots=True)
class RoadReport:
    """Runs of a pass with their success and seconds, what failed in them, and what could not be read at all."""

    runs: list[tuple[Work, bool, float]] = field(default_factory=list)
    failures: list[FailureRecord] = field(default_factory=list)
    problems: list[SourceProblem] = field(default_factory=list)
    is_interrupted: bool = False

    @property
    def has_worked(self) -> bool:
        """Whether anything was out of date."""
        return bool(self.runs)

    def add(self, work: Work, is_success: bool, seconds: float, failures: list[FailureRecord]) -> None:
        """Note how a run ended."""
        self.runs.append((work, is_success, seconds))
        self.failures += failures

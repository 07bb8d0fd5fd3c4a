"""Removing what a plan names: noted first, then removed, so that a kill between leaves nothing wrongly missing.

What has been removed when a kill comes stays removed and noted; the next plan names the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from upath import UPath

from yokai_assets.progress import Progress, silent
from yokai_assets.retention.checkpoints import STAGE
from yokai_assets.retention.ledger import Removed, note_removal
from yokai_assets.retention.planning import RetentionPlan
from yokai_assets.retention.removal import Removal
from yokai_assets.storage.layout import Layout
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.record import TrainingRecordError, forget_checkpoints


@dataclass(frozen=True, slots=True)
class RetentionResult:
    """What was removed.

    Attributes:
        done: Removals, with the files and bytes that really went.
        problems: What could not be removed, and why.
    """

    done: tuple[Removal, ...]
    problems: tuple[str, ...]

    @property
    def freed_bytes(self) -> int:
        """Bytes that were freed."""
        return sum(removal.size_bytes for removal in self.done)


def apply_retention(
    plan: RetentionPlan, layout: Layout, *, at: datetime | None = None, progress: Progress = silent
) -> RetentionResult:
    """Remove what a plan names. A file that cannot be removed is a problem; the rest goes on.

    Args:
        plan: From `plan_retention`, just made: what it names must not have become needed since.
        layout: Where things lie.
        at: Time that is noted; unset: now.
        progress: Told after each removal.
    """
    at = at or datetime.now(UTC)
    done: list[Removal] = []
    problems: list[str] = []
    for number, removal in enumerate(plan.removals, start=1):
        try:
            _note(removal, layout, at)
        except (OSError, TrainingRecordError) as error:
            problems.append(f"{removal.partition}: nothing removed, because it cannot be noted ({error})")
            continue
        done.append(_remove(removal, problems.append))
        progress(number, len(plan.removals), removal.partition)
    return RetentionResult(tuple(done), tuple(problems))


def _note(removal: Removal, layout: Layout, at: datetime) -> None:
    if removal.kind is not None:
        removed = Removed(at=at, file_count=len(removal.paths), size_bytes=removal.size_bytes, policy=removal.policy)
        note_removal(layout, removal.partition, removal.kind, removed)
    elif removal.stage == STAGE:
        names = {path.name for path in removal.paths}
        forget_checkpoints(TrainingFiles.of_character(layout, removal.partition), names)


def _remove(removal: Removal, tell: Callable[[str], None]) -> Removal:
    gone: list[UPath] = []
    freed_bytes = 0
    for path in removal.paths:
        try:
            size_bytes = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            tell(f"{path}: cannot be removed ({error}). Mend its permissions, or remove it by hand.")
            continue
        gone.append(path)
        freed_bytes += size_bytes
    return Removal(
        removal.stage, removal.partition, tuple(gone), freed_bytes, removal.why, removal.policy, removal.kind
    )

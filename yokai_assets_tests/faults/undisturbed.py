"""A town whose road was driven once without a fault: what faults are held against."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from yokai_assets.defs.policies import DUCKDB_POOL, GPU_POOL
from yokai_assets_tests.faults.road import Attempt, Journal, undisturbed
from yokai_assets_tests.town import Town


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """A town, its data root as it was made without a fault, put aside (`reference`), and how that went."""

    town: Town
    reference: Path
    journal: Journal
    attempt: Attempt

    @property
    def root(self) -> Path:
        """The data root, where faults happen."""
        return self.town.folder / "data"

    def clear(self) -> Path:
        """Make the data root empty."""
        shutil.rmtree(self.root, ignore_errors=True)
        return self.root

    def restore(self) -> Path:
        """Make the data root what it was without a fault, with the times of its files."""
        self.clear()
        shutil.copytree(self.reference, self.root)
        return self.root


def drive_undisturbed(town: Town) -> Undisturbed:
    """Drive the road to its end and put what it made aside: paths that files hold are those of the faulty road too."""
    journal = town.folder / "journal.json"
    attempt = undisturbed(town, journal)
    assert not attempt.failures and not attempt.planned, attempt
    reference = town.folder / "reference"
    (town.folder / "data").rename(reference)
    return Undisturbed(town, reference, Journal.read(journal), attempt)


def left_running(town: Town) -> list[str]:
    """Return runs that count as at work, and pools with a slot taken or waited for."""
    over = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}
    with town.instance() as instance:
        found = [f"{run.job_name} {run.status}" for run in instance.get_runs() if run.status not in over]
        for pool in (GPU_POOL, DUCKDB_POOL):
            info = instance.event_log_storage.get_concurrency_info(pool)
            found += [f"{pool}: {info}"] if info.active_slot_count or info.pending_step_count else []
    return found

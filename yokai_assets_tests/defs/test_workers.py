"""Letting go of what killed processes held, and what becomes of their runs."""

import dagster as dg

from yokai_assets.defs.operations.ahead import RETRY_TAG, WILL_RETRY_TAG, runs_ahead
from yokai_assets.defs.operations.workers import PROCESS_TAG, release_dead_runs
from yokai_assets.defs.policies import GPU_POOL

NOBODY = str(2**22 + 7)
"""A process id that no process has."""


def test_slots_of_killed_and_of_ended_runs_are_free_again(instance: dg.DagsterInstance) -> None:
    """Killed while it worked, or while the next one let go of it: with a limit of one the rest would wait for ever."""
    storage = instance.event_log_storage
    storage.set_concurrency_slots(GPU_POOL, 2)
    statuses = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE)
    for status in statuses:
        run = instance.create_run_for_job(nothing, tags={PROCESS_TAG: NOBODY}, status=status)
        storage.claim_concurrency_slot(GPU_POOL, run.run_id, "step")
    assert storage.get_concurrency_info(GPU_POOL).active_slot_count == 2
    assert len(release_dead_runs(instance)) == 1
    assert storage.get_concurrency_info(GPU_POOL).active_slot_count == 0
    assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.FAILURE}


def test_a_killed_run_that_will_be_tried_again_is_on_its_way(instance: dg.DagsterInstance) -> None:
    """After a power cut the next start must not launch beside Dagster's own retry: both would train the character."""
    failed = dg.DagsterRunStatus.FAILURE
    instance.create_run_for_job(nothing, status=failed, tags={"yokai/x": "1"})
    coming = instance.create_run_for_job(nothing, status=failed, tags={"yokai/x": "1", WILL_RETRY_TAG: "true"})
    assert [run.run_id for run in runs_ahead(instance, {"yokai/x": "1"})] == [coming.run_id]
    assert not runs_ahead(instance, {"yokai/x": "2"})
    instance.add_run_tags(coming.run_id, {RETRY_TAG: "the new one"})
    assert not runs_ahead(instance)


@dg.job
def nothing() -> None:
    """A job without steps."""

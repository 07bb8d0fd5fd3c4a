"""Why a run failed is told where no step could say it: whoever noticed, once for a partition, with what to do."""

import dagster as dg
import pytest

from yokai_assets.defs.operations.failing import failures_of_run

SIGNAL = "Run execution process for 1e47 was terminated by signal 9 (SIGKILL)."


@dg.job
def episodes() -> None:
    """A job without steps, named as that of the episodes."""


@pytest.mark.parametrize(
    ("noticed", "said", "reason"),
    [
        # Dagster's code server tells it in an event of its own, and marks the run without a reason.
        (f"[DagsterApiServer] {SIGNAL}", None, SIGNAL),
        ("Executing steps in process (pid: 7)", "The process 7 is gone.", "The process 7 is gone."),
    ],
)
def test_a_killed_worker_is_named_as_such(
    instance: dg.DagsterInstance, noticed: str, said: str | None, reason: str
) -> None:
    """`marked as failed from outside the execution context` tells nobody that the machine ran out of memory."""
    run = instance.create_run_for_job(episodes, tags={"dagster/partition": "e01"}, status=dg.DagsterRunStatus.STARTED)
    instance.report_engine_event(noticed, run)
    instance.report_run_failed(run, message=said)
    (failure,) = failures_of_run(instance, run.run_id)
    assert (failure.step, failure.partition) == ("frames", "e01")
    assert failure.reason == f"{reason} `yokai run` goes on from there."

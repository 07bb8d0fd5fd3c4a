"""Processes that execute runs: finding them, and letting go of runs whose process is gone.

A killed process leaves its run `STARTED` and its slot of a pool taken: with a limit of one, the next run would wait
for ever. Dagster's own launcher sees a worker die only while the code server that started it lives; this looks at the
process itself, so it also works after a reboot or when daemon and code server were killed too.
"""

import os
import re
import socket

import dagster as dg
import psutil

PROCESS_TAG = "yokai/process"
HOST_TAG = "yokai/host"
"""Of runs that several machines may execute: only that machine can say whether the process lives."""

_PID = re.compile(r"\bpid: (\d+)\b")
_OPEN = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.NOT_STARTED]


def process_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, float] | None:
    """Return the process that executes a run and the time (s since the epoch) at which it said so; None: none has."""
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        if event and event.message and "steps" in event.message and (found := _PID.search(event.message)):
            return int(found[1]), entry.timestamp
    tagged = run.tags.get(PROCESS_TAG)
    return (int(tagged), float("inf")) if tagged else None


def is_worker_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Say whether the process of a run is known and gone. False where it cannot be known: another machine's."""
    if run.tags.get(HOST_TAG, socket.gethostname()) != socket.gethostname():
        return False
    found = process_of(instance, run)
    return found is not None and not _lives(*found)


def release_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs of processes that are gone as failed and free the pool slots that they held. Returns their ids.

    Also frees slots of runs that have ended: one that was killed while it did the same may have left them.
    """
    released = []
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=_OPEN)):
        if is_worker_gone(instance, run):
            process, _ = process_of(instance, run) or (0, 0.0)
            instance.report_run_failed(run, message=f"The process {process} that executed this run is gone.")
            released.append(run.run_id)
    storage = instance.event_log_storage
    for run_id in storage.get_concurrency_run_ids() if storage.supports_global_concurrency_limits else ():
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
    return released


def _lives(process_id: int, said_at: float) -> bool:
    """Say whether a process lives; one that began after it spoke only bears the same number."""
    if process_id == os.getpid():
        return False  # who asks executes nothing at that moment: the number was given again
    try:
        process = psutil.Process(process_id)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= said_at + 1
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True

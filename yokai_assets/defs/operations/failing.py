"""Why a run failed, read from its events, and the one log of failures. For runs of every origin: command, UI, sensors.

Two may write of one run (the command that follows it and the failure sensor): a record bears the time of its event,
so what is there already is known.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg

from yokai_assets.defs.operations.ahead import assets_of
from yokai_assets.defs.policies import POLICIES
from yokai_assets.gallery.failures import FailureRecord, append_failures, failures_file
from yokai_assets.storage.layout import Layout

_TOLD = {
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.ENGINE_EVENT,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELED,
}
_MAX_REASON = 2000
_MARKED = "This run has been marked as failed from outside"
"""Dagster's words where its code server has seen a process die."""


def failures_of_run(instance: dg.DagsterInstance, run_id: str) -> list[FailureRecord]:
    """Return what failed in a run: steps, checks that failed as errors, or the run itself where no step says why."""
    run = instance.get_run_by_id(run_id)
    entries = instance.all_logs(run_id, of_type=_TOLD)
    partition = run.tags.get("dagster/partition") if run else None
    found = list(_of_steps(entries, partition))
    if not found and run and run.status != dg.DagsterRunStatus.SUCCESS:
        wanted = [asset for asset in POLICIES if asset in assets_of(run)]
        found = list(_of_whole_run(entries, partition, wanted[0] if wanted else "run"))
    return found


def _of_steps(entries: Sequence[dg.EventLogEntry], partition: str | None) -> Iterator[FailureRecord]:
    is_stopped_by_check = False
    for entry in entries:
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            said = event.asset_check_evaluation_data
            if not said.passed and said.severity == dg.AssetCheckSeverity.ERROR:
                is_stopped_by_check = True
                asset = said.asset_key.to_user_string()
                yield _record(entry, said.check_name, said.description or "", partition, asset=asset, is_check=True)
        elif event.is_step_failure and event.step_key:
            error = event.step_failure_data.error
            cause = error.cause if error and error.cause else error
            if is_stopped_by_check and cause and "DagsterAssetCheckFailedError" in (cause.cls_name or ""):
                continue
            step, asset = asset_of_step(event.step_key)
            yield _record(entry, step, cause.message if cause else "failed", partition, asset=asset)


def _of_whole_run(entries: Sequence[dg.EventLogEntry], partition: str | None, first: str) -> Iterator[FailureRecord]:
    """Yield why a run ended without a step that says so: its process was killed, or it was stopped.

    Named is the step that was at work; before any, the first asset that was to be made.
    """
    open_steps: list[str] = []
    noticed = ""
    for entry in entries:
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.STEP_START and event.step_key:
            open_steps.append(event.step_key)
        elif event.event_type == dg.DagsterEventType.STEP_SUCCESS and event.step_key in open_steps:
            open_steps.remove(event.step_key)
        elif event.event_type == dg.DagsterEventType.ENGINE_EVENT:
            noticed = event.message or noticed
        elif event.event_type in (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED):
            step, asset = asset_of_step(open_steps[-1]) if open_steps else (first, None)
            if event.event_type == dg.DagsterEventType.RUN_CANCELED:
                reason = "was stopped; `yokai run` goes on from there"
            else:
                reason = f"{_end_of_process(event.message or '', noticed)} `yokai run` goes on from there."
            yield _record(entry, step, reason, partition, asset=asset)
            return


def _end_of_process(message: str, noticed: str) -> str:
    """Return how a process ended: what noticed it says it in an event of its own before the run is marked as failed."""
    said = noticed.removeprefix("[DagsterApiServer] ") if not message or message.startswith(_MARKED) else message
    return said.strip() or "The run failed."


def asset_of_step(step_key: str) -> tuple[str, str | None]:
    """Return the asset that a step makes; or a check, whose step is named `<asset>_<check>`, and its asset."""
    if step_key not in POLICIES:
        for asset in sorted(POLICIES, key=len, reverse=True):
            if step_key.startswith(f"{asset}_"):
                return step_key.removeprefix(f"{asset}_"), asset
    return step_key, None


def log_failures(layout: Layout, failures: list[FailureRecord]) -> list[FailureRecord]:
    """Add failures to `failures.jsonl`, those that are not there yet. Returns them."""
    path = failures_file(layout)
    there = set(path.read_text(encoding="utf-8").splitlines()) if failures and path.exists() else set()
    new = [failure for failure in failures if failure.model_dump_json() not in there]
    append_failures(layout, new)
    return new


def _record(
    entry: dg.EventLogEntry, step: str, reason: str, partition: str | None, *, asset: str | None, is_check: bool = False
) -> FailureRecord:
    at = datetime.fromtimestamp(entry.timestamp, UTC)
    words = " ".join(reason.strip().splitlines())[:_MAX_REASON]
    return FailureRecord(at=at, step=step, asset=asset, partition=partition, reason=words, is_check=is_check)

"""Progress of steps: into the run's log at a sane rate wherever the step runs, to a listener where one listens."""

import time

import dagster as dg
import pytest

from yokai_assets.defs.resources import ProgressResource, progress_heard_by


@dg.asset
def slow(context: dg.AssetExecutionContext, progress: ProgressResource) -> None:
    """Reports 2,000 times within half a second, as a stage does that counts frames."""
    report = progress.of(context)
    started = time.monotonic()
    for done in range(1, 2001):
        report(done, 2000, "frames")
        time.sleep(max(0.0, started + 0.5 * done / 2000 - time.monotonic()))


def logged(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [e.user_message for e in instance.all_logs(run_id) if e.user_message and "/2000" in e.user_message]


@pytest.mark.parametrize("every_seconds", [0.1, 60.0])
def test_without_a_listener_progress_is_in_the_log_of_the_run(instance, every_seconds) -> None:
    """A backfill from the UI runs in processes where nobody listens: the log shows that it goes on, not every frame."""
    progress = ProgressResource(log_every_seconds=every_seconds)
    result = dg.materialize([slow], instance=instance, resources={"progress": progress})
    lines = logged(instance, result.run_id)
    if every_seconds < 1:
        assert 2 <= len(lines) <= 6 and all(line.endswith("frames") for line in lines)
    else:
        assert lines == []


def test_a_listener_hears_everything_and_the_log_stays_the_same(instance) -> None:
    """A bar in the terminal must not take the progress away from the UI."""
    heard: list[tuple] = []
    progress = ProgressResource(log_every_seconds=0.1)
    with progress_heard_by(lambda *args: heard.append(args)):
        result = dg.materialize([slow], instance=instance, resources={"progress": progress})
    assert len(heard) == 2000 and heard[-1] == ("slow", None, 2000, 2000, "frames")
    assert 2 <= len(logged(instance, result.run_id)) <= 6
    dg.materialize([slow], instance=instance, resources={"progress": progress})
    assert len(heard) == 2000, "it hears of what runs meanwhile only"

"""`yokai run` as a user starts it: a real command, a real daemon, the queue, and a worker that is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from filelock import FileLock

from yokai_assets.defs.operations.daemons import find_daemon
from yokai_assets.defs.operations.queueing import ROAD_TAG
from yokai_assets.defs.operations.session import instance_home
from yokai_assets.defs.operations.workers import process_of
from yokai_assets.runs import RunRoom, holding
from yokai_assets.settings import load_settings
from yokai_assets.storage.layout import Layout

YOKAI = [sys.executable, "-m", "yokai_assets.cli.main"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings of an empty series: only the report is to be made, in seconds."""
    (tmp_path / "frames").mkdir()
    file = tmp_path / "yokai.toml"
    file.write_text('profile = "demo"\ndevice = "cpu"\nframes_source = "frames"\ndata_root = "data"\n')
    return file


def yokai(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command without a terminal."""
    command = [*YOKAI, words[0], "--config", str(config), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL)


def report_only(*more: str) -> list[str]:
    return ["run", "--skip-segmentation", "--skip-clustering", *more]


def until(found: Callable[[], object], seconds: float = 120) -> object:
    """Wait for something, bounded."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")


def test_a_second_run_on_the_root_could_not_start(config):
    """Two runs would make everything twice and take each other's folders away."""
    with holding(RunRoom.of(load_settings(config))):
        answer = yokai(config, *report_only())
    assert answer.returncode == 2 and "at work on this data root already" in answer.stderr


def test_nothing_to_watch_or_stop_is_said(config):
    """Asking when nothing runs is no error."""
    assert "Nothing is at work here" in yokai(config, "stop").stdout
    assert yokai(config, "logs").returncode == 1


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_the_queue_executes_and_a_killed_worker_is_made_up_for(config):
    """Started where no daemon is; its worker dies by SIGKILL; the run is tried again, and nothing is left behind."""
    settings = load_settings(config)
    home, database = instance_home(settings), Layout.of(settings).database
    database.parent.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(str(database.with_name(f".{database.name}.lock"))),  # `catalog` waits for it: the worker is there
        dg.DagsterInstance.from_config(str(home)) as instance,
    ):
        started = yokai(config, *report_only("--detach"))
        assert started.returncode == 0, started.stdout + started.stderr
        is_started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])

        def worker() -> int | None:
            found = [process_of(instance, run) for run in instance.get_runs(filters=is_started)]
            return found[0][0] if found and found[0] else None

        os.kill(int(str(until(worker, seconds=240))), signal.SIGKILL)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        room = RunRoom.of(settings)
        until(lambda: (record := room.record()) and record.ended_at, seconds=240)
        runs = instance.get_runs()
    record = room.record()
    assert record is not None and record.exit_code == 0, room.log.read_text()
    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    assert {run.job_name for run in runs} == {"report"} and all(ROAD_TAG in run.tags for run in runs)
    assert record.stages[-1].done == 1 and not record.stages[-1].running
    until(lambda: find_daemon(home) is None, seconds=60)


def test_an_instance_that_cannot_be_opened_is_named(config):
    """A broken `dagster.yaml`, or a database that is down, is one message with the file, no traceback."""
    home = instance_home(load_settings(config))
    (home / "dagster.yaml").write_text("run_storage: { module: nowhere, class: Nothing, config: {} }\n")
    answer = yokai(config, *report_only())
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    assert str(home / "dagster.yaml") in answer.stderr and "cannot be opened" in answer.stderr

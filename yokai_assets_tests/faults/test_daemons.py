"""Daemon, webserver, everything killed by SIGKILL while the queue works: it goes on, and no slot stays taken.

On an empty series, whose report alone is made: what is tested is who makes it, not what it shows. A step is held at
work by holding the lock that a publication of `yokai.duckdb` waits for, with its slot of the pool taken. Each takes a
minute: `make test` has the killed worker of `cli/test_run` instead.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import dagster as dg
import psutil
import pytest
from filelock import FileLock

from yokai_assets.defs.operations.daemons import find_daemon
from yokai_assets.defs.operations.session import instance_home
from yokai_assets.defs.policies import DUCKDB_POOL, GPU_POOL
from yokai_assets.runs import RunRoom
from yokai_assets.settings import load_settings
from yokai_assets.storage.layout import Layout

pytestmark = [pytest.mark.faults, pytest.mark.end_to_end, pytest.mark.timeout(900)]

YOKAI = [sys.executable, "-m", "yokai_assets.cli.main"]
MARK = "YOKAI_FAULT_TEST"
LEFT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class Machine:
    """A data root with an empty series, and every process that is started on it: they bear a mark."""

    def __init__(self, folder: Path) -> None:
        (folder / "frames").mkdir()
        self.config = folder / "yokai.toml"
        self.config.write_text('profile = "demo"\ndevice = "cpu"\nframes_source = "frames"\ndata_root = "data"\n')
        self.settings = load_settings(self.config)
        self.home = instance_home(self.settings)
        self.room = RunRoom.of(self.settings)
        self._environment = {**os.environ, MARK: uuid4().hex}
        database = Layout.of(self.settings).database
        database.parent.mkdir(parents=True, exist_ok=True)
        self.publishing = FileLock(str(database.with_name(f".{database.name}.lock")))

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a `yokai` command."""
        command = [*YOKAI, words[0], "--config", str(self.config), *words[1:]]
        null = subprocess.DEVNULL
        return subprocess.Popen(command, env=self._environment, stdin=null, stdout=null, stderr=null)

    def run(self) -> subprocess.Popen[bytes]:
        """Start `yokai run`."""
        return self.start("run", "--skip-segmentation", "--skip-clustering")

    def processes(self) -> list[psutil.Process]:
        """Return what is alive of all that was started."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._environment[MARK]:
                    found.append(process)
            except psutil.Error:
                continue
        return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]

    def end_all(self) -> int:
        """Kill everything at once, as a power cut does; returns how many processes that were."""
        killed = 0
        while processes := self.processes():
            for process in processes:
                process.kill()
            killed += len(processes)
            psutil.wait_procs(processes, timeout=10)
        return killed

    def until_catalog_works(self) -> None:
        """Wait until the step of `catalog` has begun: it holds its slot and waits for the lock."""

        def has_begun() -> bool:
            with dg.DagsterInstance.from_config(str(self.home)) as instance:
                info = instance.event_log_storage.get_concurrency_info(DUCKDB_POOL)
            return info.active_slot_count > 0

        self.until(has_begun)

    def until(self, found: Callable[[], object], seconds: float = 240) -> None:
        """Wait for something, bounded."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found():
                return
            time.sleep(0.3)
        log = self.room.log.read_text() if self.room.log.exists() else "no log"
        raise AssertionError(f"not within {seconds} s; the log:\n{log}")

    def assert_all_is_made(self) -> None:
        """The report is there, every run has ended, no slot is taken, no file unfinished."""
        layout = Layout.of(self.settings)
        assert (layout.gallery / "index.html").exists()
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            left = instance.get_runs(filters=dg.RunsFilter(statuses=LEFT))
            assert not left, [(run.job_name, run.status) for run in left]
            assert instance.get_runs(limit=1)[0].status == dg.DagsterRunStatus.SUCCESS
            for pool in (DUCKDB_POOL, GPU_POOL):
                info = instance.event_log_storage.get_concurrency_info(pool)
                assert not info.active_slot_count and not info.pending_step_count, pool
        root = Path(str(layout.root))
        assert not [path for path in root.rglob("*") if ".partial-" in path.name and "dagster" not in path.parts]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.end_all()


def test_after_a_power_cut_the_queue_goes_on(machine: Machine) -> None:
    """Command, daemon, code server, worker gone at once, a slot taken: the next start makes what is missing, once."""
    with machine.publishing.acquire():
        machine.run()
        machine.until_catalog_works()
        killed = machine.end_all()
    start = time.monotonic()
    assert machine.run().wait(400) == 0, machine.room.log.read_text()
    print(f"power cut: {killed} processes killed; made {time.monotonic() - start:.0f} s after the next start")
    machine.assert_all_is_made()
    with dg.DagsterInstance.from_config(str(machine.home)) as instance:
        killed_run, *again = reversed(instance.get_runs())
    assert killed_run.status == dg.DagsterRunStatus.FAILURE
    assert [run.parent_run_id for run in again] == [killed_run.run_id], "Dagster's retry makes it, nobody else"


def test_a_killed_daemon_is_replaced(machine: Machine) -> None:
    """The daemon dies while a run of it works: the command starts another, the run ends, nothing is made twice."""
    with machine.publishing.acquire():
        command = machine.run()
        machine.until_catalog_works()
        daemon = find_daemon(machine.home)
        assert daemon
        daemon.kill()
        machine.until(lambda: (now := find_daemon(machine.home)) and now.pid != daemon.pid)
    assert command.wait(400) == 0, machine.room.log.read_text()
    assert "the Dagster daemon is gone; starting another one" in machine.room.log.read_text()
    machine.assert_all_is_made()


def test_a_killed_ui_takes_no_run_along(machine: Machine) -> None:
    """`yokai ui` (webserver, daemon, code servers) is killed while its daemon executes a run of `yokai run`."""
    port = _free_port()
    machine.start("ui", "--port", str(port))
    machine.until(lambda: find_daemon(machine.home))
    ui = {process.pid for process in machine.processes()}
    with machine.publishing.acquire():
        command = machine.run()
        machine.until_catalog_works()
        assert "by the Dagster daemon that is there" in machine.room.log.read_text()
        servers = [p for p in machine.processes() if p.pid in ui or "dagster_webserver" in " ".join(p.cmdline())]
        for process in servers:
            process.kill()
        machine.until(lambda: (now := find_daemon(machine.home)) and now.pid not in ui)
    print(f"killed {len(servers)} processes of the UI")
    assert command.wait(400) == 0, machine.room.log.read_text()
    machine.assert_all_is_made()


def test_a_terminated_ui_leaves_no_process(machine: Machine) -> None:
    """As a service manager ends it (SIGTERM to the command alone): webserver, daemon and code servers go with it."""
    port = _free_port()
    ui = machine.start("ui", "--port", str(port))
    machine.until(lambda: find_daemon(machine.home) and _answers(port))
    ui.terminate()
    ui.wait(60)
    machine.until(lambda: not machine.processes(), seconds=60)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_killed_command_leaves_the_queue_going(machine: Machine) -> None:
    """The command alone dies: what it queued goes on, and the next one finds it made."""
    with machine.publishing.acquire():
        command = machine.run()
        machine.until_catalog_works()
        command.send_signal(signal.SIGKILL)
        command.wait()
    with dg.DagsterInstance.from_config(str(machine.home)) as instance:
        machine.until(lambda: instance.get_runs(limit=1)[0].is_finished)
        assert instance.get_runs(limit=1)[0].status == dg.DagsterRunStatus.SUCCESS
        count = instance.get_runs_count()
    assert machine.run().wait(400) == 0
    with dg.DagsterInstance.from_config(str(machine.home)) as instance:
        assert instance.get_runs_count() == count, "what was made was made again"
    machine.assert_all_is_made()

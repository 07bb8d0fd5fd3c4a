"""The Dagster daemon of an instance: using the one that is there, starting one where there is none. Never two.

A daemon is looked for among the processes of this machine (`dagster dev`, `yokai ui` and `dagster-daemon run` all have
one), by the instance that it serves; where the instance is a database server, its heartbeats tell of other machines.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg
import psutil
from filelock import FileLock

MAX_STARTS = 5
"""A daemon that ends so often on its own will not live; what it said last is told then."""

_HEARTBEAT_SECONDS = 75.0
"""Daemons beat every 30 s: after so long without a beat there is none."""

_END_SECONDS = 30.0


class DaemonError(RuntimeError):
    """No daemon stays alive; the message holds what it said last."""


def find_daemon(home: Path) -> psutil.Process | None:
    """Return the process of the daemon that serves the instance of `home` on this machine, if there is one."""
    home = home.resolve()
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            is_daemon = "run" in words and any("dagster._daemon" in w or w.endswith("dagster-daemon") for w in words)
            if is_daemon and _serves(process, home) and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except psutil.Error:
            continue
    return None


def _serves(process: psutil.Process, home: Path) -> bool:
    served = process.environ().get("DAGSTER_HOME")
    return served is not None and Path(served).resolve() == home


class Daemon:
    """Sees to it that a daemon serves an instance, as long as it is asked to."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        home: Path,
        workspace: Path,
        *,
        environment: Mapping[str, str],
        log: Path,
        notice: Callable[[str], None],
    ) -> None:
        self._instance, self._home, self._workspace = instance, home, workspace
        self._environment = {**os.environ, **environment, "DAGSTER_HOME": str(home)}
        self._log, self._notice = log, notice
        self._own: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._known: int | None = None

    @property
    def has_started_one(self) -> bool:
        """Whether the daemon at work is one that this started."""
        return self._own is not None and self._own.poll() is None

    def ensure(self) -> None:
        """Start a daemon if none serves the instance.

        Raises:
            DaemonError: Daemons that are started end again and again.
        """
        if self.has_started_one:
            return
        with FileLock(self._home / "daemon-start.lock", timeout=120):
            found = find_daemon(self._home)
            if found:
                self._use(found)
            elif not self._beats_elsewhere():
                self._start()

    def close(self) -> None:
        """End the daemon that was started here: it lets go of the queue, and its code server of the runs."""
        if self._own is None or self._own.poll() is not None:
            return
        self._own.terminate()
        try:
            self._own.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(self._own.pid).children(recursive=True):
                child.kill()
            self._own.kill()
            self._own.wait()
        self._own = None

    def _use(self, found: psutil.Process) -> None:
        if found.pid != self._known:
            self._notice(f"runs are executed by the Dagster daemon that is there: process {found.pid}")
        self._known = found.pid

    def _start(self) -> None:
        if self._starts >= MAX_STARTS:
            raise DaemonError(
                f"the Dagster daemon ended {self._starts} times on its own. It said last ({self._log}):\n{self._said()}"
            )
        if self._starts or self._known:
            self._notice("the Dagster daemon is gone; starting another one")
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(self._workspace)]
        with self._log.open("ab") as log:
            self._own = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._starts += 1
        self._known = self._own.pid
        self._notice(f"started a Dagster daemon: process {self._own.pid}, log {self._log}")

    def _beats_elsewhere(self) -> bool:
        """Say whether a daemon of another machine serves the instance: its heartbeats go on."""
        if "sqlite" in type(self._instance.run_storage).__module__:
            return False
        until = time.monotonic() + _HEARTBEAT_SECONDS
        first = self._last_beat()
        while first is not None and time.time() - first < _HEARTBEAT_SECONDS and time.monotonic() < until:
            if self._last_beat() != first:
                return True
            time.sleep(1)
        return False

    def _last_beat(self) -> float | None:
        return max((beat.timestamp for beat in self._instance.get_daemon_heartbeats().values()), default=None)

    def _said(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines() if self._log.exists() else []
        return "\n".join(lines[-15:])

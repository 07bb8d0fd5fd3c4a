"""`yokai ui`: the Dagster UI on the data root's instance; with a daemon of its own where none is at work there."""

import ipaddress
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
import psutil

from yokai_assets.settings import load_settings


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches a host's servers."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def open_ui(config_file: Path | None, host: str, port: int) -> int:
    """Run the UI, and the daemon unless one serves the instance already, until interrupted. Returns the exit code."""
    from yokai_assets.defs.operations.daemons import find_daemon
    from yokai_assets.defs.operations.session import instance_home, workspace_file

    settings = load_settings(config_file)
    environment = dict(os.environ, DAGSTER_HOME=str(instance_home(settings)))
    if config_file:
        environment["YOKAI_CONFIG"] = str(config_file.resolve())
    click.echo(f"Dagster UI of {settings.data_root}: http://{host}:{port}  (Ctrl-C ends it)")
    if not is_loopback(host):
        click.echo(
            f"Warning: it has no log-in, and {host} is no address of this machine alone. Whoever reaches it can launch "
            "runs and delete records: keep it behind a firewall, or leave --host out and use an SSH tunnel.",
            err=True,
        )
    daemon = find_daemon(instance_home(settings))
    program = ["dagster_webserver"] if daemon else ["dagster", "dev"]
    if daemon:
        click.echo(f"Its runs are executed by the Dagster daemon that is there: process {daemon.pid}")
    command = [sys.executable, "-m", *program, "-w", str(workspace_file()), "-h", host, "-p", str(port)]
    try:
        with _ended_with_this():
            return subprocess.call(command, env=environment)
    except KeyboardInterrupt:
        return 0


@contextmanager
def _ended_with_this() -> Iterator[None]:
    """Hand a SIGTERM on to the server: else it would stay when this process is ended by one."""

    def hand_on(_number: int, _frame: FrameType | None) -> None:
        for child in psutil.Process().children():
            child.terminate()

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

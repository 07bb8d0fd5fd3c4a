"""`yokai ui`: `dagster dev` on the data root's instance."""

import os
import subprocess
import sys
from pathlib import Path

import click

from yokai_assets.settings import load_settings


def open_ui(config_file: Path | None, host: str, port: int) -> int:
    """Run the UI and the daemon until interrupted. Returns the exit code of `dagster dev`."""
    from yokai_assets.defs.operations.session import instance_home, workspace_file

    settings = load_settings(config_file)
    environment = dict(os.environ, DAGSTER_HOME=str(instance_home(settings)))
    if config_file:
        environment["YOKAI_CONFIG"] = str(config_file.resolve())
    click.echo(f"Dagster UI of {settings.data_root}: http://{host}:{port}  (Ctrl-C ends it)")
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace_file()), "-h", host, "-p", str(port)]
    try:
        return subprocess.call(command, env=environment)
    except KeyboardInterrupt:
        return 0

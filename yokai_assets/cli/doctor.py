"""`yokai doctor`: is everything there that a run needs, and if not, how to get it. Printing only."""

import json
import logging
from pathlib import Path

import click
from rich.markup import escape

from yokai_assets.checkup import examinations, examined
from yokai_assets.cli.terminal import Terminal
from yokai_assets.settings import load_settings

_COLOURS = {"ok": "green", "warning": "yellow", "missing": "red"}


def examine(config_file: Path | None, *, as_json: bool = False) -> bool:
    """Print one line per examination, or all as JSON. Returns whether nothing is missing; warnings do not count."""
    from yokai_assets.defs.operations.health import dagster_examinations

    settings = load_settings(config_file)
    console = Terminal()
    found = []
    logging.disable(logging.ERROR)  # a hub that cannot be reached logs every attempt; the finding says it once
    try:
        for looks in (examinations(settings), dagster_examinations(settings)):
            for finding in examined(looks):
                found.append(finding)
                if not as_json:
                    mark = f"[{_COLOURS[finding.state]}]{finding.state:<8}[/]"
                    console.print(f"{mark} {finding.name}: {escape(finding.words)}", soft_wrap=True)
    finally:
        logging.disable(logging.NOTSET)
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in found], indent=2))
    return all(finding.state != "missing" for finding in found)

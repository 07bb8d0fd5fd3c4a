"""`yokai status`, `logs`, `stop`, `automation`: a run seen and steered from elsewhere, by what `runs` keeps of it."""

import json
import os
import signal
import time
from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from yokai_assets.cli.terminal import Terminal
from yokai_assets.runs import RunRecord, RunRoom, Stage, StopMode, gpu_use
from yokai_assets.runs.lock import is_held
from yokai_assets.runs.record import now
from yokai_assets.settings import load_settings

_STOP_SECONDS = 120.0
_SHOWN_WORK = 10
"""Partitions of a stage that are named when there is much to do."""


def _room(config_file: Path | None, output_dir: str | None) -> RunRoom:
    return RunRoom.of(load_settings(config_file, overrides={"data_root": output_dir}))


def show_status(config_file: Path | None, output_dir: str | None, as_json: bool) -> int:
    """Print how far the run at work is, or how the last one ended and what there is to do."""
    room = _room(config_file, output_dir)
    record, is_at_work = room.record(), is_held(room)
    if as_json:
        print(json.dumps(_as_json(record, is_at_work), indent=2))
        return 0
    console = Terminal()
    if record:
        _print_record(console, record, is_at_work)
    if not is_at_work:
        _print_plan(console, config_file, output_dir)
    return 0


def _as_json(record: RunRecord | None, is_at_work: bool) -> dict[str, Any]:
    time_now = now()
    gpus = [str(gpu) for gpu in gpu_use()]
    run = record.model_dump(mode="json") if record else None
    if record and run:
        run["was_killed"] = not is_at_work and record.was_killed
        for stage, shown in zip(record.stages, run["stages"], strict=True):
            shown |= {
                "queued": stage.queued,
                "per_hour": stage.per_hour(time_now),
                "seconds_left": stage.seconds_left(time_now),
            }
    return {"is_at_work": is_at_work, "gpus": gpus, "run": run}


def _print_record(console: Console, record: RunRecord, is_at_work: bool) -> None:
    if is_at_work:
        console.print(f"[green]At work[/]: {escape(record.in_words())}")
    elif record.ended_at is None:
        console.print(f"[red]Killed[/] before its end: {escape(record.in_words())}. `yokai run` goes on from there.")
    else:
        meaning = {0: "all good", 1: "some failed", 2: "could not start or go on", 130: "stopped"}
        ended = record.ended_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        console.print(f"Last run ended {ended}: {meaning.get(record.exit_code or 0, record.exit_code)}.")
    if record.stages:
        console.print(_stage_table(record))
    for stage in record.stages[-1:]:
        for running in stage.running:
            share = f"{running.done:,}/{running.total:,}" if running.total else ""
            minutes = (now() - running.since).total_seconds() / 60
            name = running.partition or stage.job
            words = f"  [cyan]{name}[/] {running.step} {share} {escape(running.note)} [dim]{minutes:.0f} min[/]"
            console.print(" ".join(words.split(" ")), soft_wrap=True)
    for failure in record.failures[-10:]:
        mark = "[yellow]refused[/]" if failure.is_check else "[red]failed[/]"
        console.print(f"  {mark} {failure.partition or ''} {failure.step}: {escape(failure.reason)}", soft_wrap=True)
    for notice in record.notices[-3:] if is_at_work else ():
        console.print(f"  [dim]{escape(notice)}[/]", soft_wrap=True)
    for gpu in gpu_use():
        console.print(f"  {gpu}")


def _stage_table(record: RunRecord) -> Table:
    table = Table(box=None, header_style="bold")
    for column in ("stage", "done", "failed", "refused", "skipped", "running", "queued", "an hour", "left"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in record.stages:
        table.add_row(*_cells(stage))
    return table


def _cells(stage: Stage) -> tuple[str, ...]:
    rate, left = stage.per_hour(now()), stage.seconds_left(now())
    counts = (stage.done, stage.failed, stage.refused, stage.skipped, len(stage.running), stage.queued)
    return (
        stage.job,
        *(str(count) for count in counts),
        f"{rate:,.1f}" if rate else "",
        str(timedelta(seconds=round(left))) if left else "",
    )


def _print_plan(console: Console, config_file: Path | None, output_dir: str | None) -> None:
    from yokai_assets.cli.run import summary
    from yokai_assets.cli.view import STAGE_NAMES
    from yokai_assets.defs.operations.session import open_road
    from yokai_assets.defs.resources import SettingsResource

    source = SettingsResource.of(config_file, {"data_root": output_dir})
    console.print(summary(source.load()))
    with open_road(source) as road:
        plan = road.plan()
    if not plan:
        console.print("Nothing to do.")
    for job, name in STAGE_NAMES.items():
        to_do = [work for work in plan if work.job == job]
        for work in to_do[:_SHOWN_WORK]:
            console.print(f"{name}: {escape(work.partition or '')} [dim]{escape(work.why)}[/]", soft_wrap=True)
        if len(to_do) > _SHOWN_WORK:
            console.print(f"{name}: and {len(to_do) - _SHOWN_WORK:,} more")


def show_logs(config_file: Path | None, output_dir: str | None, lines: int, follow: bool) -> int:
    """Print the end of the run's log; with `follow`, what is added until the run ends or Ctrl-C."""
    room = _room(config_file, output_dir)
    if not room.log.exists():
        print(f"No run has written a log yet: {room.log}")
        return 1
    with room.log.open(encoding="utf-8", errors="replace") as file:
        print("".join(deque(file, maxlen=lines)), end="", flush=True)
        try:
            while follow and is_held(room):
                if text := file.read():
                    print(text, end="", flush=True)
                time.sleep(0.5)
            print(file.read(), end="", flush=True)
        except KeyboardInterrupt:
            pass
    return 0


def stop(config_file: Path | None, output_dir: str | None, mode: StopMode) -> int:
    """Ask the run at work to stop, and say what becomes of what it was doing."""
    room = _room(config_file, output_dir)
    record = room.record()
    if not is_held(room) or record is None:
        return _stop_daemon(config_file, output_dir)
    room.ask_to_stop(mode)
    if mode is StopMode.AFTER_RUNNING:
        print(f"Asked: what runs is finished, nothing more is begun ({record.in_words()}).")
        return 0
    if record.is_alive and record.mode == "in_process":
        os.kill(record.process_id, signal.SIGINT)
    until = time.monotonic() + _STOP_SECONDS
    while is_held(room) and time.monotonic() < until:
        time.sleep(0.3)
    if is_held(room):
        print(f"Not ended after {_STOP_SECONDS:.0f} s, still finishing: {record.in_words()}. See `yokai logs -f`.")
        return 1
    print(
        "Stopped. Finished partitions and steps stay; what was interrupted left nothing half-written, and a training "
        "goes on from its last saved state. `yokai run` goes on from here."
    )
    return 0


def _stop_daemon(config_file: Path | None, output_dir: str | None) -> int:
    """End a daemon that a killed run has left behind; one that others started is theirs."""
    from yokai_assets.defs.operations.daemons import find_daemon
    from yokai_assets.defs.operations.session import instance_home

    settings = load_settings(config_file, overrides={"data_root": output_dir})
    daemon = find_daemon(instance_home(settings))
    if daemon is None or daemon.parent() not in (None, psutil.Process(1)):
        print("Nothing is at work here.")
        return 0
    daemon.terminate()
    daemon.wait(60)
    print(f"No run was at work; ended the Dagster daemon that one had left behind (process {daemon.pid}).")
    return 0


def switch_automation(config_file: Path | None, state: str | None) -> int:
    """Turn the sensors that make new episodes and changed characters by themselves on or off, or show them."""
    from yokai_assets.defs.operations.daemons import find_daemon
    from yokai_assets.defs.operations.jobs import SWITCHED
    from yokai_assets.defs.operations.session import instance_home, open_instance, workspace_file
    from yokai_assets.defs.operations.workspace import open_workspace

    settings = load_settings(config_file)
    with open_instance(settings) as instance, open_workspace(instance, workspace_file()) as workspace:
        for name in SWITCHED if state else ():
            workspace.switch(name, state == "on")
        for name, (kind, is_on, _) in sorted(workspace.automation().items()):
            print(f"{'on ' if is_on else 'off'}  {kind:<8}  {name}")
    if state == "on" and find_daemon(instance_home(settings)) is None:
        print("It works while a Dagster daemon runs: `yokai ui`, or `yokai run` for its own time.")
    return 0

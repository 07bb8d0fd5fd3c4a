"""`yokai run`: the whole road over the user's series, through Dagster's queue or in this process.

Watching and stopping such a run from elsewhere is `watching`; drawing is `view`.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from rich.markup import escape
from rich.table import Table

from yokai_assets.cli.recording import Recorder
from yokai_assets.cli.terminal import Terminal, terminal
from yokai_assets.cli.view import RoadView
from yokai_assets.defs.operations.daemons import DaemonError
from yokai_assets.defs.operations.launching import Road
from yokai_assets.defs.operations.observing import Observer, Observers
from yokai_assets.defs.operations.report import RoadReport
from yokai_assets.defs.operations.session import open_queued_road, open_road
from yokai_assets.defs.operations.workspace import WorkspaceError
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.gallery.failures import FailureRecord
from yokai_assets.runs import RootBusyError, RunRoom, holding
from yokai_assets.runs.lock import is_held
from yokai_assets.settings import Settings
from yokai_assets.storage.files import told_when_full
from yokai_assets.storage.layout import Layout

ALL_GOOD, SOME_FAILED, COULD_NOT_START, STOPPED = 0, 1, 2, 130
_START_SECONDS = 180.0


def run_series(
    config_file: Path | None,
    *,
    total_episodes: int | None,
    skip_segmentation: bool,
    skip_clustering: bool,
    detach: bool,
    in_process: bool,
    **options: Any,
) -> int:
    """Drive the road over the user's series.

    Returns:
        0 all good, 1 some failed, 2 could not start or go on, 130 stopped.
    """
    from yokai_assets.devices import resolve_device

    source = _source(config_file, **options)
    settings = source.load()
    resolve_device(settings.device)
    if not skip_segmentation:
        _require_source(settings)
    room = RunRoom.of(settings)
    if detach:
        return _detach(room)

    def drive(road: Road) -> RoadReport:
        return road.drive(total_episodes=total_episodes, skip_episodes=skip_segmentation, skip_series=skip_clustering)

    try:
        with told_when_full(room.folder), holding(room):
            return _lead(source, room, drive, in_process=in_process)
    except RootBusyError as error:
        Terminal(stderr=True).print(f"[red]yokai: {escape(str(error))}", soft_wrap=True)
        return COULD_NOT_START


def _source(
    config_file: Path | None,
    *,
    input_frames: str | None,
    output_dir: str | None,
    min_cluster_size: int | None,
    episodes_per_batch: int | None,
    series: str | None,
    profile: str | None,
    device: str | None,
    max_characters: int | None,
    **training: Any,
) -> SettingsResource:
    overrides = {
        "frames_source": input_frames,
        "data_root": output_dir,
        "series": series,
        "profile": profile,
        "device": device,
        "max_characters": max_characters,
        "clustering": {"min_cluster_size": min_cluster_size},
        "operations": {"episodes_per_batch": episodes_per_batch},
        "training": training,
    }
    return SettingsResource.of(config_file, overrides)


def _lead(source: SettingsResource, room: RunRoom, drive: Callable[[Road], RoadReport], *, in_process: bool) -> int:
    settings = source.load()
    recorder = Recorder(room, room.begin("in_process" if in_process else "daemon", settings.series))
    exit_code = COULD_NOT_START
    try:
        with terminal() as console, RoadView(console) as view, _logging(room) as log, _interruptible():
            observers = Observers([view, log, recorder])
            try:
                with _opened(source, room, observers, in_process) as road:
                    report = drive(road)
                    left = road.left_failed()
                exit_code = _exit_code(report, left)
            except KeyboardInterrupt:
                exit_code, report, left = STOPPED, RoadReport(is_interrupted=True), []
            except (DaemonError, WorkspaceError) as error:
                for one in (view, log):
                    one.say(f"[red]yokai: {escape(str(error))}")
                return exit_code
            for one in (view, log):
                _conclude(one, report, left, settings, exit_code)
        return exit_code
    finally:
        recorder.end(exit_code)


@contextmanager
def _opened(source: SettingsResource, room: RunRoom, observer: Observer, in_process: bool) -> Iterator[Road]:
    if in_process:
        is_stop_asked = lambda: room.asked_to_stop() is not None  # noqa: E731
        with open_road(source, observer=observer, listener=observer.step, is_stop_asked=is_stop_asked) as road:
            yield road
    else:
        with open_queued_road(source, observer=observer, asked_to_stop=room.asked_to_stop) as road:
            yield road


@contextmanager
def _logging(room: RunRoom) -> Iterator[RoadView]:
    """Yield a view that writes a line per partition into the log, wherever the terminal is."""
    with room.log.open("a", encoding="utf-8", buffering=1) as file:
        view = RoadView(Terminal(file=file, width=160, color_system=None, force_terminal=False))
        view.say(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} yokai {escape(' '.join(sys.argv[1:]))}")
        yield view


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM, and SIGINT even where a shell has it ignored, end the run as Ctrl-C does."""
    before = {kind: signal.signal(kind, signal.default_int_handler) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _exit_code(report: RoadReport, left: list[FailureRecord]) -> int:
    if report.is_interrupted:
        return STOPPED
    return SOME_FAILED if left else ALL_GOOD


def _conclude(
    view: RoadView, report: RoadReport, left: list[FailureRecord], settings: Settings, exit_code: int
) -> None:
    for problem in report.problems:
        view.say(f"[yellow]not read[/] {escape(str(problem))}")
    if exit_code == STOPPED:
        view.say("[yellow]Stopped.[/] What was made stays; `yokai run` goes on from there.")
    elif exit_code == SOME_FAILED:
        view.say(f"[red]{len(left)} left failed or refused[/]; mend them, then `yokai run` makes what is missing:")
        for failure in left:
            words = " ".join(part for part in (failure.partition, failure.asset, failure.step) if part)
            view.say(f"  {words}: {escape(failure.reason)}")
    else:
        view.say("[green]All good.[/]")
    view.say(summary(settings))


def _detach(room: RunRoom) -> int:
    """Start the same command in a session of its own and return once it is at work, or has said why it is not."""
    console = Terminal()
    if is_held(room):
        record = room.record()
        busy = RootBusyError(record if record and record.is_alive else None)
        console.print(f"[red]yokai: {escape(str(busy))}", soft_wrap=True)
        return COULD_NOT_START
    arguments = [word for word in sys.argv[1:] if word != "--detach"]
    room.folder.mkdir(parents=True, exist_ok=True)
    with room.log.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "yokai_assets.cli.main", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and child.poll() is None:
        record = room.record()
        if record and record.process_id == child.pid and psutil.pid_exists(child.pid):
            console.print(f"At work: process {child.pid}. See `yokai status`, `yokai logs -f`, `yokai stop`.")
            return ALL_GOOD
        time.sleep(0.2)
    if child.poll() == ALL_GOOD:
        console.print("It ended already: `yokai status`.")
        return ALL_GOOD
    console.print(f"[red]yokai: it did not start.[/] See {escape(str(room.log))}", soft_wrap=True)
    return COULD_NOT_START


def summary(settings: Settings) -> Table:
    """Return the table of what exists: episodes, characters, LoRAs, and where things lie."""
    from yokai_assets.registry import RegistryStore
    from yokai_assets.storage.parquet import table_files

    layout = Layout.of(settings)
    registry = RegistryStore(layout.registry).load()
    states = dict(registry.characters.group_by("state").len().iter_rows()) if registry else {}
    published = sorted(layout.lora("x").parent.glob("*/README.md")) if layout.lora("x").parent.exists() else []
    table = Table(show_header=False, box=None, padding=(0, 2))
    for name, value in (
        ("series", settings.series),
        ("episodes", len(table_files(layout.tables / "embeddings"))),
        ("characters", ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none yet"),
        ("published LoRAs", len(published)),
        ("LoRAs", layout.lora("x").parent),
        ("report", layout.gallery / "index.html"),
        ("results as JSON", layout.pipeline / "pipeline_results.json"),
        ("failures", layout.pipeline / "failures.jsonl"),
        ("SQL", layout.database),
        ("log", RunRoom.of(settings).log),
    ):
        table.add_row(f"[dim]{name}[/]", escape(str(value)))
    return table


def _require_source(settings: Settings) -> None:
    from upath import UPath

    if not UPath(settings.frames_source).exists():
        raise FileNotFoundError(
            f"{settings.frames_source}: there is no such folder. Give the folder of the series with `--input-frames`, "
            "or set `frames_source` in yokai.toml."
        )

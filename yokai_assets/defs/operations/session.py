"""Opening the road for a command: the instance's home, the definitions with a listener, the instance itself.

The home is `$DAGSTER_HOME`, else `<data root>/dagster` with the shipped `dagster.yaml`, so each data root has its
own history and `dagster dev` on it shows the same runs.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg

from yokai_assets.definitions import build_definitions
from yokai_assets.defs.operations.ahead import runs_ahead
from yokai_assets.defs.operations.daemons import Daemon
from yokai_assets.defs.operations.in_process import InProcessRunner
from yokai_assets.defs.operations.launching import Road
from yokai_assets.defs.operations.observing import Observer
from yokai_assets.defs.operations.planning import DATA_VERSION_TAG
from yokai_assets.defs.operations.queueing import QueueRunner
from yokai_assets.defs.operations.space import SpaceKeeper
from yokai_assets.defs.operations.workspace import open_workspace
from yokai_assets.defs.resources import ProgressListener, SettingsResource, progress_heard_by
from yokai_assets.registry import Decision
from yokai_assets.runs import RunRoom, StopMode
from yokai_assets.runs.room import home_of_root
from yokai_assets.settings import Settings
from yokai_assets.settings.loading import (
    CONFIG_VARIABLE,
    SettingsError,
    as_environment,
    config_path,
    merge,
    read_environment,
)
from yokai_assets.storage.files import write_text
from yokai_assets.storage.layout import Layout


def instance_home(settings: Settings) -> Path:
    """Return the instance's home, made ready with the shipped `dagster.yaml` if it has none."""
    configured = os.environ.get("DAGSTER_HOME")
    if configured:
        return Path(configured)
    home = home_of_root(settings)
    home.mkdir(parents=True, exist_ok=True)
    target = home / "dagster.yaml"
    if not target.exists():
        shutil.copyfile(shipped_instance_file(), target)
    return home


def shipped_instance_file() -> Path:
    """Return the shipped `dagster.yaml`."""
    return _shipped_file("dagster.yaml")


def workspace_file() -> Path:
    """Return the shipped `workspace.yaml`."""
    return _shipped_file("workspace.yaml")


class InstanceError(SettingsError):
    """The Dagster instance cannot be opened; the message says where, why, and what to look at."""


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Yield the instance of the settings' data root.

    Raises:
        InstanceError: Its `dagster.yaml` is wrong, or its database cannot be reached.
    """
    home = instance_home(settings)
    previous = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(home)
    try:
        with _instance_of(home) as instance:
            yield instance
    finally:
        if previous is None:
            del os.environ["DAGSTER_HOME"]


def _instance_of(home: Path) -> dg.DagsterInstance:
    try:
        return dg.DagsterInstance.get()
    except Exception as error:  # of YAML, of configuration, of any database's driver
        reason = " ".join(str(error).split("\n(Background", 1)[0].split())
        raise InstanceError(
            f"{home / 'dagster.yaml'}: the Dagster instance cannot be opened ({type(error).__name__}: {reason}). Mend "
            "that file, or see that the database which it names is up and its driver installed (`scale` extra)."
        ) from error


@contextmanager
def open_road(
    source: SettingsResource,
    *,
    observer: Observer | None = None,
    listener: ProgressListener | None = None,
    is_stop_asked: Callable[[], bool] = lambda: False,
) -> Iterator[Road]:
    """Yield a road on the settings' instance whose runs this process executes itself.

    Args:
        source: Where the settings of every run come from.
        observer: Hears of stages and runs.
        listener: Hears of the progress of steps.
        is_stop_asked: Asked before each run whether to end there.
    """
    settings = source.load()
    observer = observer or Observer()
    definitions = build_definitions({"settings": source})
    with open_instance(settings) as instance, progress_heard_by(listener):
        layout = Layout.of(settings)
        space = SpaceKeeper(instance, settings, observer)
        runner = InProcessRunner(definitions, instance, layout, observer, space=space, is_stop_asked=is_stop_asked)
        yield Road(instance, settings, runner, observer, space)


@contextmanager
def open_queued_road(
    source: SettingsResource,
    *,
    observer: Observer | None = None,
    asked_to_stop: Callable[[], StopMode | None] = lambda: None,
) -> Iterator[Road]:
    """Yield a road whose runs go through Dagster's queue; with the first, a daemon is started if none serves it.

    A daemon that was started here ends with the block, unless runs of others are on their way.

    Args:
        source: Where the settings of every run come from.
        observer: Hears of stages and runs, and of the progress of steps.
        asked_to_stop: Asked every two seconds whether, and how, to end early.
    """
    settings = source.load()
    observer = observer or Observer()
    room, file = RunRoom.of(settings), workspace_file()
    with open_instance(settings) as instance:
        environment = environment_of(source, room)
        daemon = Daemon(
            instance,
            instance_home(settings),
            file,
            environment=environment,
            log=room.daemon_log,
            notice=observer.notice,
        )
        try:
            with open_workspace(instance, file) as workspace:
                space = SpaceKeeper(instance, settings, observer)
                runner = QueueRunner(
                    instance,
                    workspace,
                    daemon,
                    Layout.of(settings),
                    observer,
                    road_id=uuid4().hex[:12],
                    run_config=run_config_of(source, room),
                    in_flight_limit=settings.operations.episodes_per_batch,
                    space=space,
                    asked_to_stop=asked_to_stop,
                )
                yield Road(instance, settings, runner, observer, space)
        finally:
            if daemon.has_started_one and (others := len(runs_ahead(instance))):
                observer.notice(f"{others} runs of others are on their way: the Dagster daemon stays")
            else:
                daemon.close()


def run_config_of(source: SettingsResource, room: RunRoom) -> dict[str, Any]:
    """Return the configuration of a run that another process executes with the very settings of this command.

    The UI shows it with the run, and a re-execution there has it again. What only concerns operating is left out, so
    that no secret is in it.
    """
    config, values = _explicit(source, room)
    return {"resources": {"settings": {"config": {"config_file": config, "overrides": values}}}}


def environment_of(source: SettingsResource, room: RunRoom) -> dict[str, str]:
    """Return the environment in which sensors, schedules and runs of a daemon have the settings of this command."""
    config, values = _explicit(source, room)
    return {CONFIG_VARIABLE: config, **as_environment(values)}


def _explicit(source: SettingsResource, room: RunRoom) -> tuple[str, dict[str, Any]]:
    """Return the settings file, and what command line and environment say beyond it, with absolute paths."""
    settings = source.load()
    values = merge(read_environment(os.environ), source.overrides)
    values.pop("operations", None)
    for key in ("data_root", "frames_source"):
        values[key] = getattr(settings, key)
    path = config_path(source.config_file, os.environ)
    if path is None:
        path = room.folder / "no-settings.toml"
        write_text(path, "# No settings file was given to the run. An empty one, so that none is looked for.\n")
    return str(path), values


def announce(decisions: Sequence[Decision], fingerprint: str, settings: Settings) -> None:
    """Tell Dagster of decisions: events of the asset `character_decisions`, with the version of what holds now."""
    with open_instance(settings) as instance:
        for decision in decisions:
            event = dg.AssetMaterialization(
                "character_decisions",
                description=decision.in_words(),
                metadata={"decision_id": decision.decision_id, "by": decision.by, "kind": decision.what.kind},
                tags={DATA_VERSION_TAG: fingerprint},
            )
            instance.report_runless_asset_event(event)


def _shipped_file(name: str) -> Path:
    inside = Path(str(resources.files("yokai_assets"))) / name
    return inside if inside.is_file() else inside.parent.parent / name

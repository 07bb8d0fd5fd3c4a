"""Opening the road for a command: the instance's home, the definitions with a listener, the instance itself.

The home is `$DAGSTER_HOME`, else `<data root>/dagster` with the shipped `dagster.yaml`, so each data root has its
own history and `dagster dev` on it shows the same runs.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import dagster as dg
from platformdirs import user_data_path

from yokai_assets.definitions import build_definitions
from yokai_assets.defs.operations.launching import Observer, Road
from yokai_assets.defs.operations.planning import DATA_VERSION_TAG
from yokai_assets.defs.resources import ProgressListener, SettingsResource, progress_heard_by
from yokai_assets.registry import Decision
from yokai_assets.settings import Settings
from yokai_assets.storage.files import is_local, sha256_of_parts
from yokai_assets.storage.layout import Layout


def instance_home(settings: Settings) -> Path:
    """Return the instance's home, made ready with the shipped `dagster.yaml` if it has none."""
    configured = os.environ.get("DAGSTER_HOME")
    if configured:
        return Path(configured)
    root = Layout.of(settings).root
    home = Path(str(root)) / "dagster" if is_local(root) else user_data_path("yokai") / sha256_of_parts(str(root))[:12]
    home.mkdir(parents=True, exist_ok=True)
    target = home / "dagster.yaml"
    if not target.exists():
        shutil.copyfile(_shipped_file("dagster.yaml"), target)
    return home


def workspace_file() -> Path:
    """Return the shipped `workspace.yaml`."""
    return _shipped_file("workspace.yaml")


@contextmanager
def open_instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """Yield the instance of the settings' data root."""
    home = instance_home(settings)
    previous = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(home)
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        if previous is None:
            del os.environ["DAGSTER_HOME"]


@contextmanager
def open_road(
    source: SettingsResource, *, observer: Observer | None = None, listener: ProgressListener | None = None
) -> Iterator[Road]:
    """Yield a road on the settings' instance.

    Args:
        source: Where the settings of every run come from.
        observer: Hears of stages and runs.
        listener: Hears of the progress of steps.
    """
    settings = source.load()
    definitions = build_definitions({"settings": source})
    with open_instance(settings) as instance, progress_heard_by(listener):
        yield Road(definitions, instance, settings, observer)


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

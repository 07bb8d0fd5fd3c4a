"""`yokai run` and `yokai status`."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from yokai_assets.cli.view import STAGE_NAMES, RoadView, terminal
from yokai_assets.settings import Settings


def run_series(
    config_file: Path | None,
    *,
    input_frames: str | None,
    output_dir: str | None,
    series: str | None,
    profile: str | None,
    device: str | None,
    total_episodes: int | None,
    max_characters: int | None,
    min_cluster_size: int | None,
    skip_segmentation: bool,
    skip_clustering: bool,
    **training: Any,
) -> int:
    """Drive the road over the user's series. Returns the exit code: 0 all good, 1 some failed, 2 could not start."""
    from yokai_assets.defs.operations.session import open_road
    from yokai_assets.defs.resources import SettingsResource
    from yokai_assets.devices import resolve_device

    source = SettingsResource.of(
        config_file,
        {
            "frames_source": input_frames,
            "data_root": output_dir,
            "series": series,
            "profile": profile,
            "device": device,
            "max_characters": max_characters,
            "clustering": {"min_cluster_size": min_cluster_size},
            "training": training,
        },
    )
    settings = source.load()
    resolve_device(settings.device)
    if not skip_segmentation:
        _require_source(settings)
    with terminal() as console, RoadView(console) as view:
        with open_road(source, observer=view, listener=view.step) as road:
            report = road.drive(
                total_episodes=total_episodes, skip_episodes=skip_segmentation, skip_series=skip_clustering
            )
        for problem in report.problems:
            console.print(f"[yellow]not read[/] {problem.path}: {problem.reason}. {problem.remedy}")
        console.print(summary(settings))
    failed = [failure for failure in report.failures if not failure.is_check]
    return 1 if failed else 0


def show_status(config_file: Path | None) -> None:
    """Print what exists and what there is to do."""
    from yokai_assets.defs.operations.session import open_road
    from yokai_assets.defs.resources import SettingsResource

    source = SettingsResource.of(config_file)
    settings = source.load()
    console = Console(highlight=False)
    console.print(summary(settings))
    with open_road(source) as road:
        plan = road.plan()
    if not plan:
        console.print("Nothing to do.")
    for work in plan:
        console.print(f"{STAGE_NAMES[work.job]}: {work.partition or ''} [dim]{work.why}[/]")


def summary(settings: Settings) -> Table:
    """Return the table of what exists: episodes, characters, LoRAs, and where things lie."""
    from yokai_assets.registry import RegistryStore
    from yokai_assets.storage.layout import Layout
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
        ("gallery", layout.gallery / "index.html"),
        ("SQL", layout.database),
    ):
        table.add_row(f"[dim]{name}[/]", str(value))
    return table


def _require_source(settings: Settings) -> None:
    from upath import UPath

    if not UPath(settings.frames_source).exists():
        raise FileNotFoundError(
            f"{settings.frames_source}: there is no such folder. Give the folder of the series with `--input-frames`, "
            "or set `frames_source` in yokai.toml."
        )

"""`yokai plan`: what a series will cost, before anything is started. The numbers are `yokai_assets.forecast`'s."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table
from upath import UPath

from yokai_assets.cli.terminal import Terminal
from yokai_assets.devices import resolve_device
from yokai_assets.embedding.model import EmbeddingModelError
from yokai_assets.forecast import Forecast, Stage, forecast
from yokai_assets.segmentation.matte import MatteError
from yokai_assets.settings import Settings, load_settings
from yokai_assets.settings.loading import SettingsError
from yokai_assets.storage.files import is_local

_ENOUGH_SHARE = 0.9
"""More than this share of the free disk is too much: DuckDB is published as a copy, and training needs room too."""


def show_plan(
    config_file: Path | None,
    frames_dir: str | None,
    sample_frames: int,
    cut_frames: int,
    device: str | None,
    layers_rate: float | None,
    embeddings_rate: float | None,
    characters: int | None,
    steps_rate: float | None,
    as_json: bool,
) -> None:
    """Measure a sample and print the forecast."""
    settings = load_settings(config_file, overrides={"frames_source": frames_dir, "device": device})
    rates = {"character_layers": layers_rate, "embeddings": embeddings_rate}
    console = Terminal()
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with ProgressBar(*columns, console=Terminal(stderr=True), transient=True) as bar:
        task = bar.add_task("listing episodes", total=5)

        def tell(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, description=note)

        try:
            found = forecast(
                UPath(settings.frames_source),
                settings,
                resolve_device(settings.device),
                sample_frames=sample_frames,
                cut_frames=cut_frames,
                given_rates={asset: rate for asset, rate in rates.items() if rate is not None},
                progress=tell,
            )
        except (MatteError, EmbeddingModelError) as error:
            raise SettingsError(str(error)) from error
    training = _training(settings, characters, steps_rate)
    if as_json:
        print(json.dumps(_as_json(found, training), indent=2))
    else:
        _print(console, found, training, settings)


def _training(settings: Settings, characters: int | None, steps_rate: float | None) -> Stage | None:
    if characters is None or steps_rate is None:
        return None
    steps = characters * settings.training.max_train_steps
    return Stage("lora_model", "steps", steps, 1 / steps_rate, 0.0, is_given=True)


def _as_json(found: Forecast, training: Stage | None) -> dict[str, object]:
    stages = [*found.stages, *([training] if training else [])]
    return asdict(found) | {
        "stages": [asdict(stage) | {"hours": stage.hours} for stage in stages],
        "hours": sum(stage.hours for stage in stages),
        "disk_bytes": found.disk_bytes,
        "problems": [str(problem) for problem in found.problems],
    }


def _print(console: Console, found: Forecast, training: Stage | None, settings: Settings) -> None:
    share, low, high = (part * found.frame_count for part in found.unique_share)
    console.print(
        f"[bold]{found.frame_count:,} frames[/] in {found.episode_count} episodes; {found.sampled_count:,} looked at, "
        f"{found.unusable_share:.1%} of them no whole picture. About [bold]{share:,.0f} unique frames[/] "
        f"[dim]({low:,.0f} to {high:,.0f})[/], {found.instances_per_unique:.2f} characters in each."
    )
    table = Table(box=None, header_style="bold")
    for column in ("stage", "how many", "", "a second", "hours", "GB on disk"):
        table.add_column(column, justify="left" if column in ("stage", "") else "right")
    for stage in [*found.stages, *([training] if training else [])]:
        rate = 1 / stage.seconds_each if stage.seconds_each else float("inf")
        table.add_row(
            stage.name, f"{stage.count:,.0f}", stage.unit, f"{rate:,.2f}{' (given)' if stage.is_given else ''}",
            f"{stage.hours:,.2f}", f"{stage.disk_bytes / 1e9:,.2f}" if stage.disk_bytes else "",
        )  # fmt: skip
    hours = found.hours + (training.hours if training else 0)
    table.add_row("[bold]in all", "", "", "", f"[bold]{hours:,.2f}", f"[bold]{found.disk_bytes / 1e9:,.2f}")
    console.print(table)
    if training is None:
        console.print(
            f"[dim]Not counted: clustering (minutes), and training, {settings.training.max_train_steps:,} steps a "
            "character (give --characters and --steps-rate). Pictures that repeat in other episodes count each time.[/]"
        )
    _print_disk(console, found, settings)
    for problem in found.problems[:5]:
        console.print(f"[yellow]left out[/] {escape(str(problem))}", soft_wrap=True)


def _print_disk(console: Console, found: Forecast, settings: Settings) -> None:
    root = UPath(settings.data_root)
    if not is_local(root):
        return
    there = next(
        folder for folder in (Path(str(root)).resolve(), *Path(str(root)).resolve().parents) if folder.exists()
    )
    free = shutil.disk_usage(there).free
    if found.disk_bytes > _ENOUGH_SHARE * free:
        console.print(
            f"[red]Not enough room[/]: {found.disk_bytes / 1e9:,.1f} GB wanted, {free / 1e9:,.1f} GB free at "
            f"{escape(str(there))}. Move `data_root`, or run fewer episodes at a time."
        )
    else:
        console.print(f"[dim]{free / 1e9:,.0f} GB are free at {escape(str(there))}.[/]")

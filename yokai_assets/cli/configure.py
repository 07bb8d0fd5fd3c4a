"""`yokai init` and `yokai settings`."""

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from yokai_assets.cli.terminal import Terminal
from yokai_assets.settings import load_settings
from yokai_assets.settings.loading import describe_fields
from yokai_assets.storage.files import write_text

_TEMPLATE = """\
# Settings of yokai_assets. `yokai settings` lists every key with its meaning; `yokai doctor` checks this machine.

profile = "anime"
series = {series}
frames_source = {frames}   # one folder of frames, or one video, per episode
data_root = {root}         # everything produced goes there
device = "auto"            # auto, cpu, cuda, cuda:N

[clustering]
min_cluster_size = 25      # images from which a group is a character

[training]
base_model = "stable-diffusion-v1-5/stable-diffusion-v1-5"   # hub id, diffusers folder, or .safetensors file
max_train_steps = 2000
learning_rate = 1e-4
network_dim = 32
train_batch_size = 2
"""


def write_settings_file(file: Path, input_frames: str | None, output_dir: str | None, series: str | None) -> None:
    """Write a commented settings file; an existing one is never replaced."""
    import json

    if file.exists():
        raise click.ClickException(f"{file} is there already. Edit it, or name another file.")
    text = _TEMPLATE.format(
        series=json.dumps(series or "my-series"),
        frames=json.dumps(input_frames or "frames"),
        root=json.dumps(output_dir or "data"),
    )
    write_text(file, text)
    click.echo(f"Wrote {file}. Next: edit it, then `yokai doctor`, then `yokai run`.")


def show_settings(config_file: Path | None) -> None:
    """Print every setting with value, default and meaning."""
    values = load_settings(config_file).model_dump()
    table = Table(box=None, header_style="bold")
    for column in ("setting", "value", "default", "meaning"):
        table.add_column(column, overflow="fold", no_wrap=column == "setting")
    for key, default, description in describe_fields():
        value = _at(values, key)
        is_changed = repr(value) != default
        table.add_row(key, f"[cyan]{value!r}[/]" if is_changed else repr(value), f"[dim]{default}[/]", description)
    Terminal().print(table)


def _at(values: dict[str, Any], key: str) -> Any:
    value: Any = values
    for part in key.split("."):
        value = value[part]
    return value

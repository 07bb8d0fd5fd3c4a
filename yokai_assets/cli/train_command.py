"""`yokai train`: its options, from the settings' section `training`. What it does is `train`, imported when called."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from yokai_assets.settings.training import TrainingSettings

_DEFAULTS = {"preset": "auto"}
"""Where this command differs from the settings: it knows the folder and the base at once."""


def _type_of(field: FieldInfo) -> Any:
    """Return the click type of a settings field."""
    parts = get_args(field.annotation)
    kind: Any = parts[0] if type(None) in parts else field.annotation
    if get_origin(kind) is Literal:
        return click.Choice([str(choice) for choice in get_args(kind)])
    bounds = {
        name: getattr(rule, name) for rule in field.metadata for name in ("ge", "le", "gt") if hasattr(rule, name)
    }
    if kind in (int, float):
        return (click.IntRange if kind is int else click.FloatRange)(
            bounds.get("ge", bounds.get("gt")), bounds.get("le"), min_open="gt" in bounds
        )
    return str


def _option(name: str, field: FieldInfo) -> Callable[[Any], Any]:
    default = _DEFAULTS.get(name, field.default)
    shown = ",".join(default) if isinstance(default, tuple) else default
    text = f"{field.description}" + ("" if default is None else f"  [{shown}]")
    flag = name.replace("_", "-")
    if field.annotation is bool:
        return click.option(f"--{flag}/--no-{flag}", name, default=None, help=text)
    return click.option(f"--{flag}", name, type=_type_of(field), default=None, help=text)


def _training_options(command: Any) -> Any:
    """Add an option for every field of the settings' section but the base model."""
    for name, field in reversed(TrainingSettings.model_fields.items()):
        if name != "base_model":
            command = _option(name, field)(command)
    return command


def _plain_name(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    if name is not None and (not name or Path(name).name != name):
        raise click.BadParameter(f"{name!r} names a path; give a name, and the folder with --output.")
    return name


def _show_presets(context: click.Context, _parameter: click.Parameter, is_wanted: bool) -> None:
    if not is_wanted or context.resilient_parsing:
        return
    from yokai_assets.cli.train import show_presets

    show_presets()
    context.exit()


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--base", required=True, help="Hub id, diffusers folder, .safetensors checkpoint, or `demo`.")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), help="Folder for the LoRA, or its .safetensors file."
)
@click.option("--name", callback=_plain_name, help="Name of the LoRA: default, that of OUTPUT's file or of FOLDER.")
@click.option("--trigger", help="Word that stands for the character; put in front of captions that lack it.")
@click.option(
    "--held-out-share", type=click.FloatRange(0, 0.5), default=0.1, show_default=True,
    help="Share of the images that only measure the validation loss.",
)  # fmt: skip
@click.option("--sample", "samples", multiple=True, metavar="PROMPT", help="Draw this, too, with and without the LoRA.")
@click.option("--no-samples", is_flag=True, help="Draw nothing.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--cpu-threads", type=click.IntRange(0), default=0, help="Threads on the CPU; 0: all cores.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of everything random.")
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Folder of latents and texts.")
@click.option("--restart", is_flag=True, help="Begin anew where another training lies in OUTPUT.")
@click.option(
    "--presets", is_flag=True, is_eager=True, expose_value=False, callback=_show_presets, help="Show presets."
)
@_training_options
def train(folder: Path, base: str, output: Path, **options: Any) -> None:
    """Train a LoRA on FOLDER: any images with .txt captions, or with `--trigger`, without anything else.

    Also read: kohya's `10_name` folders, `metadata.jsonl`, masks in `masks/`, alpha channels, and what `yokai run`
    makes. Broken images are named and left out. Interrupted, the same command goes on where it stopped.
    Exit code: 0 trained, 1 training failed, 2 could not start.
    """
    from yokai_assets.cli.train import train_folder

    own = (
        "name",
        "trigger",
        "held_out_share",
        "samples",
        "no_samples",
        "device",
        "cpu_threads",
        "seed",
        "cache",
        "restart",
    )
    given = {name: options.pop(name) for name in own}
    chosen = {name: value for name, value in options.items() if value is not None}
    if "target_modules" in chosen:
        chosen["target_modules"] = [name.strip() for name in chosen["target_modules"].split(",") if name.strip()]
    sys.exit(train_folder(folder, output, {**_DEFAULTS, **chosen, "base_model": base}, **given))

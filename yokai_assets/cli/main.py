"""The commands and their options. What a command does is in its own module, imported when it is called."""

import sys
from pathlib import Path
from typing import Any

import click

from yokai_assets import __version__
from yokai_assets.cli.character_commands import characters, with_config
from yokai_assets.cli.dataset_commands import dataset
from yokai_assets.cli.train_command import train

EXIT_SOME_FAILED = 1
EXIT_COULD_NOT_START = 2


with_root = click.option("--output-dir", help="Data root, where `yokai run` was given one.")


class Commands(click.Group):
    """Turns errors that a person can mend into one message and exit code 2, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        from yokai_assets.cli.terminal import visible
        from yokai_assets.devices import DeviceError
        from yokai_assets.settings.loading import SettingsError
        from yokai_assets.storage.files import DiskFullError

        try:
            return super().invoke(ctx)
        except (SettingsError, DeviceError, FileNotFoundError, DiskFullError) as error:
            click.secho(f"yokai: {visible(str(error))}", fg="red", err=True)
            sys.exit(EXIT_COULD_NOT_START)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="yokai")
def main() -> None:
    """From a cartoon series on disk to a LoRA for every character.

    `yokai demo` shows everything on a bundled series. For your own: `yokai init`, `yokai doctor`, `yokai run`.
    """


@main.command()
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), default=Path("demo-data"), show_default=True
)
@click.option("--episodes", type=click.IntRange(2, 500), default=6, show_default=True, help="Episodes of the series.")
@click.option("--frames", "frames_per_episode", type=click.IntRange(20, 2000), default=60, show_default=True)
@click.option("--characters", type=click.IntRange(2, 60), default=5, show_default=True, help="The last one is rare.")
@click.option("--seed", type=int, default=7, show_default=True, help="Another seed draws another series.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda or cuda:N.")
def demo(**options: Any) -> None:
    """Draw a small cartoon series and take it all the way to LoRAs; then hold what was found against the truth.

    Run it again: nothing is left to do. Run it with one more `--episodes`: only what changed is made.
    """
    from yokai_assets.cli.demo import run_demo

    sys.exit(run_demo(**options))


@main.command()
@with_config
@click.option("--input-frames", help="Folder with one folder or video per episode.")
@click.option("--output-dir", help="Data root: everything produced goes there.")
@click.option("--series", help="Name of the series.")
@click.option("--profile", type=click.Choice(["anime", "demo"]), help="Shipped defaults.")
@click.option("--device", help="auto, cpu, cuda or cuda:N.")
@click.option("--total-episodes", type=click.IntRange(1), help="Only the first N episodes.")
@click.option("--max-characters", type=click.IntRange(1), help="Train only the N largest characters.")
@click.option("--min-cluster-size", type=click.IntRange(2), help="Images from which a group is a character.")
@click.option("--episodes-per-batch", type=click.IntRange(1), help="Partitions kept in the queue at once.")
@click.option("--skip-segmentation", is_flag=True, help="Make nothing of episodes: go on with what there is.")
@click.option("--skip-clustering", is_flag=True, help="Leave clustering and characters as they are.")
@click.option("--max-train-steps", type=click.IntRange(1), help="Optimizer steps of each LoRA.")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option("--network-dim", type=click.IntRange(1), help="LoRA rank.")
@click.option("--train-batch-size", type=click.IntRange(1), help="Images per step.")
@click.option("--detach", is_flag=True, help="Return at once; the run outlives this terminal.")
@click.option("--in-process", is_flag=True, help="Without the queue, one partition after the other: small series.")
def run(**options: Any) -> None:
    """Take the series from frames to published LoRAs; started again, do only what is missing or changed.

    Runs go through Dagster's queue, as those of the UI do; a daemon is started where none is. A failed episode or
    character is reported and the others go on. Exit code: 0 all good, 1 some failed, 2 could not start or go on,
    130 stopped. Watch it with `yokai status` and `yokai logs -f`; end it with `yokai stop`.
    """
    from yokai_assets.cli.run import run_series

    sys.exit(run_series(**options))


@main.command("import-clusters")
@with_config
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output-dir", help="Data root.")
@click.option("--series", help="Name of the series; a new one for the import.")
@click.option("--device", help="auto, cpu, cuda or cuda:N.")
def import_clusters(**options: Any) -> None:
    """Take over characters that another pipeline found: FOLDER holds a folder of images for each.

    Afterwards `yokai run --skip-segmentation --skip-clustering` describes, captions and trains them. Import again
    after adding images: characters keep their ids.
    """
    from yokai_assets.cli.importing import import_characters

    import_characters(**options)


main.add_command(characters)
main.add_command(dataset)
main.add_command(train)


@main.command()
@with_config
@with_root
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(config_file: Path | None, output_dir: str | None, as_json: bool) -> None:
    """Say how far the run at work is; without one, what exists and what `yokai run` would do now and why."""
    from yokai_assets.cli.watching import show_status

    sys.exit(show_status(config_file, output_dir, as_json))


@main.command()
@with_config
@with_root
@click.option("-n", "--lines", type=click.IntRange(0), default=40, show_default=True, help="Lines of the end.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
def logs(config_file: Path | None, output_dir: str | None, lines: int, follow: bool) -> None:
    """Show what `yokai run` said: a line for each partition, and why where one failed."""
    from yokai_assets.cli.watching import show_logs

    sys.exit(show_logs(config_file, output_dir, lines, follow))


@main.command()
@with_config
@with_root
@click.option("--after-running", is_flag=True, help="Finish what runs, begin nothing more; returns at once.")
def stop(config_file: Path | None, output_dir: str | None, after_running: bool) -> None:
    """Stop the run at work: what is made stays, `yokai run` goes on from there."""
    from yokai_assets.cli import watching
    from yokai_assets.runs import StopMode

    sys.exit(watching.stop(config_file, output_dir, StopMode.AFTER_RUNNING if after_running else StopMode.NOW))


@main.command()
@with_config
@click.argument("state", type=click.Choice(["on", "off"]), required=False)
def automation(config_file: Path | None, state: str | None) -> None:
    """Turn automation on or off, or show it: new episodes and changed characters then make themselves."""
    from yokai_assets.cli.watching import switch_automation

    sys.exit(switch_automation(config_file, state))


@main.command()
@with_config
@with_root
@click.option("--apply", "is_applied", is_flag=True, help="Remove what may go.")
@click.option(
    "--layers",
    type=click.Choice(["keep", "until_dataset", "budget_gb"]),
    help="Instead of `retention.layers`, for once.",
)
@click.option("--budget-gb", type=click.FloatRange(0, min_open=True), help="Instead of `retention.budget_gb`.")
@click.option("--plates", type=click.Choice(["keep", "like_layers"]), help="Instead of `retention.plates`.")
@click.option("--checkpoints", type=click.IntRange(1), help="Instead of `retention.checkpoints_per_character`.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def space(**options: Any) -> None:
    """Show bytes by stage, what retention would remove and why, what must stay, and whether the rest will fit.

    Nothing is removed without --apply. What goes is known as removed and not as missing: nothing is made again for it,
    and what later reads a removed cut-out or plate makes that one again first. Exit code: 1 if something could not be
    removed.
    """
    from yokai_assets.cli.space import show_space

    sys.exit(show_space(**options))


@main.command()
@with_config
@click.argument("frames_dir", required=False)
@click.option("--sample-frames", type=click.IntRange(16), default=960, show_default=True, help="Frames to look at.")
@click.option("--cut-frames", type=click.IntRange(2), default=32, show_default=True, help="... and to cut out.")
@click.option("--device", help="auto, cpu, cuda or cuda:N.")
@click.option("--layers-rate", type=click.FloatRange(0, min_open=True), help="Unique frames/s of another machine.")
@click.option("--embeddings-rate", type=click.FloatRange(0, min_open=True), help="Instances/s of another machine.")
@click.option("--characters", type=click.IntRange(1), help="Count training too: this many characters ...")
@click.option("--steps-rate", type=click.FloatRange(0, min_open=True), help="... at this many steps/s.")
@click.option("--json", "as_json", is_flag=True, help="Print numbers as JSON.")
def plan(**options: Any) -> None:
    """Foretell frames, characters, hours by stage and disk of a series, from a sample; start nothing.

    FRAMES_DIR: folder with one folder or video per episode; default: `frames_source` of the settings.
    """
    from yokai_assets.cli.plan import show_plan

    show_plan(**options)


@main.command()
@with_config
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="The UI has no log-in: think before you widen it.")
def ui(config_file: Path | None, port: int, host: str) -> None:
    """Open the Dagster UI (and its daemon) on the data root."""
    from yokai_assets.cli.ui import open_ui

    sys.exit(open_ui(config_file, host, port))


@main.command()
@with_config
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(config_file: Path | None, as_json: bool) -> None:
    """Check Python, packages, GPU, disk, folders, models and Dagster; say what is missing and how to get it."""
    from yokai_assets.cli.doctor import examine

    sys.exit(0 if examine(config_file, as_json=as_json) else EXIT_SOME_FAILED)


@main.command("convert-weights")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
def convert_weights(source: Path, target: Path) -> None:
    """Write a pickled checkpoint (.ckpt, .pt, .bin) as .safetensors, without running what is in it."""
    from yokai_assets.weights import WeightsError, convert_weights

    try:
        click.echo(f"{target}: {convert_weights(source, target)} tensors")
    except WeightsError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), default=Path("yokai.toml"))
@click.option("--input-frames", help="Folder with one folder or video per episode.")
@click.option("--output-dir", help="Data root.")
@click.option("--series", help="Name of the series.")
def init(file: Path, input_frames: str | None, output_dir: str | None, series: str | None) -> None:
    """Write a settings file to start from."""
    from yokai_assets.cli.configure import write_settings_file

    write_settings_file(file, input_frames, output_dir, series)


@main.command()
@with_config
def settings(config_file: Path | None) -> None:
    """Show every setting: its value, its default, what it means."""
    from yokai_assets.cli.configure import show_settings

    show_settings(config_file)


@main.command()
@with_config
@click.argument("statement", required=False)
def sql(config_file: Path | None, statement: str | None) -> None:
    """Query the published DuckDB, read-only. Without STATEMENT: list its tables and views."""
    from yokai_assets.cli.sql import query

    query(config_file, statement)


@main.command()
@with_config
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--count", type=click.IntRange(1, 1000), default=12, show_default=True, help="How many.")
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="Also draw them, into this file.")
def similar(config_file: Path | None, image: Path, count: int, sheet: Path | None) -> None:
    """Find the instances that look most like IMAGE (a cut-out, or any picture), and whose they are."""
    from yokai_assets.cli.similar import show_similar

    show_similar(config_file, image, count, sheet)


if __name__ == "__main__":
    main()

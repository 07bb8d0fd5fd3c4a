"""`yokai characters ...`: the commands and their options. What they do is in `characters`, imported when called."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

CHARACTER = "CHARACTER is an id (`cluster_003`) or a name."


def with_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that names the settings file."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Settings file. Default: $YOKAI_CONFIG, else ./yokai.toml.",
    )(command)


@click.group()
def characters() -> None:
    """See who was found, and decide: names, merges, splits, what is no character.

    A decision is kept as data and holds through every later clustering; `undo` takes it back. It takes effect with
    the next `yokai run`, or at once with `yokai characters apply`, and only what it touches is made anew.
    """


@characters.command("list")
@with_config
@click.option("--all", "is_all", is_flag=True, help="Also those that are merged, retired or no characters.")
def list_(config_file: Path | None, is_all: bool) -> None:
    """List the characters: names, states, images, and why some are not trained."""
    from yokai_assets.cli.characters import list_characters

    list_characters(config_file, is_all)


@characters.command(epilog=CHARACTER)
@with_config
@click.argument("character")
@click.option("--count", type=click.IntRange(1, 1000), default=12, show_default=True, help="Images to list.")
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="Also draw a montage, into this file.")
def show(config_file: Path | None, character: str, count: int, sheet: Path | None) -> None:
    """Show a character: its images (most typical and most doubtful), what happened to it, what was decided."""
    from yokai_assets.cli.characters import show_character

    show_character(config_file, character, count, sheet)


@characters.command(epilog=CHARACTER)
@with_config
@click.argument("character")
@click.argument("name")
def name(config_file: Path | None, character: str, name: str) -> None:
    """Say what people call it. An empty NAME takes the name away."""
    from yokai_assets.cli.characters import decide
    from yokai_assets.registry.decisions import Name

    decide(config_file, lambda desk: [Name(character_id=desk.find(character), name=name)])


@characters.command(epilog=CHARACTER)
@with_config
@click.argument("into")
@click.argument("others", nargs=-1, required=True)
@click.option("--even-so", is_flag=True, help="Merge characters who are seen together in frames.")
def merge(config_file: Path | None, into: str, others: tuple[str, ...], even_so: bool) -> None:
    """OTHERS are INTO too: their images become its images, now and in later episodes."""
    from yokai_assets.cli.characters import decide
    from yokai_assets.registry.decisions import Merge

    decide(
        config_file,
        lambda desk: [Merge(character_id=desk.find(into), other=desk.find(other)) for other in others],
        is_forced=even_so,
    )


@characters.command(epilog=CHARACTER)
@with_config
@click.argument("character")
@click.argument("images", nargs=-1)
@click.option("--into", "count", type=click.IntRange(2, 20), help="Propose so many parts by what images look like.")
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="Draw the parts, into this file.")
@click.option("--yes", is_flag=True, help="Do not ask whether the proposed parts are right.")
def split(
    config_file: Path | None, character: str, images: tuple[str, ...], count: int | None, sheet: Path | None, yes: bool
) -> None:
    """Make another character of some IMAGES, or of parts found with --into.

    IMAGES are instance ids or files of cut-outs. New images in later episodes join the part that they resemble.
    """
    from yokai_assets.cli.characters import split_character

    if bool(images) == bool(count):
        raise click.UsageError("Name the images that are another character, or say --into N.")
    split_character(config_file, character, images, count, sheet, is_sure=yes)


@characters.command(epilog=CHARACTER)
@with_config
@click.argument("character")
@click.argument("images", nargs=-1, required=True)
def exclude(config_file: Path | None, character: str, images: tuple[str, ...]) -> None:
    """IMAGES (instance ids or files of cut-outs) are not this character."""
    from yokai_assets.cli.characters import decide
    from yokai_assets.registry.decisions import Exclude

    decide(
        config_file,
        lambda desk: [Exclude(character_id=(who := desk.find(character)), instances=desk.references(who, images))],
    )


def _about_one(kind: str, text: str) -> None:
    @characters.command(kind, epilog=CHARACTER, help=text)
    @with_config
    @click.argument("character_names", metavar="CHARACTER...", nargs=-1, required=True)
    def command(config_file: Path | None, character_names: tuple[str, ...]) -> None:
        from yokai_assets.cli.characters import decide
        from yokai_assets.registry import decisions

        what = getattr(decisions, kind.capitalize())
        decide(config_file, lambda desk: [what(character_id=desk.find(name)) for name in character_names])


_about_one("dismiss", "It is no character: scenery, a prop, a title. Shown, but not trained.")
_about_one("accept", "It is a character, whatever the signs say: train it.")
_about_one("freeze", "Its images stay as they are, whatever later clusterings find.")
_about_one("retire", "It is a character, but not to be trained any more.")


@characters.command()
@with_config
@click.argument("decision_id", metavar="[DECISION]", type=click.IntRange(1), required=False)
def undo(config_file: Path | None, decision_id: int | None) -> None:
    """Take a decision back: the last one, or that with number DECISION."""
    from yokai_assets.cli.characters import undo_decision

    undo_decision(config_file, decision_id)


@characters.command()
@with_config
def decisions(config_file: Path | None) -> None:
    """List every decision, and whether it holds."""
    from yokai_assets.cli.characters import list_decisions

    list_decisions(config_file)


@characters.command("export")
@with_config
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export(config_file: Path | None, file: Path) -> None:
    """Write what is decided of every character to a YAML file, to be edited and imported."""
    from yokai_assets.cli.character_file import export_decisions

    export_decisions(config_file, file)


@characters.command("import")
@with_config
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_(config_file: Path | None, file: Path) -> None:
    """Decide what a YAML file says. Characters that it does not name stay as they are; importing twice is harmless."""
    from yokai_assets.cli.character_file import import_decisions

    import_decisions(config_file, file)


@characters.command()
@with_config
def apply(config_file: Path | None) -> None:
    """Let decisions take effect now, without a whole run: only the registry is made anew."""
    from yokai_assets.cli.characters import apply_decisions

    raise SystemExit(apply_decisions(config_file))

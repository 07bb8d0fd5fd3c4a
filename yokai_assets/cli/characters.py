"""Seeing characters and deciding about them. Options are in `character_commands`, what decisions do in `registry`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import polars as pl
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from yokai_assets.cli.terminal import Terminal, terminal
from yokai_assets.previews.characters import character_montage
from yokai_assets.previews.cutouts import cutouts_of
from yokai_assets.previews.stages import groups_sheet
from yokai_assets.registry import DecisionLog, DecisionStore, Registry, RegistryError, RegistryStore
from yokai_assets.registry.deciding import (
    DecisionError,
    boxes_of,
    find_character,
    find_instances,
    propose_parts,
    references_to,
    require_sense,
)
from yokai_assets.registry.decisions import InstanceRef, Split, Undo, What
from yokai_assets.registry.states import GONE, STATE_MEANINGS
from yokai_assets.settings import Settings, load_settings
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_partitions
from yokai_assets.tables import EMBEDDINGS

HIDDEN_STATES = (*GONE, "not_a_character")


@dataclass(frozen=True, slots=True)
class Desk:
    """What there is to decide on: the newest registry and what was decided already."""

    settings: Settings
    layout: Layout
    registry: Registry
    store: DecisionStore
    log: DecisionLog

    @classmethod
    def open(cls, config_file: Path | None) -> "Desk":
        """Read them.

        Raises:
            click.ClickException: There is no registry yet, or it is damaged.
        """
        settings = load_settings(config_file)
        layout = Layout.of(settings)
        store = DecisionStore(layout.registry)
        try:
            registry, log = RegistryStore(layout.registry).load(), store.load()
        except RegistryError as error:
            raise click.ClickException(str(error)) from error
        if registry is None:
            raise click.ClickException(f"{layout.registry}: nobody has been found yet. Run `yokai run` first.")
        return cls(settings, layout, registry, store, log)

    def find(self, text: str) -> str:
        """Return the id of the character that an id or a name means."""
        return find_character(self.registry, self.log, text)

    def references(self, character_id: str, images: Sequence[str]) -> tuple[InstanceRef, ...]:
        """Return what a decision keeps of some of the character's images."""
        found = find_instances(self.registry, character_id, images)
        return references_to(found, boxes_of(found, self.layout))

    def called(self, character_id: str) -> str:
        """Return id and name."""
        name = self.log.names().get(character_id)
        return f"{character_id} ({name})" if name else character_id


def decide(config_file: Path | None, propose: Callable[[Desk], Sequence[What]], *, is_forced: bool = False) -> None:
    """Check decisions against what is there, write them down, and say what happens next.

    Raises:
        click.ClickException: One makes no sense; none is written then.
    """
    desk = Desk.open(config_file)
    try:
        whats = propose(desk)
        require_sense(whats, desk.registry, desk.log, is_forced=is_forced)
    except DecisionError as error:
        raise click.ClickException(str(error)) from error
    write_down(desk, whats)
    hint = f" --config {config_file}" if config_file else ""
    click.echo(f"Takes effect with the next `yokai run`, or now: yokai characters apply{hint}")


def write_down(desk: Desk, whats: Sequence[What]) -> None:
    """Write decisions, tell Dagster of them, and print them."""
    from yokai_assets.defs.operations.session import announce

    decisions = [desk.store.add(what) for what in whats]
    for decision in decisions:
        click.echo(f"Decision {decision.decision_id}: {decision.in_words()}.")
    announce(decisions, desk.store.load().fingerprint, desk.settings)


def list_characters(config_file: Path | None, is_all: bool) -> None:
    """Print a line per character, largest first."""
    desk = Desk.open(config_file)
    names = desk.log.names()
    rows = desk.registry.characters.sort(["member_count", "character_id"], descending=[True, False])
    shown = rows if is_all else rows.filter(~pl.col("state").is_in(HIDDEN_STATES))
    table = Table(box=None, header_style="bold")
    for column in ("character", "name", "state", "images", "episodes", ""):
        table.add_column(column, justify="right" if column in ("images", "episodes") else "left")
    for row in shown.iter_rows(named=True):
        other = f" {row['other_id']}" if row["other_id"] else ""
        note = row["reason"] if row["state"] != "active" and row["reason"] else ""
        state = f"[green]{row['state']}[/]" if row["state"] == "active" else f"[yellow]{row['state']}{other}[/]"
        if row["frozen_by"]:
            state += " [cyan]frozen[/]"
        table.add_row(
            row["character_id"],
            escape(names.get(row["character_id"], "")),
            state,
            f"{row['member_count']:,}",
            str(row["episode_count"]),
            escape(note),
        )
    console = Terminal()
    console.print(table)
    hidden = rows.height - shown.height
    if hidden:
        console.print(f"[dim]{hidden} merged, retired or dismissed: --all[/]")
    _say_what_waits(desk, console)


def show_character(config_file: Path | None, text: str, count: int, sheet: Path | None) -> None:
    """Print a character's state, images, events and decisions; draw its montage if asked to."""
    desk = Desk.open(config_file)
    try:
        character = desk.find(text)
    except DecisionError as error:
        raise click.ClickException(str(error)) from error
    row = desk.registry.characters.filter(pl.col("character_id") == character).row(0, named=True)
    console = Terminal()
    other = f" {row['other_id']}" if row["other_id"] else ""
    reason = f": {row['reason']}" if row["reason"] else ""
    console.print(f"[bold]{escape(desk.called(character))}[/] {row['state']}{other}{escape(reason)}")
    console.print(f"[dim]{STATE_MEANINGS[row['state']]}[/]")
    console.print(f"{row['member_count']:,} images in {row['episode_count']} episodes")
    members = desk.registry.members_of(character).sort("centroid_cosine", descending=True)
    for title, part in _typical_and_doubtful(members, count).items():
        console.print(f"\n[bold]{title}[/]")
        console.print(_images(part, desk.layout))
    events = desk.registry.events.filter(pl.col("character_id") == character)
    console.print("\n[bold]what happened[/]")
    for event in events.iter_rows(named=True):
        console.print(f"  {event['at']:%Y-%m-%d %H:%M} {event['kind']}: {escape(event['note'])}")
    for decision in desk.log.in_force:
        if character in decision.characters:
            console.print(f"  decision {decision.decision_id}: {escape(decision.in_words())} ({escape(decision.by)})")
    if sheet is not None:
        picture = character_montage(character, desk.registry, desk.layout)
        if picture is None:
            raise click.ClickException(f"{character}: it has no images to draw.")
        sheet.parent.mkdir(parents=True, exist_ok=True)
        picture.save(sheet)
        console.print(f"\n{escape(str(sheet))}: montage", soft_wrap=True)


def split_character(
    config_file: Path | None,
    text: str,
    images: Sequence[str],
    count: int | None,
    sheet: Path | None,
    *,
    is_sure: bool,
) -> None:
    """Write a split decision for named images, or for parts found by k-means once a person agrees to them."""

    def propose(desk: Desk) -> list[What]:
        character = desk.find(text)
        if count is None:
            return [Split(character_id=character, instances=desk.references(character, images))]
        parts = _parts(desk, character, count)
        for number, part in enumerate(parts):
            click.echo(f"part {number}: {len(part)} images{', stays' if number == 0 else ', a new character'}")
        picture = _parts_sheet(desk, parts)
        if picture is not None and sheet is not None:
            sheet.parent.mkdir(parents=True, exist_ok=True)
            picture.save(sheet)
            click.echo(f"{sheet}: a row per part")
        if not is_sure:
            click.confirm(f"Split {desk.called(character)} so?", abort=True)
        boxes = boxes_of([name for part in parts[1:] for name in part], desk.layout)
        return [Split(character_id=character, instances=references_to(part, boxes)) for part in parts[1:]]

    decide(config_file, propose)


def undo_decision(config_file: Path | None, decision_id: int | None) -> None:
    """Take back a decision, unset: the newest that holds."""

    def propose(desk: Desk) -> list[What]:
        if decision_id is not None:
            return [Undo(decision_id=decision_id)]
        holding = desk.log.in_force
        if not holding:
            raise DecisionError("There is no decision to take back.")
        return [Undo(decision_id=holding[-1].decision_id)]

    decide(config_file, propose)


def list_decisions(config_file: Path | None) -> None:
    """Print every decision with its status."""
    desk = Desk.open(config_file)
    told = {row["decision_id"]: row for row in desk.registry.decisions.iter_rows(named=True)}
    in_force = {decision.decision_id for decision in desk.log.in_force}
    table = Table(box=None, header_style="bold")
    for column in ("no.", "when", "who", "what", "status"):
        table.add_column(column, justify="right" if column == "no." else "left")
    for decision in desk.log.decisions:
        row = told.get(decision.decision_id)
        status = "waits for the next run" if row is None else row["status"]
        if decision.what.kind != "undo" and decision.decision_id not in in_force:
            status = "undone"
        reason = f": {row['reason']}" if row and row["reason"] else ""
        table.add_row(
            str(decision.decision_id),
            f"{decision.at:%Y-%m-%d %H:%M}",
            escape(decision.by),
            escape(decision.in_words()),
            escape(f"{status}{reason}"),
        )
    Terminal().print(table if desk.log.decisions else "Nothing is decided yet.")


def apply_decisions(config_file: Path | None) -> int:
    """Make the registry anew with the decisions. Returns the exit code."""
    from yokai_assets.cli.view import RoadView
    from yokai_assets.defs.operations.session import open_road
    from yokai_assets.defs.resources import SettingsResource

    before = Desk.open(config_file)
    source = SettingsResource.of(config_file)
    with terminal() as console, RoadView(console) as view:
        with open_road(source, observer=view, listener=view.step) as road:
            report = road.apply_decisions()
        if report.failures:
            if not report.has_worked:
                console.print(f"[red]not applied[/]: {escape(report.failures[0].reason)}")
            return 1
        now = Desk.open(config_file).registry
        if now.version == before.registry.version:
            console.print("Nothing changes.")
            return 0
        for event in now.new_events.iter_rows(named=True):
            console.print(f"{event['character_id']} {event['kind']}: {escape(event['note'])}")
        console.print("`yokai run` makes anew what depends on these.")
    return 0


def _say_what_waits(desk: Desk, console: Console) -> None:
    known = set(desk.registry.decisions["decision_id"])
    waiting = [d for d in desk.log.decisions if d.decision_id not in known]
    if waiting:
        console.print(f"[cyan]{len(waiting)} decisions wait for `yokai run` or `yokai characters apply`[/]")
    lapsed = desk.registry.decisions.filter(pl.col("status") == "lapsed")
    for row in lapsed.iter_rows(named=True):
        console.print(
            f"[yellow]decision {row['decision_id']} does not apply any more[/] "
            f"({escape(row['meaning'])}): {escape(row['reason'])}"
        )


def _typical_and_doubtful(members: pl.DataFrame, count: int) -> dict[str, pl.DataFrame]:
    if members.height <= 2 * count:
        return {"images, most typical first": members} if members.height else {}
    return {"most typical": members.head(count), "most doubtful": members.tail(count).reverse()}


def _images(members: pl.DataFrame, layout: Layout) -> Table:
    table = Table(box=None, show_header=False)
    for column in ("instance", "cosine", "cut-out"):
        table.add_column(column, overflow="fold" if column == "cut-out" else "ellipsis", no_wrap=column != "cut-out")
    files = cutouts_of(members, layout)
    for row in members.iter_rows(named=True):
        name = row["instance_id"]
        table.add_row(f"  {name}", f"{row['centroid_cosine']:.3f}", files.get(name, "its cut-out is gone"))
    return table


def _parts(desk: Desk, character: str, count: int) -> list[list[str]]:
    """Return the instances of each proposed part, the largest first."""
    members = desk.registry.members_of(character)
    is_member = pl.col("instance_id").is_in(members["instance_id"].implode())
    rows = read_partitions(
        EMBEDDINGS, desk.layout.tables / "embeddings", members["episode"].unique().to_list(), where=is_member
    ).sort("instance_id")
    if rows["model_fingerprint"].n_unique() > 1:
        raise DecisionError(f"{character}: its vectors are of several models. Run `yokai run` first.")
    vectors = np.asarray(rows["vector"].to_list(), dtype=np.float32)
    labels = propose_parts(vectors, count, desk.settings.seed)
    return [rows["instance_id"].filter(pl.Series(labels == number)).to_list() for number in range(count)]


def _parts_sheet(desk: Desk, parts: list[list[str]]) -> Image.Image | None:
    members = desk.registry.members
    groups = {}
    for number, part in enumerate(parts):
        own = members.filter(pl.col("instance_id").is_in(part)).sort("centroid_cosine", descending=True).head(8)
        files = cutouts_of(own, desk.layout)
        groups[f"part {number} ({len(part)})"] = [files[name] for name in own["instance_id"] if name in files]
    return groups_sheet(groups, desk.layout)

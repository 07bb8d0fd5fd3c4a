"""Decisions as a YAML file, for people who prefer one: written from what holds, read as what is to hold."""

from pathlib import Path

import click
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from yokai_assets.cli.characters import Desk, write_down
from yokai_assets.registry.deciding import DecisionError, require_sense
from yokai_assets.registry.decisions import (
    Accept,
    Decision,
    DecisionLog,
    Dismiss,
    Exclude,
    Freeze,
    Merge,
    Name,
    Retire,
    Split,
    Undo,
    What,
)
from yokai_assets.storage.files import write_text

_HEADER = """\
# What is decided of the characters of {series}. Edit, then: yokai characters import {file}
# Keys of a character: name, merged_into, judgement (dismiss, accept or retire), is_frozen, excluded, split.
# `excluded` lists images; `split` lists groups of images, each of which is another character.
"""


class CharacterEntry(BaseModel):
    """What a file says of one character; what it leaves out is not decided."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    merged_into: str | None = None
    judgement: str | None = Field(default=None, pattern="^(dismiss|accept|retire)$")
    is_frozen: bool = False
    excluded: list[str] = Field(default_factory=list)
    split: list[list[str]] = Field(default_factory=list)


class CharacterFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    characters: dict[str, CharacterEntry]


def export_decisions(config_file: Path | None, file: Path) -> None:
    """Write what holds of every character; one of which nothing is decided stands there empty, to be filled in."""
    desk = Desk.open(config_file)
    entries = {
        character: _entry_of(character, desk.log).model_dump(exclude_defaults=True)
        for character in desk.registry.characters["character_id"]
    }
    text = yaml.safe_dump({"characters": entries}, sort_keys=False, allow_unicode=True, width=118)
    write_text(file, _HEADER.format(series=desk.settings.series, file=file) + text)
    click.echo(f"Wrote {file}: {len(entries)} characters.")


def import_decisions(config_file: Path | None, file: Path) -> None:
    """Decide what it takes to make the file true. Nothing is written where one line makes no sense."""
    desk = Desk.open(config_file)
    said = _read(file)
    try:
        wanted = {desk.find(text): entry for text, entry in said.characters.items()}
        whats = [what for character, entry in wanted.items() for what in _steps(character, entry, desk)]
        require_sense(whats, desk.registry, desk.log)
    except DecisionError as error:
        raise click.ClickException(f"{file}: {error} Nothing of the file was taken over.") from error
    if not whats:
        click.echo("Nothing to decide: all of it holds already.")
        return
    write_down(desk, whats)


def _read(file: Path) -> CharacterFile:
    try:
        return CharacterFile.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file}: {' '.join(str(error).split())[:400]}") from error


def _entry_of(character: str, log: DecisionLog) -> CharacterEntry:
    name, judgement = log.last(character, Name), log.last(character, Dismiss, Accept, Retire)
    return CharacterEntry(
        name=name.what.name if name and isinstance(name.what, Name) else "",
        merged_into=next((d.what.character_id for d in _merges(character, log) if isinstance(d.what, Merge)), None),
        judgement=judgement.what.kind if judgement else None,
        is_frozen=log.last(character, Freeze) is not None,
        excluded=sorted({name for decision in _of(character, Exclude, log) for name in _names(decision)}),
        split=[_names(decision) for decision in _of(character, Split, log)],
    )


def _steps(character: str, entry: CharacterEntry, desk: Desk) -> list[What]:
    """Return the decisions that lead from what holds to what the entry says."""
    log, now = desk.log, _entry_of(character, desk.log)
    steps: list[What] = []
    if entry.merged_into is not None:
        entry.merged_into = desk.find(entry.merged_into)
    if entry.merged_into != now.merged_into:
        steps += [Undo(decision_id=d.decision_id) for d in _merges(character, log)]
        if entry.merged_into:
            steps.append(Merge(character_id=entry.merged_into, other=character))
    if entry.name != now.name:
        steps.append(Name(character_id=character, name=entry.name))
    if entry.judgement != now.judgement:
        kinds = {"dismiss": Dismiss, "accept": Accept, "retire": Retire}
        if entry.judgement:
            steps.append(kinds[entry.judgement](character_id=character))
        else:
            steps += [Undo(decision_id=d.decision_id) for k in kinds.values() for d in _of(character, k, log)]
    if entry.is_frozen != now.is_frozen:
        undo: list[What] = [Undo(decision_id=d.decision_id) for d in _of(character, Freeze, log)]
        steps += [Freeze(character_id=character)] if entry.is_frozen else undo
    steps += _image_steps(character, entry, now, desk)
    return steps


def _image_steps(character: str, entry: CharacterEntry, now: CharacterEntry, desk: Desk) -> list[What]:
    steps: list[What] = []
    if set(entry.excluded) != set(now.excluded):
        before = [d for d in _of(character, Exclude, desk.log) if isinstance(d.what, Exclude)]
        held = {ref.instance_id: ref for d in before if isinstance(d.what, Exclude) for ref in d.what.instances}
        steps += [Undo(decision_id=d.decision_id) for d in before]
        kept = tuple(held[name] for name in entry.excluded if name in held)
        new = desk.references(character, [name for name in entry.excluded if name not in held])
        if kept or new:
            steps.append(Exclude(character_id=character, instances=kept + new))
    known = [set(part) for part in now.split]
    for part in entry.split:
        if set(part) not in known:
            steps.append(Split(character_id=character, instances=desk.references(character, part)))
    wanted = [set(part) for part in entry.split]
    steps += [Undo(decision_id=d.decision_id) for d in _of(character, Split, desk.log) if set(_names(d)) not in wanted]
    return steps


def _of(character: str, kind: type[BaseModel], log: DecisionLog) -> list[Decision]:
    return [d for d in log.in_force if isinstance(d.what, kind) and getattr(d.what, "character_id", "") == character]


def _merges(character: str, log: DecisionLog) -> list[Decision]:
    return [d for d in log.in_force if isinstance(d.what, Merge) and d.what.other == character]


def _names(decision: Decision) -> list[str]:
    what = decision.what
    return [reference.instance_id for reference in what.instances] if isinstance(what, Split | Exclude) else []

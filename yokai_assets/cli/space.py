"""`yokai space`: what takes how much, what may go, what must stay, and whether the rest will fit. Printing only."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from upath import UPath

from yokai_assets.cli.terminal import Terminal
from yokai_assets.defs.operations.retaining import plan_now, retain
from yokai_assets.defs.operations.session import open_instance
from yokai_assets.defs.operations.space import in_words
from yokai_assets.retention.applying import RetentionResult
from yokai_assets.retention.ledger import removed_layers
from yokai_assets.retention.planning import RetentionPlan
from yokai_assets.retention.removal import Kept, Removal
from yokai_assets.retention.room import Rates, Room, bytes_of_episodes, rates_of, room_of
from yokai_assets.settings import Settings, load_settings
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import table_files
from yokai_assets.storage.sizes import stage_bytes

_REASONS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class _Space:
    """What is to be shown: what may go and, where it has gone, the result and the bytes of each stage after it."""

    settings: Settings
    plan: RetentionPlan
    result: RetentionResult | None
    after: dict[str, int] | None
    room: Room | None
    rates: Rates

    @property
    def layout(self) -> Layout:
        return Layout.of(self.settings)


def show_space(
    config_file: Path | None,
    output_dir: str | None,
    is_applied: bool,
    layers: str | None,
    budget_gb: float | None,
    plates: str | None,
    checkpoints: int | None,
    as_json: bool,
) -> int:
    """Print it, and remove what may go where that is asked for. Returns 1 where something could not be removed."""
    asked = {"layers": layers, "budget_gb": budget_gb, "plates": plates, "checkpoints_per_character": checkpoints}
    settings = load_settings(config_file, overrides={"data_root": output_dir, "retention": asked})
    layout, result = Layout.of(settings), None
    with open_instance(settings) as instance:
        if is_applied:
            plan, result = retain(instance, settings)
        else:
            plan = plan_now(instance, settings)
    after = stage_bytes(layout) if result else None
    space = _Space(settings, plan, result, after, room_of(settings), rates_of(layout, after or plan.stage_bytes))
    if as_json:
        print(json.dumps(_as_json(space), indent=2))
    else:
        _print(Terminal(), space)
    return 1 if result and result.problems else 0


def _print(console: Console, space: _Space) -> None:
    plan, result = space.plan, space.result
    console.print(_stage_table(plan, space.after))
    for removal in _by_reason(plan.removals):
        console.print(f"  [cyan]{'removed' if result else 'may go'}[/] {removal}", soft_wrap=True)
    reasons = _by_reason(plan.kept)
    for kept in reasons[:_REASONS_SHOWN]:
        console.print(f"  [yellow]needed[/] {kept}", soft_wrap=True)
    if len(reasons) > _REASONS_SHOWN:
        console.print(f"  [dim]... and {len(reasons) - _REASONS_SHOWN} more reasons (--json)[/]")
    removed = removed_layers(space.layout)
    if removed:
        console.print(f"  [dim]layers of {len(removed)} episodes are removed; what reads them makes them again[/]")
    if result:
        console.print(f"[green]Freed {in_words(result.freed_bytes)}.[/]")
        for problem in result.problems:
            console.print(f"  [red]left[/] {escape(problem)}", soft_wrap=True)
    elif plan.removals:
        console.print(f"[bold]{in_words(plan.size_bytes)}[/] may go: `yokai space --apply`, with the same options.")
    elif space.settings.retention.layers == "keep":
        console.print(
            "Nothing would be removed: `retention.layers` is `keep`. What would go otherwise: "
            "`yokai space --layers until_dataset`."
        )
    else:
        console.print("Nothing may go now.")
    if space.room:
        console.print(_room_in_words(space.settings, space.room, space.rates), soft_wrap=True)


def _stage_table(plan: RetentionPlan, after: dict[str, int] | None) -> Table:
    before, freed = plan.stage_bytes, plan.freed_by_stage()
    table = Table(box=None, header_style="bold")
    for column in ("stage", "before" if after else "now", "freed" if after else "may go", "after"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in sorted(before, key=lambda stage: -before[stage]):
        left = after.get(stage, 0) if after else before[stage] - freed.get(stage, 0)
        gone = before[stage] - left
        table.add_row(stage, in_words(before[stage]), in_words(gone) if gone else "", in_words(left))
    total = sum(before.values())
    left = sum(after.values()) if after else total - plan.size_bytes
    table.add_row("[bold]all[/]", in_words(total), in_words(total - left) if total - left else "", in_words(left))
    return table


def _by_reason(items: Sequence[Removal | Kept]) -> list[str]:
    """Return a line for each stage and reason: how many partitions, how much; most first."""
    counts: Counter[tuple[str, str]] = Counter()
    partitions: dict[tuple[str, str], list[str]] = {}
    for item in items:
        counts[item.stage, item.why] += item.size_bytes
        partitions.setdefault((item.stage, item.why), []).append(item.partition)
    lines = []
    for (stage, why), size_bytes in counts.most_common():
        names = partitions[stage, why]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        lines.append(f"{stage} of {escape(shown)}, {in_words(size_bytes)}: {escape(why)}")
    return lines


def _to_come(settings: Settings, rates: Rates) -> tuple[int, float, int, float]:
    """Return how many episodes and characters are not made yet, and the bytes that they will leave."""
    from yokai_assets.frames.episodes import discover_episodes
    from yokai_assets.registry import RegistryStore

    layout, source = Layout.of(settings), UPath(settings.frames_source)
    made = table_files(layout.tables / "embeddings").keys()
    found = discover_episodes(source)[0] if source.exists() else []
    episodes = [episode for episode in found if episode.key not in made]
    registry = RegistryStore(layout.registry).load()
    trainable = registry.trainable_ids()[: settings.max_characters] if registry else []
    characters = set(trainable) - table_files(layout.tables / "lora_evaluation").keys()
    return (
        len(episodes),
        bytes_of_episodes(episodes, settings, rates),
        len(characters),
        len(characters) * rates.character_bytes,
    )


def _room_in_words(settings: Settings, room: Room, rates: Rates) -> str:
    episodes, episode_bytes, characters, character_bytes = _to_come(settings, rates)
    parts = []
    for count, name, size_bytes, is_measured in (
        (episodes, "episodes", episode_bytes, rates.are_measured[0]),
        (characters, "characters", character_bytes, rates.are_measured[1]),
    ):
        if count:
            basis = "as those made" if is_measured else "as is usual: none is made yet"
            parts.append(f"{count} {name} about {in_words(size_bytes)} ({basis})")
    free, reserved = in_words(room.free_bytes), in_words(room.reserved_bytes)
    words = f"{free} free at {room.place}; `yokai run` leaves {reserved} of it free."
    if parts:
        words += f" Still to come: {'; '.join(parts)}."
        if episode_bytes + character_bytes > room.usable_bytes:
            words += " [red]That does not fit: the run will pause.[/]"
    return words


def _as_json(space: _Space) -> dict[str, Any]:
    plan, result, room = space.plan, space.result, space.room
    episodes, episode_bytes, characters, character_bytes = _to_come(space.settings, space.rates)
    removals = result.done if result else plan.removals
    return {
        "policy": space.settings.retention.model_dump(mode="json"),
        "stage_bytes": {"before": dict(plan.stage_bytes), "after": space.after},
        "is_applied": result is not None,
        "freed_bytes": result.freed_bytes if result else plan.size_bytes,
        "removals": [
            {"stage": r.stage, "partition": r.partition, "files": len(r.paths), "bytes": r.size_bytes, "why": r.why}
            for r in removals
        ],
        "needed": [
            {"stage": k.stage, "partition": k.partition, "bytes": k.size_bytes, "why": k.why} for k in plan.kept
        ],
        "problems": list(result.problems) if result else [],
        "removed_layers": {
            episode: {kind.value: removed.model_dump(mode="json") for kind, removed in kinds.items()}
            for episode, kinds in removed_layers(space.layout).items()
        },
        "room": {"place": room.place, "free_bytes": room.free_bytes, "reserved_bytes": room.reserved_bytes}
        if room
        else None,
        "to_come": {
            "episodes": episodes,
            "episode_bytes": round(episode_bytes),
            "characters": characters,
            "character_bytes": round(character_bytes),
        },
    }

"""`yokai demo`: draw the series, drive the road, hold what was found against the truth.

The drawing is `yokai_assets.demo.series`, the comparison `yokai_assets.demo.score`; what is required of a demo
is stated here, in `requirements`.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from yokai_assets.cli.terminal import terminal
from yokai_assets.cli.view import RoadView
from yokai_assets.demo.score import Score, score_against_truth
from yokai_assets.demo.series import generate_series
from yokai_assets.demo.truth import Truth
from yokai_assets.registry import Registry, RegistryStore
from yokai_assets.settings import Settings
from yokai_assets.storage.files import write_text
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_partitions
from yokai_assets.tables import EVALUATIONS, FRAMES, INSTANCES

_SETTINGS = """\
# Written by `yokai demo`. Used by `yokai ui --config ...`, `yokai sql --config ...` and so on.
profile = "demo"
series = "demo"
frames_source = "frames"
data_root = "data"
device = "{device}"
"""

MIN_ARI = 0.95
MAX_NOISE_SHARE = 0.15
MIN_COVERED_SHARE = 0.5
MIN_IDENTIFICATION = 0.9


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something that a demo must come to, and whether it did."""

    text: str
    is_met: bool
    actual: str


def run_demo(folder: Path, episodes: int, frames_per_episode: int, characters: int, seed: int, device: str) -> int:
    """Run the demo in `folder`. Returns 0 if everything required came true, else 1."""
    from yokai_assets.defs.operations.session import open_road
    from yokai_assets.defs.resources import SettingsResource

    start = time.perf_counter()
    with terminal() as console, RoadView(console) as view:
        truth = generate_series(
            folder / "frames",
            episodes=episodes,
            frames_per_episode=frames_per_episode,
            characters=characters - 1,
            rare_characters=1,
            seed=seed,
            progress=lambda done, total, note="": view.step("drawing the series", None, done, total, note),
        )
        console.print(
            f"[bold]Demo series[/]: {episodes} episodes, {truth.frames.height} frames, {characters} characters "
            f"(one of them rare) in {folder / 'frames'}"
        )
        config = folder / "yokai.toml"
        write_text(config, _SETTINGS.format(device=device))
        source = SettingsResource.of(config)
        settings = source.load()
        with open_road(source, observer=view, listener=view.step) as road:
            report = road.drive()
        for problem in report.problems:
            console.print(f"[yellow]not read[/] {escape(str(problem))}")
        checks = list(_tell(console, truth, settings))
        _print_requirements(console, checks)
        _print_ways_on(console, config, settings, time.perf_counter() - start)
    has_failed = any(not failure.is_check for failure in report.failures) or not all(c.is_met for c in checks)
    return 1 if has_failed else 0


def _tell(console: Console, truth: Truth, settings: Settings) -> Iterator[Requirement]:
    layout = Layout.of(settings)
    registry = RegistryStore(layout.registry).load()
    if registry is None:
        yield Requirement("the characters are found", False, "there is no registry: see the failures above")
        return
    instances = read_partitions(INSTANCES, layout.tables / "character_layers")
    assignments = dict(registry.members.select("instance_id", "character_id").iter_rows())
    score = score_against_truth(truth, instances, assignments, registry.characters)
    evaluations = read_partitions(EVALUATIONS, layout.tables / "lora_evaluation")
    frames = read_partitions(FRAMES, layout.tables / "frames")
    console.print(score)
    console.print(_lora_table(registry, evaluations))
    yield from requirements(truth, score, registry, evaluations, frames)


def requirements(
    truth: Truth, score: Score, registry: Registry, evaluations: pl.DataFrame, frames: pl.DataFrame
) -> Iterator[Requirement]:
    """Yield what a demo must come to, held against the truth."""
    states = dict(registry.characters.select("character_id", "state").iter_rows())
    frequent = [one for one in score.characters if not one.is_rare]
    found = [one.best_id for one in frequent]
    active = sorted(key for key, state in states.items() if state == "active")
    yield Requirement(
        "every frequent character is exactly one character of the registry",
        sorted(filter(None, found)) == active and len(set(found)) == len(found),
        f"{len(set(found) - {None})} of {len(frequent)} found; active in the registry: {', '.join(active) or 'none'}",
    )
    yield Requirement(
        f"no two are mixed (ARI at least {MIN_ARI})",
        score.adjusted_rand_index >= MIN_ARI,
        f"ARI {score.adjusted_rand_index:.3f}",
    )
    yield Requirement(
        f"at most {MAX_NOISE_SHARE:.0%} noise", score.noise_share <= MAX_NOISE_SHARE, f"{score.noise_share:.1%}"
    )
    rare = [(one.name, states.get(one.best_id or "", "not found")) for one in score.characters if one.is_rare]
    yield Requirement(
        "the rare character is reported as too small",
        all(state == "too_small" for _, state in rare),
        ", ".join(f"{name}: {state}" for name, state in rare),
    )
    yield _faults_requirement(truth, frames)
    best = evaluations.filter(pl.col("is_chosen"))
    base = evaluations.filter(pl.col("step") == 0).select("character_id", base="resemblance")
    beaten = best.join(base, on="character_id").filter(pl.col("resemblance_low") > pl.col("base"))
    yield Requirement(
        "every LoRA's pictures resemble their character more than the base model's do (95 % interval)",
        bool(active) and set(beaten["character_id"]) >= set(active),
        f"{beaten.height} of {len(active)}",
    )
    clear = best.filter(
        (pl.col("covered_share") >= MIN_COVERED_SHARE) & (pl.col("identification") >= MIN_IDENTIFICATION)
    )
    yield Requirement(
        f"every LoRA covers at least {MIN_COVERED_SHARE:.0%} of the way from base to real pictures, and at least "
        f"{MIN_IDENTIFICATION:.0%} of its pictures are recognised",
        bool(active) and set(clear["character_id"]) >= set(active),
        f"{clear.height} of {len(active)}",
    )


def _faults_requirement(truth: Truth, frames: pl.DataFrame) -> Requirement:
    planted = truth.frames.filter(pl.col("fault").is_in(["truncated", "empty"]))["file"]
    reported = frames.filter(pl.col("status") == "unreadable")["source"]
    return Requirement(
        "every planted broken file is reported, no sound one is",
        set(planted) == set(reported),
        f"{len(set(planted) & set(reported))} of {len(planted)} reported, {len(set(reported) - set(planted))} wrongly",
    )


def _lora_table(registry: Registry, evaluations: pl.DataFrame) -> Table:
    table = Table(title="LoRAs: mean cosine of drawn to held-out pictures")
    for column in ("character", "state", "images", "base model", "LoRA [95 %]", "real", "way covered", "recognised"):
        table.add_column(column, justify="left" if column in ("character", "state") else "right")
    for character in registry.characters.sort("character_id").iter_rows(named=True):
        rows = evaluations.filter(pl.col("character_id") == character["character_id"])
        base = rows.filter(pl.col("step") == 0).to_dicts()
        best = rows.filter(pl.col("is_chosen")).to_dicts()
        scores = _scores(base[0], best[0]) if base and best else ("",) * 5
        table.add_row(character["character_id"], character["state"], str(character["member_count"]), *scores)
    return table


def _scores(base: dict, best: dict) -> tuple[str, ...]:
    covered = "" if best["covered_share"] is None else f"{best['covered_share']:.0%}"
    return (
        f"{base['resemblance']:.3f}",
        "{resemblance:.3f} [{resemblance_low:.3f}, {resemblance_high:.3f}]".format(**best),
        f"{best['real_to_real']:.3f}",
        covered,
        f"{best['identification']:.0%}",
    )


def _print_requirements(console: Console, checks: list[Requirement]) -> None:
    for check in checks:
        mark = "[green]yes[/]" if check.is_met else "[red]NO[/] "
        console.print(f"  {mark} {check.text}: [dim]{check.actual}[/]")


def _print_ways_on(console: Console, config: Path, settings: Settings, seconds: float) -> None:
    layout = Layout.of(settings)
    console.print(f"[bold]{seconds:.0f} s.[/] Gallery: {layout.gallery / 'index.html'}")
    console.print(f"Dagster UI: yokai ui --config {config}    SQL: yokai sql --config {config}")

"""`yokai demo`: draw the series, drive the road, hold what was found against the truth.

The drawing is `yokai_assets.demo.series`, the comparison `yokai_assets.demo.score`; what is required of a demo
is stated here, in `requirements`.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from yokai_assets.cli.view import RoadView, terminal
from yokai_assets.demo.score import score_against_truth
from yokai_assets.demo.series import generate_series
from yokai_assets.demo.truth import Truth
from yokai_assets.registry import RegistryStore
from yokai_assets.settings import Settings, load_settings
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


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something that a demo must come to, and whether it did."""

    text: str
    is_met: bool
    actual: str


def run_demo(folder: Path, episodes: int, frames_per_episode: int, characters: int, seed: int, device: str) -> int:
    """Run the demo in `folder`. Returns 0 if everything required came true, else 1."""
    from yokai_assets.defs.operations.session import open_road

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
        settings = load_settings(config, environment={})
        with open_road(settings, observer=view, listener=view.step) as road:
            report = road.drive()
        for problem in report.problems:
            console.print(f"[yellow]not read[/] {problem.path}: {problem.reason}. {problem.remedy}")
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
    console.print(_characters_table(truth, score, registry, evaluations))
    yield from requirements(truth, score, registry, evaluations)
    yield _faults_requirement(truth, read_partitions(FRAMES, layout.tables / "frames"))

"""Everything the report is made of, read once: stages, episodes, characters, comparison, failures, bytes.

Reading and counting only. Large tables (a row per frame) are read by column and kept as counts. What only Dagster
knows, how long the stages took, is handed in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import polars as pl
from upath import UPath

from yokai_assets.evaluation.crossing import taken_for_others
from yokai_assets.gallery.characters import CharacterEntry, load_character
from yokai_assets.gallery.failures import FailureRecord, IsOver, open_failures
from yokai_assets.gallery.scenes import Scene, load_scenes
from yokai_assets.registry import Registry, RegistryError, RegistryStore
from yokai_assets.storage.files import is_local
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_table_if_there, table_files
from yokai_assets.storage.sizes import SHARED_CACHES, SHARED_WORK, stage_bytes
from yokai_assets.tables import LORA_COMPARISONS, TableError

Scope = Literal["episodes", "series", "characters"]

STAGES: Mapping[str, Scope] = {
    "frames": "episodes",
    "character_layers": "episodes",
    "background_layers": "episodes",
    "embeddings": "episodes",
    "repeated_frames": "series",
    "embedding_index": "series",
    "clusters": "series",
    "group_quality": "series",
    "character_registry": "series",
    "regularisation_set": "series",
    "character_members": "characters",
    "character_profile": "characters",
    "captions": "characters",
    "training_dataset": "characters",
    "lora_model": "characters",
    "lora_evaluation": "characters",
    "published_lora": "characters",
    "lora_comparison": "series",
    "catalog": "series",
}
"""The road in its order: stage -> what it is done for. Without the report: it could only tell of the one before."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """Time that a stage took so far, repeats included, as its finished runs measured it.

    Attributes:
        seconds: Of all of them together.
        gpu_seconds: Of those that ran on a GPU.
        run_count: How many there were.
        newest_at: When the last one ended.
    """

    seconds: float
    gpu_seconds: float
    run_count: int
    newest_at: datetime


@dataclass(frozen=True, slots=True)
class StageSummary:
    """What a stage has made and what it took.

    Attributes:
        name: Name of its asset.
        scope: `episodes`, `series` or `characters`: what it is done for.
        partition_count: Episodes or characters that it is done for; 1 for the series.
        row_count: Rows of its tables; 0 for stages that write none.
        newest_at: When the newest was written; None where it has not run, or cannot be told.
        size_bytes: On disk.
        time: What it took; None where nobody knows.
    """

    name: str
    scope: Scope
    partition_count: int = 0
    row_count: int = 0
    newest_at: datetime | None = None
    size_bytes: int = 0
    time: StageTime | None = None


@dataclass(slots=True)
class GalleryData:
    """The whole series as the report shows it.

    Attributes:
        series: Its name.
        read_at: When this was read.
        stages: In the order of the road.
        episodes: One row per episode: `episode`, `frame_count`, `unique_count` (without near-duplicates),
            `unreadable_count`, `blank_count` (black, blank, faded, credits), `instance_count`.
        characters: In order of ids.
        map_points: Character ids and 2-D positions where similar-looking characters are near, if it can be drawn.
        failures: Open failures, newest first.
        shared_bytes: Bytes of what all series of the data root share, by kind.
        comparison: Rows of `LORA_COMPARISONS`; none before there is a judged LoRA.
        registry_version: Version of the registry; None before the first clustering.
        problems: Files that could not be read.
    """

    series: str
    read_at: datetime
    stages: list[StageSummary]
    episodes: pl.DataFrame
    characters: list[CharacterEntry]
    map_points: dict[str, tuple[float, float]] = field(default_factory=dict)
    failures: list[FailureRecord] = field(default_factory=list)
    shared_bytes: dict[str, int] = field(default_factory=dict)
    comparison: pl.DataFrame = field(default_factory=LORA_COMPARISONS.empty)
    registry_version: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def storage_bytes(self) -> dict[str, int]:
        """Bytes of stages that left any, and of what is shared."""
        own = {stage.name: stage.size_bytes for stage in self.stages if stage.size_bytes}
        return own | self.shared_bytes

    @property
    def is_timed(self) -> bool:
        """Whether it is known how long stages took."""
        return any(stage.time for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Time of all stages together."""
        return sum(stage.time.seconds for stage in self.stages if stage.time)

    @property
    def gpu_seconds(self) -> float:
        """Time of all stages on a GPU."""
        return sum(stage.time.gpu_seconds for stage in self.stages if stage.time)

    @property
    def taken_for_others(self) -> pl.DataFrame:
        """Characters whose own LoRA resembles them no more than another's."""
        return taken_for_others(self.comparison)

    def with_status(self, *statuses: str) -> list[CharacterEntry]:
        """Return the characters of some statuses."""
        return [entry for entry in self.characters if entry.status in statuses]


_EPISODES = pl.Schema(
    {
        "episode": pl.String,
        "frame_count": pl.Int64,
        "unique_count": pl.Int64,
        "unreadable_count": pl.Int64,
        "blank_count": pl.Int64,
        "instance_count": pl.Int64,
    }
)


def load_gallery_data(
    layout: Layout,
    *,
    at: datetime | None = None,
    is_over: IsOver | None = None,
    times: Mapping[str, StageTime] | None = None,
) -> GalleryData:
    """Read what the stages left behind. Missing things are stages that have not run, damaged ones are problems.

    Args:
        layout: Where everything lies.
        at: Time to note; unset: now.
        is_over: Says which failures of the log are over; unset: files tell.
        times: How long stages took, where that is known.
    """
    problems: list[str] = []
    data = GalleryData(
        series=layout.series,
        read_at=at or datetime.now(UTC),
        stages=[],
        episodes=_read_episodes(layout),
        characters=[],
        failures=open_failures(layout, is_over),
        comparison=_read_comparison(layout, problems),
        problems=problems,
    )
    _add_characters(data, layout)
    sizes = stage_bytes(layout)
    data.stages = [_summarise(name, data, layout, sizes.get(name, 0), (times or {}).get(name)) for name in STAGES]
    data.shared_bytes = {name: sizes[name] for name in (SHARED_CACHES, SHARED_WORK) if name in sizes}
    return data


def _add_characters(data: GalleryData, layout: Layout) -> None:
    from yokai_assets.gallery.character_map import place_characters

    try:
        registry = RegistryStore(layout.registry).load()
    except (RegistryError, OSError) as error:
        data.problems.append(f"The character registry cannot be read: {error}")
        return
    if registry is None:
        return
    data.registry_version = registry.version
    characters = registry.characters.sort("character_id")
    states = dict(characters.select("character_id", "state").iter_rows())
    # Nobody will mend what failed for a character that is not trained any more.
    data.failures = [failure for failure in data.failures if states.get(failure.partition or "", "active") == "active"]
    wanted = characters["exemplars"].explode().drop_nulls().unique().to_list()
    scenes = load_scenes(wanted, layout, data.problems)
    data.characters = [_character(row, registry, layout, scenes, data.failures) for row in characters.to_dicts()]
    data.failures = [failure for failure in data.failures if not failure.is_too_small]
    shown = characters.filter(~pl.col("state").is_in(["retired", "merged_into", "not_a_character"]))
    data.map_points = place_characters(shown)


def _character(
    row: dict[str, object],
    registry: Registry,
    layout: Layout,
    scenes: Mapping[str, Scene],
    failures: Iterable[FailureRecord],
) -> CharacterEntry:
    character_id = str(row["character_id"])
    events = registry.events.filter(pl.col("character_id") == character_id).sort("event_id")
    # A merge is kept with the one that goes on, and concerns the other, too.
    concerns = pl.col("meaning").str.split(" ").list.contains(character_id)
    decisions = registry.decisions.filter((pl.col("character_id") == character_id) | concerns).sort("decision_id")
    own_failures = [failure for failure in failures if failure.partition == character_id]
    return load_character(row, layout, scenes, events.to_dicts(), decisions.to_dicts(), own_failures)


def _read_comparison(layout: Layout, problems: list[str]) -> pl.DataFrame:
    try:
        return read_table_if_there(LORA_COMPARISONS, layout.table("lora_comparison"))
    except TableError as error:
        problems.append(str(error))
        return LORA_COMPARISONS.empty()


def _summarise(name: str, data: GalleryData, layout: Layout, size_bytes: int, time: StageTime | None) -> StageSummary:
    single = layout.table(name)
    files = list(table_files(layout.tables / name).values()) or ([single] if single.exists() else [])
    rows, newest = 0, 0.0
    for file in files:
        try:
            rows += _row_count(file)
            newest = max(newest, file.stat().st_mtime)
        except (pl.exceptions.PolarsError, OSError) as error:
            data.problems.append(f"{file}: cannot be read ({error}). Materialize its partition again.")
    count = len(files) or _count_without_table(name, data, has_files=size_bytes > 0, time=time)
    newest_at = datetime.fromtimestamp(newest, UTC) if newest else time.newest_at if time else None
    return StageSummary(name, STAGES[name], count, rows, newest_at, size_bytes, time)


def _count_without_table(name: str, data: GalleryData, *, has_files: bool, time: StageTime | None) -> int:
    """Return what a stage that writes no table is done for."""
    counts = {
        "character_profile": sum(entry.profile is not None for entry in data.characters),
        "lora_model": sum(entry.training is not None for entry in data.characters),
        "published_lora": sum(entry.lora is not None for entry in data.characters),
        "lora_evaluation": sum(entry.evaluation is not None for entry in data.characters),
    }
    if name in counts:
        return counts[name]
    return int(STAGES[name] == "series" and (has_files or time is not None))


def _row_count(file: UPath) -> int:
    import pyarrow.parquet

    with file.open("rb") as stream:
        try:
            return pyarrow.parquet.ParquetFile(stream).metadata.num_rows
        except ValueError as error:  # pyarrow's errors are ValueErrors
            raise OSError(str(error)) from error


def _columns(file: UPath, columns: list[str]) -> pl.DataFrame:
    if is_local(file):
        return pl.read_parquet(str(file), columns=columns)
    with file.open("rb") as stream:
        return pl.read_parquet(stream, columns=columns)


def _read_episodes(layout: Layout) -> pl.DataFrame:
    rows = []
    instances = table_files(layout.tables / "character_layers")
    for episode, file in table_files(layout.tables / "frames").items():
        try:
            frames = _columns(file, ["frame_id", "status", "representative"])
            count = _row_count(instances[episode]) if episode in instances else 0
        except (pl.exceptions.PolarsError, OSError):
            continue  # named by the stage summary already
        status = frames["status"]
        rows.append(
            {
                "episode": episode,
                "frame_count": frames.height,
                "unique_count": int((frames["frame_id"] == frames["representative"]).sum()),
                "unreadable_count": int((status == "unreadable").sum()),
                "blank_count": int(status.is_in(["dark", "blank", "faded", "credits"]).sum()),
                "instance_count": count,
            }
        )
    return pl.DataFrame(rows, schema=_EPISODES)

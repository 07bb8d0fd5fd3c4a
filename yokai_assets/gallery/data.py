"""Everything the report is made of, read once: counts of stages, episodes, characters, failures, bytes.

Reading and counting only. Large tables (a row per frame) are read by column and kept as counts.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from upath import UPath

from yokai_assets.gallery.characters import CharacterEntry, load_character
from yokai_assets.gallery.failures import FailureRecord, IsOver, open_failures
from yokai_assets.registry import RegistryError, RegistryStore
from yokai_assets.storage.files import is_local
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import table_files

EPISODE_STAGES = ("frames", "character_layers", "background_layers", "embeddings")
SERIES_STAGES = ("clusters",)
CHARACTER_STAGES = ("character_members", "captions", "training_dataset", "lora_evaluation")
_FOLDER_OF_KIND = {
    "layers": "layers",
    "tables": "tables",
    "training sets": "training_data",
    "models": "models",
    "caches": "cache",
    "unfinished trainings": "work",
    "reports and test pictures": "outputs",
}


@dataclass(frozen=True, slots=True)
class StageSummary:
    """What a stage has made: partitions, rows, and when the newest was written; None where it has not run."""

    name: str
    partition_count: int
    row_count: int
    newest_at: datetime | None


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
        storage_bytes: Bytes by kind.
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
    storage_bytes: dict[str, int] = field(default_factory=dict)
    registry_version: int | None = None
    problems: list[str] = field(default_factory=list)

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


def load_gallery_data(layout: Layout, *, at: datetime | None = None, is_over: IsOver | None = None) -> GalleryData:
    """Read what the stages left behind. Missing things are stages that have not run, damaged ones are problems.

    Args:
        layout: Where everything lies.
        at: Time to note; unset: now.
        is_over: Says which failures of the log are over; unset: files tell.
    """
    problems: list[str] = []
    failures = open_failures(layout, is_over)
    data = GalleryData(
        series=layout.series,
        read_at=at or datetime.now(UTC),
        stages=[_summarise(name, layout, problems) for name in (*EPISODE_STAGES, *SERIES_STAGES, *CHARACTER_STAGES)],
        episodes=_read_episodes(layout),
        characters=[],
        failures=failures,
        storage_bytes={name: _tree_bytes(path) for name, path in _storage_folders(layout).items()},
        problems=problems,
    )
    _add_characters(data, layout)
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
    cutouts = _cutouts(characters, layout, data.problems)
    events = registry.events.sort("event_id")
    for row in characters.iter_rows(named=True):
        own_events = events.filter(pl.col("character_id") == row["character_id"]).to_dicts()
        own_failures = [failure for failure in data.failures if failure.partition == row["character_id"]]
        data.characters.append(load_character(row, layout, cutouts, own_events, own_failures))
    data.failures = [failure for failure in data.failures if not failure.is_too_small]
    shown = characters.filter(~pl.col("state").is_in(["retired", "merged_into", "not_a_character"]))
    data.map_points = place_characters(shown)


def _summarise(name: str, layout: Layout, problems: list[str]) -> StageSummary:
    single = layout.table(name)
    files = list(table_files(layout.tables / name).values()) or ([single] if single.exists() else [])
    rows, newest = 0, 0.0
    for file in files:
        try:
            rows += _row_count(file)
            newest = max(newest, file.stat().st_mtime)
        except (pl.exceptions.PolarsError, OSError) as error:
            problems.append(f"{file}: cannot be read ({error}). Materialize its partition again.")
    return StageSummary(name, len(files), rows, datetime.fromtimestamp(newest, UTC) if newest else None)


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


def _cutouts(characters: pl.DataFrame, layout: Layout, problems: list[str]) -> dict[str, str]:
    """Return the cut-out file of every exemplar."""
    wanted = pl.Series(characters["exemplars"].explode().drop_nulls().unique(), dtype=pl.String)
    files = table_files(layout.tables / "character_layers")
    found: dict[str, str] = {}
    # An instance id begins with its episode, which has no `/`.
    for episode in wanted.str.split("/").list.first().unique().sort():
        if episode not in files:
            continue
        try:
            rows = _columns(files[episode], ["instance_id", "cutout"]).filter(
                pl.col("instance_id").is_in(wanted.implode())
            )
        except (pl.exceptions.PolarsError, OSError) as error:
            problems.append(f"{files[episode]}: cannot be read ({error}). Materialize its partition again.")
            continue
        found.update(rows.iter_rows())
    return found


def _storage_folders(layout: Layout) -> dict[str, UPath]:
    shared = {"cache", "work"}
    return {
        name: layout.root / folder if folder in shared else layout.root / _inside(folder) / layout.series
        for name, folder in _FOLDER_OF_KIND.items()
    }


def _inside(folder: str) -> str:
    return "models/lora" if folder == "models" else folder


def _tree_bytes(path: UPath) -> int:
    """Return the bytes under a folder. `os.scandir`, for a series has a million cut-outs."""
    if not is_local(path):
        return int(str(path.fs.du(path.path, total=True))) if path.exists() else 0
    return sum(_scan_bytes(Path(str(path))))


def _scan_bytes(folder: Path) -> Iterable[int]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _scan_bytes(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    yield entry.stat(follow_symlinks=False).st_size
    except OSError:
        return

"""Where exemplars were cut from: the cut-out, its shot, and the clean plate of that shot.

Reading only; a few rows of large tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_columns, table_files
from yokai_assets.tables import BACKGROUNDS, INSTANCES, TableError


@dataclass(frozen=True, slots=True)
class Scene:
    """An instance and its two layers, as files relative to the data root; `plate` is None where there is none."""

    episode: str
    shot: int
    cutout: str
    plate: str | None


def load_scenes(instance_ids: Sequence[str], layout: Layout, problems: list[str]) -> dict[str, Scene]:
    """Return the scenes of instances, by instance_id; those of unreadable tables are left out and named.

    Args:
        instance_ids: Wanted instances.
        layout: Where tables lie.
        problems: What cannot be read is added here.
    """
    # An instance id begins with its episode, which has no `/`.
    by_episode: dict[str, list[str]] = {}
    for name in instance_ids:
        by_episode.setdefault(name.partition("/")[0], []).append(name)
    plates = _plates(list(by_episode), layout)
    found: dict[str, Scene] = {}
    for episode in sorted(by_episode.keys() & table_files(layout.tables / "character_layers").keys()):
        is_wanted = pl.col("instance_id").is_in(by_episode[episode])
        columns = ["instance_id", "cutout", "shot"]
        try:
            rows = read_columns(INSTANCES, layout.tables / "character_layers", columns, [episode], where=is_wanted)
        except TableError as error:
            problems.append(str(error))
            continue
        for instance_id, cutout, shot in rows.iter_rows():
            found[instance_id] = Scene(episode, shot, cutout, plates.get((episode, shot)))
    return found


def _plates(episodes: Sequence[str], layout: Layout) -> Mapping[tuple[str, int], str]:
    """Return the clean plate of each shot; unreadable tables are named where stages are counted."""
    columns = ["episode", "shot", "plate"]
    folder = layout.tables / "background_layers"
    rows = read_columns(BACKGROUNDS, folder, columns, episodes, skip_damaged=True)
    return {(episode, shot): plate for episode, shot, plate in rows.iter_rows()}

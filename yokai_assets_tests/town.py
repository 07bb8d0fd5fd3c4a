"""A tiny drawn series on disk and the road over it, for tests that go the whole way: end to end, and under faults.

Settings that take the production code of every stage through in a minute. What is tested is the tests' matter.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from upath import UPath

from yokai_assets.defs.operations.report import RoadReport
from yokai_assets.defs.operations.session import instance_home, open_road
from yokai_assets.defs.resources import SettingsResource
from yokai_assets.demo.series import generate_series
from yokai_assets.settings.loading import merge
from yokai_assets.storage.layout import Layout
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.record import finished_checkpoints

SERIES: dict[str, Any] = {
    "frames_per_episode": 40,
    "characters": 2,
    "rare_characters": 0,
    "seed": 11,
    "size_px": (256, 144),
}
SMALL: dict[str, Any] = {
    "profile": "demo",
    "device": "cpu",
    "clustering": {"min_cluster_size": 6, "min_rare_cluster_size": 4},
    "dataset": {"min_images": 3, "max_images": 12},
    "training": {"max_train_steps": 4, "save_every_n_steps": 2, "network_dim": 2, "lr_warmup_steps": 0},
    "evaluation": {"prompts": ["{trigger}"], "images_per_prompt": 2, "inference_steps": 2, "max_checkpoints": 1},
}


class Town:
    """A series on disk, its settings, and driving the road over it."""

    def __init__(self, folder: Path, changes: Mapping[str, Any] | None = None) -> None:
        self.folder, self.changes = folder, dict(changes or {})
        places = {"data_root": str(folder / "data"), "frames_source": str(folder / "frames")}
        self.source = SettingsResource.of(overrides={**merge(SMALL, self.changes), **places})
        self.layout = Layout.of(self.source.load())

    def draw(self, episodes: int, **changes: Any) -> None:
        """Draw the first so many episodes; those that are there stay as they are."""
        generate_series(self.folder / "frames", episodes=episodes, **SERIES | changes)

    def drive(self, total_episodes: int | None = None) -> RoadReport:
        """Drive the road in this process."""
        with open_road(self.source) as road:
            return road.drive(total_episodes=total_episodes)

    def instance(self) -> dg.DagsterInstance:
        """Return the Dagster instance of the data root."""
        return dg.DagsterInstance.from_config(str(instance_home(self.source.load())))


def errors(report: RoadReport) -> list[str]:
    """Return what failed in a pass, without what checks refused."""
    return [f"{f.partition} {f.step}: {f.reason}" for f in report.failures if not f.is_check]


def last_checkpoint(town: Town, character: str) -> UPath:
    """Return the file of a character's last finished checkpoint."""
    return finished_checkpoints(TrainingFiles.of_character(town.layout, character))[-1].path

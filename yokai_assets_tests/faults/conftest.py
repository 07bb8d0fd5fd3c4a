"""One small road, driven once without a fault, for all tests that hold faults against it."""

import pytest

from yokai_assets_tests.faults.undisturbed import Undisturbed, drive_undisturbed
from yokai_assets_tests.town import Town

SMALLER = {
    "max_characters": 1,
    "clustering": {"method": "communities"},
    "training": {"max_train_steps": 2, "save_every_n_steps": 1},
    "evaluation": {"images_per_prompt": 1, "inference_steps": 1, "weights": (), "bootstrap_samples": 100},
}
"""Less of everything: every stage does its work in a few seconds."""


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """One episode, one character, two steps."""
    town = Town(tmp_path_factory.mktemp("small"), SMALLER)
    town.draw(1, frames_per_episode=30)
    return drive_undisturbed(town)

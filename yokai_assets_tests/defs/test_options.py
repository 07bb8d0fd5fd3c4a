"""The launchpad's training options: all of the settings' section, with its bounds."""

from enum import Enum
from pathlib import Path
from typing import get_args

import dagster as dg
import pytest
from pydantic import ValidationError

from yokai_assets.defs.characters.options import TrainingConfig, TrainingOptions
from yokai_assets.defs.results import settings_fingerprint
from yokai_assets.settings import load_settings
from yokai_assets.settings.training import TrainingSettings


def test_every_option_is_shown_with_its_description() -> None:
    """A field that is added to the settings is in the launchpad without anybody thinking of it."""
    missing = TrainingSettings.model_fields.keys() - TrainingOptions.model_fields.keys()
    assert missing == {"base_model", "resolution_px"}, "these concern other assets, too"
    for name, field in TrainingOptions.model_fields.items():
        assert field.description == TrainingSettings.model_fields[name].description
        assert field.default is None


def test_options_reach_the_settings_through_a_run(tmp_path: Path) -> None:
    """Choices, lists and flags survive Dagster's own types; what is not set stays as the settings have it."""
    seen: list[TrainingSettings] = []
    file = tmp_path / "yokai.toml"
    file.write_text("[training]\nmax_train_steps = 30\nnetwork_dim = 4\n")

    @dg.asset
    def trained(config: TrainingOptions) -> None:  # pyright: ignore[reportInvalidTypeForm]
        seen.append(config.applied_to(load_settings(file, environment={})).training)

    chosen = {"network_dim": 7, "optimizer": "prodigy", "target_modules": ["to_q"], "flip": False, "noise_offset": 0.1}
    config = {"ops": {"trained": {"config": chosen}}}
    assert dg.materialize([trained], run_config=config, instance=dg.DagsterInstance.ephemeral()).success
    found = seen[0]
    assert (found.network_dim, found.optimizer, found.target_modules) == (7, "prodigy", ("to_q",))
    assert (found.flip, found.noise_offset, found.max_train_steps) == (False, 0.1, 30)
    assert found.model_fields_set == {*chosen, "max_train_steps", "base_model"}, "a preset may fill the rest"


@pytest.mark.parametrize("wrong", [{"network_dim": 0}, {"caption_dropout": 1.5}, {"learning_rate": -1.0}])
def test_bounds_hold_in_the_launchpad(wrong: dict[str, float]) -> None:
    """A rank of 0 is refused before a GPU is asked for anything."""
    with pytest.raises(ValidationError):
        TrainingOptions(**wrong)


def test_choices_are_choices() -> None:
    """The launchpad offers them; free text would be refused only when the step runs."""
    kinds = {name: field.annotation for name, field in TrainingOptions.model_fields.items()}
    enums = [kind for kind in get_args(kinds["optimizer"]) if isinstance(kind, type) and issubclass(kind, Enum)]
    assert [choice.value for choice in enums[0]] == ["adamw", "adamw8bit", "prodigy"]
    assert issubclass(TrainingOptions, TrainingConfig)


def test_with_a_preset_what_is_set_makes_a_lora_stale(tmp_path: Path) -> None:
    """Setting a number to its default overrules a preset: another LoRA, though all values look the same."""
    prints = []
    for preset in ("guide", "auto"):
        for line in ("", "network_dim = 32\n"):
            file = tmp_path / "yokai.toml"
            file.write_text(f'[training]\nbase_model = "demo"\npreset = "{preset}"\n{line}')
            prints.append(settings_fingerprint(load_settings(file, environment={}), "lora_model"))
    assert prints[0] == prints[1]
    assert len({prints[0], prints[2], prints[3]}) == 3

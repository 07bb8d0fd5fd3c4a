"""Settings: precedence of sources, refusal of what cannot be used, and messages that help."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from yokai_assets.settings import Settings, load_settings
from yokai_assets.settings.loading import SettingsError, describe_fields


def write(folder: Path, text: str) -> Path:
    file = folder / "yokai.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_later_sources_win_key_by_key(tmp_path):
    """Environment beats file, arguments beat both, and neither erases its neighbours."""
    file = write(tmp_path, 'profile = "demo"\n[training]\nmax_train_steps = 30\nnetwork_dim = 4\n')
    settings = load_settings(
        file, environment={"YOKAI_TRAINING__NETWORK_DIM": "8"}, overrides={"training": {"learning_rate": 2e-4}}
    )
    assert (settings.training.max_train_steps, settings.training.network_dim) == (30, 8)
    assert settings.training.learning_rate == 2e-4
    assert settings.training.base_model == "demo", "the profile still fills the rest"


def test_unset_arguments_change_nothing(tmp_path):
    """Options that were not given on the command line arrive as None and must not become settings."""
    file = write(tmp_path, "[training]\nmax_train_steps = 30\n")
    settings = load_settings(file, overrides={"training": {"max_train_steps": None}, "device": None}, environment={})
    assert settings.training.max_train_steps == 30


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[training]\nmax_steps = 3\n", "Did you mean `training.max_train_steps`?"),
        ("data_rot = 'x'\n", "Did you mean `data_root`?"),
        ("[training]\nlearning_rate = -1\n", "`training.learning_rate`"),
        ("profile = 'manga'\n", "Choose `anime` or `demo`"),
        ("[clustering]\nmin_cluster_size = 4\nmin_rare_cluster_size = 9\n", "must not exceed"),
        ("device = 'gpu'\n", "`device`"),
        ("series = '../up'\n", "`series`"),
        ("not toml", "cannot be read as TOML"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, text, said):
    """A mistake in a settings file is an error that names key and remedy, never silently ignored."""
    with pytest.raises(SettingsError, match=r"(?s).*") as caught:
        load_settings(write(tmp_path, text), environment={})
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    """A mistyped --config must not fall back to defaults."""
    with pytest.raises(SettingsError, match="no such settings file"):
        load_settings(tmp_path / "absent.toml", environment={})


def test_paths_of_a_file_are_relative_to_it(tmp_path):
    """A settings file means the same from whatever folder a command is called in."""
    file = write(tmp_path, "data_root = 'out'\nframes_source = 's3://bucket/frames'\n")
    settings = load_settings(file, environment={})
    assert settings.data_root == str(tmp_path / "out")
    assert settings.frames_source == "s3://bucket/frames"


def test_every_field_says_what_it_means():
    """The launchpad, `yokai settings` and the docs show these descriptions; numbers must be bounded."""
    assert all(description.endswith(".") for _, _, description in describe_fields())
    for section in [Settings, *(f.annotation for f in Settings.model_fields.values())]:
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            continue
        for name, field in section.model_fields.items():
            if field.annotation in (int, float):
                assert field.metadata, f"{section.__name__}.{name} has no bounds"


@pytest.mark.parametrize("profile", ["anime", "demo"])
def test_profiles_load(profile):
    """Both shipped profiles are valid on their own."""
    assert load_settings(overrides={"profile": profile}, environment={}).profile == profile

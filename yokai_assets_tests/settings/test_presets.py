"""Presets of training: what they fill in, and what they leave alone."""

from typing import Any

import pytest

from yokai_assets.settings.presets import PRESETS, doubts, preset_name, resolved
from yokai_assets.settings.training import TrainingSettings


def settings(**chosen: Any) -> TrainingSettings:
    return TrainingSettings.model_validate(chosen)


@pytest.mark.parametrize(
    ("family", "count", "name"),
    [("sd15", 12, "sd15-few"), ("sd15", 40, "sd15-some"), ("sd15", 201, "sd15-many"), ("sdxl", 100, "sdxl-some")],
)
def test_auto_looks_at_family_and_size(family: str, count: int, name: str) -> None:
    """A character of a dozen images and one of a thousand need different numbers, in one unattended run."""
    found = resolved(settings(preset="auto"), family, 512, count)
    assert found.preset == name == preset_name(family, count)
    assert {field: getattr(found, field) for field in PRESETS[name]} == {
        field: choice.value for field, choice in PRESETS[name].items()
    }


def test_what_a_person_sets_stays() -> None:
    """Also where it happens to be the default: it was meant."""
    found = resolved(settings(preset="sdxl-few", network_dim=32, resolution_px=512), "sdxl", 1024, 10)
    assert (found.network_dim, found.resolution_px, found.max_train_steps) == (32, 512, 1200)


def test_the_guide_is_the_guide() -> None:
    """Without a preset the numbers of the original guide hold, whatever the base."""
    found = resolved(settings(), "sdxl", 1024, 10)
    assert found == settings()
    assert (found.max_train_steps, found.learning_rate, found.network_dim, found.train_batch_size) == (
        2000,
        1e-4,
        32,
        2,
    )


def test_resolving_twice_changes_nothing() -> None:
    """The resolved settings are what fingerprints are made of."""
    once = resolved(settings(preset="auto", optimizer="prodigy"), "sd15", 512, 10)
    assert resolved(once, "sd15", 512, 500) == once


def test_prodigy_has_a_rate_of_its_own() -> None:
    """At AdamW's rate of 1e-4 it would train nothing; a rate that a person sets is theirs, and doubted."""
    assert resolved(settings(optimizer="prodigy"), "sd15", 512, 10).learning_rate == 1.0
    chosen = resolved(settings(optimizer="prodigy", learning_rate=1e-4), "sd15", 512, 10)
    assert chosen.learning_rate == 1e-4
    assert [setting for setting, _ in doubts(chosen, 512)] == ["training.learning_rate"]


def test_a_resolution_far_from_the_bases_is_doubted() -> None:
    """SDXL at 512 px learns blurred pictures, without any error."""
    assert doubts(settings(resolution_px=512), 512) == doubts(settings(resolution_px=640), 512) == []
    for far, native in ((512, 1024), (1024, 512)):
        assert [setting for setting, _ in doubts(settings(resolution_px=far), native)] == ["training.resolution_px"]


def test_every_number_is_within_its_bounds_and_has_a_reason() -> None:
    """A preset must not be refused by the settings it fills."""
    for preset in PRESETS.values():
        settings(**{field: choice.value for field, choice in preset.items()})
        assert all(choice.reason for choice in preset.values())

"""Profiles: traits, screen time, company and files, from real cut-outs."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from upath import UPath

from yokai_assets.analysis import load_vocabulary, profile_character, read_profile, write_profile
from yokai_assets.analysis.profile import CharacterProfile
from yokai_assets.settings.model import AnalysisSettings
from yokai_assets_tests.small_series import HERO, OTHER, SmallSeries, WordModel

MODEL = WordModel()
LOOKS = ("happy smile, arms up", "sad mouth, arms down", "fangs, arms up")


@pytest.fixture
def series(tmp_path) -> SmallSeries:
    made = SmallSeries(UPath(tmp_path))
    for number in range(12):
        words = f"a red round creature with horns, three eyes, {LOOKS[number % 3]}"
        shown = {HERO: MODEL.embed_image(words, noise=0.2, seed=number)}
        if number % 4 == 0:
            shown[OTHER] = MODEL.embed_image("a blue tall creature with antennae, one eye", noise=0.2, seed=99 + number)
        made.show(f"e{number // 6 + 1}", number // 3, shown, weight=3 if number == 0 else 1)
    return made


def profiled(series: SmallSeries, character_id: str = HERO) -> CharacterProfile:
    tables = series.tables()
    return profile_character(
        character_id, tables.members, tables.instances, tables.embeddings, series.layout, MODEL,
        load_vocabulary("creatures"), AnalysisSettings.model_validate({}), 0,
    )  # fmt: skip


def test_identity_is_told_and_what_varies_is_a_distribution(series: SmallSeries) -> None:
    """Protects: the character's traits are read right, and no expression is sold as a trait."""
    profile = profiled(series)
    told = {name: reading.value for name, reading in profile.identity.items()}
    assert told["body_colour"] == "red"
    assert told["top"] == "horns"
    assert told["eyes"] == "three"
    assert "expression" not in told
    arms = next(r for r in profile.attributes if r.attribute == "arms")
    assert sum(arms.distribution.values()) == pytest.approx(1, abs=0.01)
    assert arms.distribution["up"] > arms.distribution["down"] > arms.distribution["waving"]


def test_screen_time_counts_the_frames_that_an_image_stands_for(series: SmallSeries) -> None:
    """Protects: held frames count as time on screen, though they are segmented once."""
    profile = profiled(series)
    assert profile.image_count == 12
    assert profile.screen_time_frames == 14
    assert [(e.episode, e.image_count, e.screen_time_frames) for e in profile.episodes] == [("e1", 6, 8), ("e2", 6, 6)]
    assert (profile.first_episode, profile.last_episode) == ("e1", "e2")


def test_company_is_counted_in_frames_of_both(series: SmallSeries) -> None:
    """Protects: co-appearances, from either side."""
    (seen,) = profiled(series).co_appearances
    assert (seen.character_id, seen.screen_time_frames) == (OTHER, 5)
    assert seen.share == pytest.approx(5 / 14, abs=0.001)
    assert profiled(series, OTHER).co_appearances[0].share == 1.0


def test_palette_and_sizes_are_those_of_the_drawing(series: SmallSeries) -> None:
    """Protects: numbers come from the character's pixels and box, not from the frame's."""
    profile = profiled(series)
    assert profile.palette[0].name == "red"
    assert profile.palette[0].share > 0.9
    assert profile.sizes.width_px[0] == 36
    assert profile.sizes.frame_height_share[0] == pytest.approx(40 / 64)


def test_unreadable_cutout_is_noted_and_the_rest_is_read(series: SmallSeries) -> None:
    """Protects: one damaged file costs one image, not the profile."""
    damaged = series.layout.absolute(series.instances[0]["cutout"])
    damaged.write_bytes(b"RIFF")
    profile = profiled(series)
    assert any(series.instances[0]["cutout"] in note for note in profile.notes)
    assert profile.palette[0].name == "red"
    write_profile(profile, series.layout)


def test_files_are_written_and_read_back(series: SmallSeries) -> None:
    """Protects: what people and later stages read is what was found, and previews stay small."""
    profile = profiled(series)
    folder = write_profile(profile, series.layout)
    assert {file.name for file in folder.iterdir()} == {"profile.json", "profile.md", "summary.webp"}
    assert read_profile(series.layout, HERO) == profile
    assert json.loads((folder / "profile.json").read_text())["character_id"] == HERO
    text = (folder / "profile.md").read_text()
    assert re.search(r"body colour \| red", text)
    summary = (folder / "summary.webp").read_bytes()
    assert len(summary) <= 60_000
    picture = np.asarray(Image.open(io.BytesIO(summary)).convert("RGB")).astype(int)
    assert (
        (picture[..., 0] > 150) & (picture[..., 1] < 90) & (picture[..., 2] < 90)
    ).mean() > 0.05  # the hero is on it


def test_equal_input_gives_equal_profiles(series: SmallSeries) -> None:
    """Protects: nothing downstream is made anew without a reason."""
    assert profiled(series) == profiled(series)


def test_rewriting_leaves_no_remains(series: SmallSeries) -> None:
    """Protects: the folder is one state, never a mix of two."""
    folder = write_profile(profiled(series), series.layout)
    (folder / "old.txt").write_text("x")
    write_profile(profiled(series), series.layout)
    assert not (folder / "old.txt").exists()
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".")]


def test_no_usable_member_is_said(series: SmallSeries) -> None:
    """Protects: an empty profile is never written."""
    with pytest.raises(ValueError, match="cluster_404"):
        profiled(series, "cluster_404")


def test_missing_and_damaged_profiles_name_the_remedy(series: SmallSeries) -> None:
    """Protects: whoever reads a profile learns how to get one."""
    with pytest.raises(FileNotFoundError, match="Materialize `character_profile`"):
        read_profile(series.layout, HERO)
    folder = write_profile(profiled(series), series.layout)
    (folder / "profile.json").write_text('{"character_id": "x"}')
    with pytest.raises(ValueError, match="Materialize `character_profile`"):
        read_profile(series.layout, HERO)

"""The family of creatures: identities stay apart, drawings are clean, captions tell the truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from yokai_assets.demo.creatures import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    CreatureDesign,
    CreaturePose,
    attribute_value,
    describe,
    design_as_dict,
    draw_background,
    draw_creature,
    draw_portrait,
    sample_design,
    sample_pose,
)

PLAIN = CreatureDesign(body_shape="round", body_colour="red", accent_colour="blue")
RICH = dataclasses.replace(
    PLAIN,
    pattern="spots",
    pattern_colour="white",
    accessory="hat",
    accessory_colour="green",
    tail="curly",
    top="horns",
)

ONE_CHANGE: list[dict] = [
    {"body_colour": "purple"},
    {"body_shape": "wide"},
    {"accent_colour": "yellow"},
    {"top": "antennae"},
    {"eyes": "one"},
    {"pattern": "belly"},
    {"pattern_colour": "pink"},
    {"legs": "four"},
    {"tail": "pointed"},
    {"accessory": "scarf"},
    {"accessory_colour": "purple"},
    {"has_wings": True},
    {"eye_size": 1.15},
]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_same_design_and_pose_give_same_pixels() -> None:
    """Protects: the series and its truth can be made again exactly."""
    rng = np.random.default_rng(3)
    design, pose = sample_design(rng), sample_pose(rng)
    again = np.random.default_rng(3)
    assert (design, pose) == (sample_design(again), sample_pose(again))
    assert draw_creature(design, pose, 96).tobytes() == draw_creature(design, pose, 96).tobytes()


@pytest.mark.parametrize("change", ONE_CHANGE, ids=str)
def test_every_identity_attribute_shows(change: dict) -> None:
    """Protects: two characters that differ in the truth also differ in the picture."""
    other = dataclasses.replace(RICH, **change)
    difference = np.abs(
        pixels(draw_creature(RICH, CreaturePose(), 64)) - pixels(draw_creature(other, CreaturePose(), 64))
    )
    assert (difference.max(axis=2) > 40).sum() >= 12


@pytest.mark.parametrize("attribute", ["expression", "arms"])
def test_every_pose_value_shows(attribute: str) -> None:
    """Protects: expressions and arms named by captions can be seen."""
    drawings = [
        pixels(draw_creature(PLAIN, dataclasses.replace(CreaturePose(), **{attribute: value}), 64))
        for value in ATTRIBUTES[attribute]
    ]
    for index, first in enumerate(drawings):
        for second in drawings[index + 1 :]:
            assert (np.abs(first - second).max(axis=2) > 40).sum() >= 12


def test_walking_moves_the_legs_and_only_them() -> None:
    """Protects: a walk cycle animates without changing who is walking."""
    still, step = (pixels(draw_creature(PLAIN, CreaturePose(walk_phase=phase), 64)) for phase in (0.0, 0.25))
    changed_rows = np.flatnonzero(np.abs(still - step).max(axis=(1, 2)) > 40)
    assert changed_rows.size and changed_rows.min() > 40


def test_alpha_is_antialiased_and_nothing_leaves_the_canvas() -> None:
    """Protects: mattes have true soft edges, and no sampled creature is cut off by its canvas."""
    rng = np.random.default_rng(0)
    for _ in range(150):
        alpha = pixels(draw_creature(sample_design(rng), sample_pose(rng), 64))[..., 3]
        border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert (border > 128).sum() <= 2
        assert 0.1 < (alpha > 128).mean() < 0.65
        assert len(np.unique(alpha)) > 8


def test_light_changes_colour_but_not_alpha() -> None:
    """Protects: lighting is a matter of the pose, never of the cutout."""
    plain, dim = (pixels(draw_creature(PLAIN, CreaturePose(light=light), 64)) for light in ((1, 1, 1), (0.5, 0.5, 0.5)))
    assert (plain[..., 3] == dim[..., 3]).all()
    assert dim[..., :3].mean() < 0.6 * plain[..., :3].mean()


def test_any_size_is_drawn_alike() -> None:
    """Protects: a creature is the same at the size of a crop and of a frame."""
    small = draw_creature(RICH, CreaturePose(), 64)
    large = draw_creature(RICH, CreaturePose(), 256).reduce(4)
    assert np.abs(pixels(small) - pixels(large)).mean() < 6


def test_portraits_and_backgrounds_are_opaque_rgb() -> None:
    """Protects: every named background can be drawn, and the creature stands before it."""
    for background in BACKGROUNDS:
        empty, portrait = (
            draw_background(background, 64),
            draw_portrait(PLAIN, CreaturePose(), background, 64),
        )
        assert empty.mode == portrait.mode == "RGB" and portrait.size == (64, 64)
        assert tuple(pixels(portrait)[0, 0]) == tuple(pixels(empty)[0, 0])
        assert np.abs(pixels(portrait)[44, 24] - COLOURS["red"]).max() <= 2


def test_caption_names_every_present_part_and_no_other() -> None:
    """Protects: the words a model learns from are true, and all of them."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        design, pose = sample_design(rng), sample_pose(rng)
        caption = describe(design, pose, "meadow")
        assert caption.startswith(("a ", "an ")) and design.body_colour in caption and "in a meadow" in caption
        for attribute in ("top", "eyes", "pattern", "legs", "tail", "accessory", "wings"):
            is_present = attribute_value(design, attribute) not in {"none", "plain", "no"}
            assert (ATTRIBUTES[attribute][attribute_value(design, attribute)] in caption) == is_present
        assert ATTRIBUTES["expression"][pose.expression] in caption and ATTRIBUTES["arms"][pose.arms] in caption


def test_dropped_parts_shorten_captions() -> None:
    """Protects: training captions vary in completeness, down to the bare subject."""
    rng = np.random.default_rng(0)
    assert describe(RICH, CreaturePose(), "night", rng=rng, drop=1.0).startswith("a creature")
    with pytest.raises(ValueError, match="rng"):
        describe(RICH, drop=0.5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"body_shape": "cubic"}, "unknown"),
        ({"accent_colour": "red"}, "differ"),
        ({"pattern": "stripes", "pattern_colour": None}, "exactly when"),
        ({"accessory_colour": "mauve", "accessory": "hat"}, "unknown"),
        ({"eye_size": 3.0}, "outside"),
    ],
)
def test_impossible_designs_are_refused(change: dict, reason: str) -> None:
    """Protects: a wrong truth file is named at once, instead of drawing something else."""
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(PLAIN, **change)


def test_design_survives_being_written_as_plain_values() -> None:
    """Protects: truth files restore the very identity."""
    design = sample_design(np.random.default_rng(8))
    assert CreatureDesign(**design_as_dict(design)) == design  # type: ignore[arg-type]

"""The demo's family of creatures in one place: designs, poses, drawing, captions.

This is the public face; traits and words live in :mod:`yokai_assets.demo.creature_traits`, pixels in
:mod:`yokai_assets.demo.creature_drawing`, backgrounds in :mod:`yokai_assets.demo.backgrounds`. The shipped
demo models are trained on these drawings: whoever changes them must train the models again.
"""

from yokai_assets.demo.backgrounds import BACKGROUNDS, background_phrase, draw_background
from yokai_assets.demo.creature_drawing import draw_creature, draw_portrait
from yokai_assets.demo.creature_traits import (
    ABSENT_VALUES,
    ATTRIBUTES,
    COLOURS,
    IDENTITY_ATTRIBUTES,
    POSE_ATTRIBUTES,
    PROPORTIONS,
    CreatureDesign,
    CreaturePose,
    attribute_value,
    describe,
    design_as_dict,
    sample_design,
    sample_pose,
)

__all__ = [
    "ABSENT_VALUES",
    "ATTRIBUTES",
    "BACKGROUNDS",
    "COLOURS",
    "IDENTITY_ATTRIBUTES",
    "POSE_ATTRIBUTES",
    "PROPORTIONS",
    "CreatureDesign",
    "CreaturePose",
    "attribute_value",
    "background_phrase",
    "describe",
    "design_as_dict",
    "draw_background",
    "draw_creature",
    "draw_portrait",
    "sample_design",
    "sample_pose",
]

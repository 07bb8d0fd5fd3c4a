"""What a demo creature *is* (its design), how it is shown (its pose), and how both are put into words.

Here belong: the attributes of the family, their sampling, and the caption grammar. Not here: pixels
(:mod:`yokai_assets.demo.creature_drawing`), backgrounds (:mod:`yokai_assets.demo.backgrounds`), stories.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (222, 52, 52),
        "orange": (248, 146, 40),
        "yellow": (252, 220, 70),
        "green": (84, 180, 78),
        "blue": (58, 118, 226),
        "purple": (140, 78, 200),
        "pink": (248, 146, 196),
        "brown": (138, 90, 56),
        "white": (244, 242, 236),
    }
)
"""Named colours as 8-bit sRGB; body, accent, pattern and accessory colours all come from here."""

_COLOUR_PHRASES = {name: f"a {name} creature" for name in COLOURS}
_COLOUR_PHRASES["orange"] = "an orange creature"

ATTRIBUTES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "body_colour": MappingProxyType(_COLOUR_PHRASES),
        "body_shape": MappingProxyType(
            {shape: f"a {shape} creature" for shape in ("round", "tall", "wide", "square", "pear-shaped")}
        ),
        "top": MappingProxyType(
            {
                "none": "bare head",
                "horns": "horns",
                "pointy ears": "pointy ears",
                "round ears": "round ears",
                "bunny ears": "bunny ears",
                "antennae": "antennae",
            }
        ),
        "eyes": MappingProxyType({"one": "one eye", "two": "two eyes", "three": "three eyes"}),
        "pattern": MappingProxyType(
            {"plain": "plain body", "stripes": "stripes", "spots": "spots", "belly": "belly patch"}
        ),
        "legs": MappingProxyType({"none": "no legs", "two": "two legs", "four": "four legs"}),
        "tail": MappingProxyType({"none": "no tail", "curly": "curly tail", "pointed": "pointed tail"}),
        "accessory": MappingProxyType({"none": "no accessory", "hat": "hat", "scarf": "scarf", "bow tie": "bow tie"}),
        "wings": MappingProxyType({"no": "no wings", "yes": "wings"}),
        "expression": MappingProxyType(
            {
                "happy": "happy smile",
                "sad": "sad mouth",
                "surprised": "surprised mouth",
                "angry": "angry eyebrows",
                "fangs": "fangs",
            }
        ),
        "arms": MappingProxyType({"down": "arms down", "up": "arms up", "waving": "waving arm"}),
    }
)
"""Attribute -> value -> phrase. Body colour and shape phrases are whole noun phrases ("a red creature"); all
others follow "a creature with ...". The same phrases appear in captions and serve as zero-shot prompts."""

ABSENT_VALUES = frozenset({"none", "plain", "no"})
"""Values that name the lack of a thing; captions mention them only now and then."""

IDENTITY_ATTRIBUTES = (
    "body_colour", "body_shape", "top", "eyes", "pattern", "legs", "tail", "accessory", "wings",
)  # fmt: skip
POSE_ATTRIBUTES = ("expression", "arms")

_PROPORTION_RANGES = {
    "body_width": (0.92, 1.08),
    "body_height": (0.92, 1.08),
    "eye_size": (0.9, 1.15),
    "top_size": (0.85, 1.15),
}
PROPORTIONS = tuple(_PROPORTION_RANGES)
"""Names of a design's proportions; captions don't tell them."""


@dataclass(frozen=True)
class CreatureDesign:
    """A creature's identity: everything that stays the same from frame to frame.

    `pattern_colour` is None exactly when `pattern` is "plain", `accessory_colour` exactly when `accessory` is
    "none". The proportions are factors around 1.

    Raises:
        ValueError: an attribute has a value outside :data:`ATTRIBUTES`, a colour is unknown or equals the
            body's (it would be invisible), or a proportion lies outside 0.8–1.25.
    """

    body_shape: str
    body_colour: str
    accent_colour: str
    top: str = "none"
    eyes: str = "two"
    pattern: str = "plain"
    pattern_colour: str | None = None
    legs: str = "two"
    tail: str = "none"
    accessory: str = "none"
    accessory_colour: str | None = None
    has_wings: bool = False
    body_width: float = 1.0
    body_height: float = 1.0
    eye_size: float = 1.0
    top_size: float = 1.0

    def __post_init__(self) -> None:
        for attribute in IDENTITY_ATTRIBUTES:
            if attribute_value(self, attribute) not in ATTRIBUTES[attribute]:
                known = ", ".join(ATTRIBUTES[attribute])
                raise ValueError(f"{attribute}={attribute_value(self, attribute)!r} is unknown; choose from {known}")
        self._check_colours()
        for name in _PROPORTION_RANGES:
            if not 0.8 <= getattr(self, name) <= 1.25:
                raise ValueError(f"{name}={getattr(self, name)} lies outside 0.8-1.25")

    def _check_colours(self) -> None:
        parts = (
            ("accent_colour", True, self.accent_colour),
            ("pattern_colour", self.pattern != "plain", self.pattern_colour),
            ("accessory_colour", self.accessory != "none", self.accessory_colour),
        )
        for name, is_present, colour in parts:
            if is_present != (colour is not None):
                raise ValueError(f"{name} must be given exactly when there is something to colour: {colour!r}")
            if colour is not None and colour not in COLOURS:
                raise ValueError(f"{name}={colour!r} is unknown; choose from {', '.join(COLOURS)}")
            if colour == self.body_colour:
                raise ValueError(f"{name} must differ from the body's colour {self.body_colour!r}")


@dataclass(frozen=True)
class CreaturePose:
    """How a creature is shown in one picture: everything that may change from frame to frame.

    `tilt` is in radians (clockwise), `squash` a width factor (height gets its inverse), `scale` a size
    factor (1 fills the canvas), `gaze` where the pupils look (-1..1, x right, y down), `light` a gain each
    for R, G, B, `walk_phase` a fraction of one walk cycle, 0 standing still.

    Raises:
        ValueError: unknown expression or arms, or `scale`, `squash` or `light` not positive.
    """

    expression: str = "happy"
    arms: str = "down"
    is_flipped: bool = False
    tilt: float = 0.0
    squash: float = 1.0
    scale: float = 1.0
    gaze: tuple[float, float] = (0.0, 0.0)
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)
    walk_phase: float = 0.0

    def __post_init__(self) -> None:
        for attribute in POSE_ATTRIBUTES:
            if getattr(self, attribute) not in ATTRIBUTES[attribute]:
                known = ", ".join(ATTRIBUTES[attribute])
                raise ValueError(f"{attribute}={getattr(self, attribute)!r} is unknown; choose from {known}")
        if min(self.scale, self.squash, *self.light) <= 0:
            raise ValueError("scale, squash and light must be positive")


def attribute_value(creature: CreatureDesign | CreaturePose, attribute: str) -> str:
    """The creature's value of an attribute of :data:`ATTRIBUTES`, as its key there.

    Raises:
        AttributeError: a design has no such attribute (or a pose has not).
    """
    if attribute == "wings" and isinstance(creature, CreatureDesign):
        return "yes" if creature.has_wings else "no"
    return getattr(creature, attribute)


def sample_design(rng: np.random.Generator) -> CreatureDesign:
    """A random identity; attributes are independent, and half the creatures go without accessories."""

    def choose(attribute: str, weights: tuple[float, ...] | None = None) -> str:
        return str(rng.choice(list(ATTRIBUTES[attribute]), p=weights))

    body_colour = choose("body_colour")
    others = [colour for colour in COLOURS if colour != body_colour]
    pattern = choose("pattern", (0.34, 0.22, 0.22, 0.22))
    accessory = choose("accessory", (0.55, 0.15, 0.15, 0.15))
    return CreatureDesign(
        body_shape=choose("body_shape"),
        body_colour=body_colour,
        accent_colour=str(rng.choice(others)),
        top=choose("top", (0.1, 0.18, 0.18, 0.18, 0.18, 0.18)),
        eyes=choose("eyes", (0.25, 0.5, 0.25)),
        pattern=pattern,
        pattern_colour=None if pattern == "plain" else str(rng.choice(others)),
        legs=choose("legs", (0.2, 0.5, 0.3)),
        tail=choose("tail", (0.7, 0.15, 0.15)),
        accessory=accessory,
        accessory_colour=None if accessory == "none" else str(rng.choice(others)),
        has_wings=bool(rng.random() < 0.15),
        **{name: round(float(rng.uniform(*bounds)), 3) for name, bounds in _PROPORTION_RANGES.items()},
    )


def sample_pose(rng: np.random.Generator, variety: float = 1.0) -> CreaturePose:
    """A random pose.

    Args:
        rng: source of randomness.
        variety: 0 gives an upright, full-size, evenly lit creature (expression, arms, gaze and side vary);
            1 the family's usual spread of tilt, squash, scale, light and walk.
    """

    def spread(width: float) -> float:
        return float(rng.uniform(-width, width)) * variety

    brightness = 1.0 + spread(0.06)
    return CreaturePose(
        expression=str(rng.choice(list(ATTRIBUTES["expression"]))),
        arms=str(rng.choice(list(ATTRIBUTES["arms"]))),
        is_flipped=bool(rng.random() < 0.5),
        tilt=spread(0.1),
        squash=1.0 + spread(0.06),
        scale=1.0 - abs(spread(0.14)),
        gaze=(float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1))),
        light=(brightness * (1 + spread(0.03)), brightness, brightness * (1 + spread(0.03))),
        walk_phase=float(rng.random()) * variety,
    )


def _details(design: CreatureDesign) -> list[tuple[str, bool]]:
    """Phrases of the design's parts with whether each names something that is there, in a fixed order."""
    colours = {
        "top": design.accent_colour,
        "pattern": design.pattern_colour,
        "accessory": design.accessory_colour,
        "wings": design.accent_colour,
    }
    details = []
    for attribute in IDENTITY_ATTRIBUTES[2:]:
        value = attribute_value(design, attribute)
        is_present = value not in ABSENT_VALUES
        phrase = ATTRIBUTES[attribute][value]
        colour = colours.get(attribute)
        details.append((f"{colour} {phrase}" if is_present and colour else phrase, is_present))
    return details


def describe(
    design: CreatureDesign,
    pose: CreaturePose | None = None,
    background: str | None = None,
    rng: np.random.Generator | None = None,
    drop: float = 0.0,
) -> str:
    """A caption such as ``a red round creature with blue horns, two eyes, waving arm, at night``.

    Args:
        design: who is shown.
        pose: how; its expression and arms are named if given.
        background: a name from :data:`~yokai_assets.demo.backgrounds.BACKGROUNDS`, or None to leave it out.
        rng: if given, the parts come in random order, and what is absent ("no legs") is sometimes named.
        drop: probability with which each part is left out (needs `rng`).

    Raises:
        ValueError: `drop` given without `rng`, or `background` unknown.
    """
    from yokai_assets.demo.backgrounds import background_phrase

    if drop and rng is None:
        raise ValueError("describe(drop=...) chooses at random: pass rng as well")

    def is_kept() -> bool:
        return rng is None or rng.random() >= drop

    details = _details(design)
    if pose is not None:
        details += [(ATTRIBUTES[name][attribute_value(pose, name)], True) for name in POSE_ATTRIBUTES]
    chance_of_absent = 0.15
    parts = [
        phrase
        for phrase, is_present in details
        if (is_kept() if is_present else rng is not None and rng.random() < chance_of_absent)
    ]
    if rng is not None:
        parts = [parts[index] for index in rng.permutation(len(parts))]
    adjectives = [word for word in (design.body_colour, design.body_shape) if is_kept()]
    subject = " ".join([*adjectives, "creature"])
    caption = f"{'an' if subject[0] in 'aeiou' else 'a'} {subject}"
    if parts:
        caption += " with " + ", ".join(parts)
    if background is not None and is_kept():
        caption += f", {background_phrase(background)}"
    return caption


def design_as_dict(design: CreatureDesign) -> dict[str, str | float | bool | None]:
    """The design as plain values, for truth files and metadata; ``CreatureDesign(**values)`` restores it."""
    return dataclasses.asdict(design)

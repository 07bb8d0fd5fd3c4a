"""What happens in the demo series: its cast, and the plan of each episode, drawing by drawing.

Plans only: nothing here paints or writes. An episode's plan depends on the seed, the cast and its own number,
never on how many episodes there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from yokai_assets.demo.cards import made_up_name
from yokai_assets.demo.creatures import (
    ATTRIBUTES,
    IDENTITY_ATTRIBUTES,
    CreatureDesign,
    CreaturePose,
    attribute_value,
    sample_design,
)
from yokai_assets.demo.scenes import PLACES

SETS_PER_PLACE = 3
"""Each place has so many painted sets, which shots use again and again, as a series does."""
GUEST_DRAWINGS = 5
"""Drawings of a rare character's one shot in each of the two episodes that it visits."""

_CAST_STREAM, _EPISODE_STREAM = 1, 2
_SMALL_EPISODE_FRAMES = 16
_CANDIDATES = 64
_ATTRIBUTE_WEIGHTS = {"body_colour": 3.0, "body_shape": 1.5, "legs": 0.5, "tail": 0.5}
_EXPRESSIONS = tuple(ATTRIBUTES["expression"])
_FRAMINGS = {"close-up": (1.0, 1.3), "medium": (0.62, 0.82), "wide": (0.36, 0.5)}
"""Framing -> least and largest size of a creature's canvas, as a share of the frame's height."""


@dataclass(frozen=True)
class CastMember:
    """A character of the series: the true identity."""

    name: str
    design: CreatureDesign
    is_rare: bool


@dataclass(frozen=True)
class Performance:
    """One character in one drawing: `x` is a share of the frame's width, `lift` (above the ground) of its height."""

    name: str
    pose: CreaturePose
    x: float
    lift: float
    size_px: int


@dataclass(frozen=True)
class Drawing:
    """One distinct picture of an episode, held for `hold` frames.

    `kind` is "story", "landscape", "fade", "black", "title" or "credits"; `place` and `set_number` name the
    background (None for cards and black); `fade` is how far it is darkened; `text` what a title card says.
    """

    kind: str
    shot: int
    place: str | None = None
    set_number: int = 0
    camera: float = 0.0
    performances: tuple[Performance, ...] = ()
    has_foreground: bool = False
    fade: float = 0.0
    text: tuple[str, str] = ("", "")
    hold: int = 1


def design_distance(first: CreatureDesign, second: CreatureDesign) -> float:
    """How differently two designs look: the weighted number of identity attributes in which they differ."""
    distance = 0.0
    for attribute in IDENTITY_ATTRIBUTES:
        if attribute_value(first, attribute) != attribute_value(second, attribute):
            distance += _ATTRIBUTE_WEIGHTS.get(attribute, 1.0)
    return distance + 0.5 * (first.accent_colour != second.accent_colour)


def choose_cast(seed: int, characters: int, rare_characters: int) -> list[CastMember]:
    """Characters that are easily told apart: each is, of many random designs, the one farthest from those before.

    Raises:
        ValueError: a count is negative, or there would be no character at all.
    """
    if characters < 0 or rare_characters < 0 or characters + rare_characters == 0:
        raise ValueError(f"a series needs characters; got {characters} and {rare_characters} rare ones")
    cast: list[CastMember] = []
    for index in range(characters + rare_characters):
        rng = np.random.default_rng([seed, _CAST_STREAM, index])
        candidates = [sample_design(rng) for _ in range(_CANDIDATES)]
        design = max(
            candidates, key=lambda one: min((design_distance(one, other.design) for other in cast), default=0.0)
        )
        name = made_up_name(rng)
        while any(name == other.name for other in cast):
            name = made_up_name(rng)
        cast.append(CastMember(name, design, is_rare=index >= characters))
    return cast


def _present_cast(cast: Sequence[CastMember], number: int, rng: np.random.Generator) -> list[CastMember]:
    """The regulars of an episode: all but one of a small cast, five in turn of a large one; in random order."""
    regulars = [member for member in cast if not member.is_rare]
    count = max(1, min(len(regulars) - 1, 5))
    present = [regulars[(number * count + index) % len(regulars)] for index in range(count)] if regulars else []
    return [present[int(index)] for index in rng.permutation(len(present))]


def _guests(cast: Sequence[CastMember], number: int) -> list[CastMember]:
    """Rare characters that visit this episode: each visits two, the first of them episodes 2 and 4."""
    rare = [member for member in cast if member.is_rare]
    return [member for index, member in enumerate(rare) if number in (2 + index, 4 + index)]


class _Acting:
    """How one character moves through one shot."""

    def __init__(
        self, rng: np.random.Generator, member: CastMember, x: float, size_px: int, framing: str, is_free: bool
    ) -> None:
        self.rng, self.member, self.size_px, self.framing = rng, member, size_px, framing
        actions = ("walk", "wave", "talk", "jump", "turn") if is_free else ("wave", "talk", "jump", "turn")
        self.action = str(rng.choice(actions))
        direction = 1.0 if rng.random() < 0.5 else -1.0
        self.x, self.is_flipped = x, direction < 0
        self.step = direction * float(rng.uniform(0.07, 0.12)) if self.action == "walk" else 0.0
        if self.action == "walk":
            self.x = 0.5 - direction * float(rng.uniform(0.3, 0.46))
        self.expression = str(rng.choice(_EXPRESSIONS))
        self.phase = float(rng.random())
        self.sink = -float(rng.uniform(0.12, 0.22)) if framing == "close-up" else -float(rng.uniform(0.0, 0.08))

    def perform(self, index: int) -> Performance:
        """Drawing number `index` of the shot."""
        rng = self.rng
        if rng.random() < (0.6 if self.action == "talk" else 0.3):
            self.expression = str(rng.choice(_EXPRESSIONS))
        bounce = abs(math.sin(0.9 * index + 6.28 * self.phase)) if self.action == "jump" else 0.0
        if self.action == "turn" and index % 2 == 1:
            self.is_flipped = not self.is_flipped
        arms = {"wave": ("waving", "up", "waving", "down")[index % 4], "jump": "up" if bounce > 0.4 else "down"}
        pose = CreaturePose(
            expression=self.expression,
            arms=arms.get(self.action, str(rng.choice(["down", "down", "waving", "up"]))),
            is_flipped=self.is_flipped,
            tilt=float(rng.uniform(-0.1, 0.1)),
            squash=1.0 + float(rng.uniform(-0.03, 0.03)) - 0.05 * (bounce - 0.5) * (self.action == "jump"),
            gaze=(float(rng.uniform(-1, 1)), float(rng.uniform(-0.8, 0.8))),
            walk_phase=(self.phase + 0.19 * index) % 1.0 if self.action == "walk" else 0.0,
        )
        x = self.x + self.step * index + float(rng.uniform(-0.025, 0.025))
        lift = self.sink + 0.14 * bounce + float(rng.uniform(-0.01, 0.01))
        return Performance(self.member.name, pose, x, lift, round(self.size_px * float(rng.uniform(0.97, 1.03))))


def _story_shot(
    rng: np.random.Generator, shot: int, members: list[CastMember], drawings: int, height_px: int, is_guest: bool
) -> list[Drawing]:
    """One shot: a set, a camera move, one or two characters acting; empty of characters it is a landscape."""
    place, set_number = str(rng.choice(list(PLACES))), int(rng.integers(SETS_PER_PLACE))
    framings = ("medium", "wide") if len(members) > 1 or is_guest else tuple(_FRAMINGS)
    framing = str(rng.choice(framings))
    gap = float(rng.uniform(0.09, 0.15)) if rng.random() < 0.25 else float(rng.uniform(0.24, 0.32))
    places = (0.5 - gap, 0.5 + gap) if len(members) > 1 else (float(rng.uniform(0.35, 0.65)),)
    size_px = round(float(rng.uniform(*_FRAMINGS[framing])) * height_px)
    acting = [
        _Acting(rng, member, x, round(size_px * float(rng.uniform(0.85, 1.1))), framing, is_free=len(members) == 1)
        for member, x in zip(members, places, strict=bool(members))
    ]
    has_foreground = bool(rng.random() < 0.35) and not is_guest
    camera, speed = float(rng.random()), float(rng.uniform(0.03, 0.12)) * (1 if rng.random() < 0.5 else -1)
    if not 0.0 < camera + speed * drawings < 1.0:
        speed = -speed
    return [
        Drawing(
            kind="story" if members else "landscape",
            shot=shot,
            place=place,
            set_number=set_number,
            camera=min(1.0, max(0.0, camera + speed * index)),
            performances=tuple(actor.perform(index) for actor in acting),
            has_foreground=has_foreground,
        )
        for index in range(drawings)
    ]


def _opening(rng: np.random.Generator, number: int, title: str, frames: int, height_px: int) -> list[Drawing]:
    subtitle = f"Episode {number}"
    if frames < _SMALL_EPISODE_FRAMES:
        return [Drawing("title", 0, text=(title, subtitle))]
    landscape = _story_shot(rng, 1, [], 3, height_px, is_guest=False)
    faded_in = replace(landscape[0], kind="fade", fade=0.72)
    return [Drawing("title", 0, text=(title, subtitle), hold=2), faded_in, *landscape[1:]]


def plan_episode(
    cast: Sequence[CastMember], number: int, frames: int, seed: int, height_px: int, title: str = "Yokai Hills"
) -> list[Drawing]:
    """The drawings of episode `number` (from 1); their holds add up to `frames`.

    A title, an establishing shot that fades in, shots of one or two characters held on ones, twos and threes,
    now and then a landscape, at last a black frame and credits. Very short episodes have fewer of these.
    """
    rng = np.random.default_rng([seed, _EPISODE_STREAM, number])
    plan = _opening(rng, number, title, frames, height_px)
    closing = 0 if frames < _SMALL_EPISODE_FRAMES else 3
    rota = _present_cast(cast, number, rng)
    guests = _guests(cast, number)
    guest_shot_at = int(rng.integers(2, 4))
    turn, shot = 0, plan[-1].shot + 1
    while sum(drawing.hold for drawing in plan) < frames - closing:
        is_guest = bool(guests) and (shot >= guest_shot_at or not rota)
        if is_guest:
            members, drawings = [guests.pop(0)], GUEST_DRAWINGS
        elif not rota or rng.random() < 0.07:
            members, drawings = [], 2
        else:
            members = [rota[turn % len(rota)]]
            if len(rota) > 1 and rng.random() < 0.38:
                members.append(rota[(turn + 1) % len(rota)])
            turn += len(members)
            drawings = int(rng.integers(4, 8))
        shot_plan = _story_shot(rng, shot, members, drawings, height_px, is_guest)
        if not is_guest:
            holds = rng.choice([1, 2, 3], size=len(shot_plan), p=[0.64, 0.27, 0.09])
            shot_plan = [replace(drawing, hold=int(hold)) for drawing, hold in zip(shot_plan, holds, strict=True)]
        plan += shot_plan
        shot += 1
    plan = _cut_to_length(plan, frames - closing)
    if closing:
        last = plan[-1].shot
        plan += [Drawing("black", last + 1), Drawing("credits", last + 2, hold=2)]
    return plan


def _cut_to_length(plan: list[Drawing], frames: int) -> list[Drawing]:
    kept: list[Drawing] = []
    left = frames
    for drawing in plan:
        if left <= 0:
            break
        kept.append(replace(drawing, hold=min(drawing.hold, left)))
        left -= drawing.hold
    return kept

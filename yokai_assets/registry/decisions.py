"""What a person decided of characters: the kinds of decision, and the log that they are kept in.

Decisions are data, only ever appended to; a mistake is undone by another decision. What they do to members and states
is `applying` and `states`; whether one makes sense now, before it is written, is `deciding`; files are `store`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from yokai_assets.storage.files import sha256_of_parts


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InstanceRef(_Frozen):
    """An instance, by id and by where it is: cut anew, its frame's instances may be numbered otherwise."""

    instance_id: str
    box: tuple[int, int, int, int] = Field(description="x0, y0, x1, y1 in the frame (px).")

    @property
    def frame_id(self) -> str:
        """The frame that it is in."""
        return self.instance_id.rpartition("/")[0]


class Name(_Frozen):
    """What people call the character; its id and its files keep their names."""

    kind: Literal["name"] = "name"
    character_id: str
    name: str = Field(max_length=80)


class Merge(_Frozen):
    """Another character is this one too."""

    kind: Literal["merge"] = "merge"
    character_id: str = Field(description="The one that goes on.")
    other: str


class Split(_Frozen):
    """Some instances of the character are another one, which gets an id of its own."""

    kind: Literal["split"] = "split"
    character_id: str
    instances: tuple[InstanceRef, ...] = Field(min_length=1, description="What becomes the new character.")


class Exclude(_Frozen):
    """Some instances are not the character."""

    kind: Literal["exclude"] = "exclude"
    character_id: str
    instances: tuple[InstanceRef, ...] = Field(min_length=1)


class Dismiss(_Frozen):
    """It is no character: scenery, a prop, a title card."""

    kind: Literal["dismiss"] = "dismiss"
    character_id: str


class Accept(_Frozen):
    """It is a character, whatever the signs say."""

    kind: Literal["accept"] = "accept"
    character_id: str


class Freeze(_Frozen):
    """Its members stay as they are, whatever later clusterings find."""

    kind: Literal["freeze"] = "freeze"
    character_id: str


class Retire(_Frozen):
    """It is a character, but not to be trained any more."""

    kind: Literal["retire"] = "retire"
    character_id: str


class Undo(_Frozen):
    """An earlier decision does not hold any more."""

    kind: Literal["undo"] = "undo"
    decision_id: int


What = Annotated[
    Name | Merge | Split | Exclude | Dismiss | Accept | Freeze | Retire | Undo, Field(discriminator="kind")
]


class Decision(_Frozen):
    """One decision: what, when, by whom."""

    decision_id: int = Field(ge=1)
    at: datetime
    by: str
    what: What

    @property
    def characters(self) -> set[str]:
        """Characters that it speaks of."""
        named = (getattr(self.what, "character_id", None), getattr(self.what, "other", None))
        return {name for name in named if name is not None}

    def in_words(self) -> str:
        """Return what was decided, as a clause."""
        what = self.what
        match what:
            case Name():
                return f"{what.character_id} is called {what.name!r}" if what.name else f"{what.character_id}: no name"
            case Merge():
                return f"{what.other} merged into {what.character_id}"
            case Split():
                return f"{len(what.instances)} instances split from {what.character_id}"
            case Exclude():
                return f"{len(what.instances)} instances are not {what.character_id}"
            case Dismiss():
                return f"{what.character_id} is no character"
            case Accept():
                return f"{what.character_id} is a character"
            case Freeze():
                return f"{what.character_id} is frozen"
            case Retire():
                return f"{what.character_id} is retired"
            case Undo():
                return f"decision {what.decision_id} is undone"


@dataclass(frozen=True, slots=True)
class DecisionLog:
    """All decisions, oldest first."""

    decisions: Sequence[Decision] = ()

    @property
    def in_force(self) -> list[Decision]:
        """Those that hold: neither undone nor an undoing."""
        undone = {decision.what.decision_id for decision in self.decisions if isinstance(decision.what, Undo)}
        return [d for d in self.decisions if not isinstance(d.what, Undo) and d.decision_id not in undone]

    def about(self, known_ids: Collection[str]) -> tuple["DecisionLog", dict[int, str]]:
        """Return the log without decisions in force about characters that nobody knows, and why each is left out."""
        strangers = {}
        for decision in self.in_force:
            for name in decision.characters - set(known_ids):
                strangers[decision.decision_id] = f"there is no character {name}"
        return DecisionLog(tuple(d for d in self.decisions if d.decision_id not in strangers)), strangers

    @property
    def fingerprint(self) -> str:
        """Hash of what holds: it changes exactly when the decisions in force do."""
        return sha256_of_parts([(d.decision_id, d.what.model_dump(mode="json")) for d in self.in_force])[:32]

    def merged_into(self) -> dict[str, str]:
        """Return character -> the one that it is part of in the end, for merged ones; a circle's last step is void."""
        parent: dict[str, str] = {}
        for decision in self.in_force:
            what = decision.what
            if isinstance(what, Merge) and _end_of(parent, what.character_id) != what.other:
                parent[what.other] = what.character_id
        return {character: _end_of(parent, character) for character in parent}

    def last(self, character_id: str, *kinds: type[BaseModel]) -> Decision | None:
        """Return the newest decision in force of some kinds about a character."""
        for decision in reversed(self.in_force):
            what = decision.what
            if isinstance(what, kinds) and getattr(what, "character_id", None) == character_id:
                return decision
        return None

    def names(self) -> dict[str, str]:
        """Return character -> what people call it."""
        said = {d.what.character_id: d.what.name for d in self.in_force if isinstance(d.what, Name)}
        return {character: name for character, name in said.items() if name}

    def referenced(self) -> list[InstanceRef]:
        """Return every instance that a decision in force names."""
        found = [d.what.instances for d in self.in_force if isinstance(d.what, Split | Exclude)]
        return [reference for references in found for reference in references]


def _end_of(parent: dict[str, str], character: str) -> str:
    seen = {character}
    while (following := parent.get(character)) is not None and following not in seen:
        seen.add(following)
        character = following
    return character

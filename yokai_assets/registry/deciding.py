"""Whether a decision makes sense now, before it is written down: who is meant, and what stands against it.

Questions to the newest version of the registry; nothing is written here. What a decision does is `applying`.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl

from yokai_assets.clustering.linkage import SHARED_FRAME_SHARE
from yokai_assets.registry.decisions import (
    Accept,
    Decision,
    DecisionLog,
    Dismiss,
    Exclude,
    Freeze,
    InstanceRef,
    Merge,
    Name,
    Retire,
    Split,
    Undo,
    What,
)
from yokai_assets.registry.registry import Registry
from yokai_assets.registry.updating import BOX_COLUMNS
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import read_columns
from yokai_assets.tables import INSTANCES

_CUTOUT = re.compile(r"(?P<episode>[^/]+)/characters/(?P<frame>\d{6})_(?P<index>\d+)_[0-9a-f]+\.webp$")


class DecisionError(ValueError):
    """A decision that makes no sense now; the message says why and what would."""


def find_character(registry: Registry, log: DecisionLog, text: str) -> str:
    """Return the id of the character that an id or a name means; a name counts as soon as it is decided.

    Raises:
        DecisionError: There is none, or several have that name.
    """
    if text in registry.characters["character_id"].to_list():
        return text
    called = [character for character, name in log.names().items() if name.lower() == text.strip().lower()]
    if len(called) == 1:
        return called[0]
    if called:
        raise DecisionError(f"{text}: several characters are called so ({', '.join(called)}). Give the id.")
    raise DecisionError(f"{text}: no such character. `yokai characters list` shows them.")


def find_instances(registry: Registry, character_id: str, texts: Sequence[str]) -> list[str]:
    """Return the character's instances that instance ids or files of cut-outs mean.

    Raises:
        DecisionError: One of them is not the character's.
    """
    own = set(registry.members_of(character_id)["instance_id"])
    found = []
    for text in texts:
        cutout = _CUTOUT.search(text)
        name = f"{cutout['episode']}/{cutout['frame']}/{cutout['index']}" if cutout else text
        if name not in own:
            raise DecisionError(
                f"{text}: not an image of {character_id}. Give an instance id (`<episode>/<frame>/<number>`, as "
                "`yokai characters show` lists them) or the file of a cut-out."
            )
        found.append(name)
    return sorted(set(found))


def boxes_of(instance_ids: Sequence[str], layout: Layout) -> pl.DataFrame:
    """Return `BOX_COLUMNS` of every instance in the frames that some instances are in; damaged tables are left out."""
    names = pl.Series(sorted(set(instance_ids)), dtype=pl.String)
    frames = names.str.replace(r"/[^/]*$", "").unique()
    episodes = names.str.split("/").list.first().unique().to_list()  # an episode's name has no `/`
    is_wanted = pl.col("frame_id").is_in(frames.implode())
    folder = layout.tables / "character_layers"
    return read_columns(INSTANCES, folder, BOX_COLUMNS, episodes, where=is_wanted, skip_damaged=True)


def references_to(instance_ids: Sequence[str], boxes: pl.DataFrame) -> tuple[InstanceRef, ...]:
    """Return what a decision keeps of instances.

    Raises:
        DecisionError: One is not in the tables any more.
    """
    by_id = {row[0]: (row[1], row[2], row[3], row[4]) for row in boxes.drop("frame_id").iter_rows()}
    gone = [name for name in instance_ids if name not in by_id]
    if gone:
        raise DecisionError(f"{gone[0]}: the layers have no such instance any more. Run `yokai run` first.")
    return tuple(InstanceRef(instance_id=name, box=by_id[name]) for name in sorted(instance_ids))


def require_sense(whats: Sequence[What], registry: Registry, log: DecisionLog, *, is_forced: bool = False) -> None:
    """Refuse decisions of which one cannot hold, says nothing new, or contradicts what is plain to see.

    Args:
        whats: The decisions, in order; each may build on those before it.
        registry: Newest version.
        log: What was decided before.
        is_forced: Merge even characters who are seen together.

    Raises:
        DecisionError: With the reason, and what to do instead.
    """
    for what in whats:
        _require_sense(what, registry, log, is_forced)
        number = max((decision.decision_id for decision in log.decisions), default=0) + 1
        decided = Decision(decision_id=number, at=datetime.now(UTC), by="", what=what)
        log = DecisionLog((*log.decisions, decided))


def _require_sense(what: What, registry: Registry, log: DecisionLog, is_forced: bool) -> None:
    match what:
        case Merge():
            _require_merge(what, registry, log, is_forced)
        case Split() | Exclude():
            _require_some_not_all(what, registry, log)
        case Name():
            _require_name(what, log)
        case Freeze():
            _require_members(what.character_id, registry, "nothing to freeze")
            _require_not_frozen(what.character_id, log, "it is already")
        case Dismiss() | Retire() | Accept():
            _require_news(what, registry, log)
        case Undo():
            _require_undoable(what, registry, log)


def _require_merge(what: Merge, registry: Registry, log: DecisionLog, is_forced: bool) -> None:
    merged = log.merged_into()
    if what.character_id in merged:
        whole = merged[what.character_id]
        raise DecisionError(f"{what.character_id} is part of {whole} by decision: merge into {whole}.")
    if what.other == what.character_id:
        raise DecisionError(f"{what.other} cannot be merged into itself.")
    if what.other in merged:
        raise DecisionError(f"{what.other} is part of {merged[what.other]} already.")
    for character in (what.character_id, what.other):
        _require_not_frozen(character, log, "a merge would change its members")
    shared, share = _frames_together(registry, what.character_id, what.other)
    if shared > 1 and share > SHARED_FRAME_SHARE and not is_forced:
        raise DecisionError(
            f"{what.character_id} and {what.other} are seen together in {shared} frames ({share:.0%} of the rarer "
            "one's): one frame shows no character twice. If they are one all the same, say `--even-so`: in those "
            "frames only the surer instance stays."
        )


def _frames_together(registry: Registry, first: str, second: str) -> tuple[int, float]:
    one, other = (
        set(registry.members_of(character)["instance_id"].str.replace(r"/[^/]*$", "")) for character in (first, second)
    )
    shared = len(one & other)
    return shared, shared / max(1, min(len(one), len(other)))


def _require_some_not_all(what: Split | Exclude, registry: Registry, log: DecisionLog) -> None:
    _require_members(what.character_id, registry, "it has no images")
    if isinstance(what, Split):
        _require_not_frozen(what.character_id, log, "a split would change its members")
    if len(what.instances) >= registry.members_of(what.character_id).height:
        remedy = "name it instead" if isinstance(what, Split) else "dismiss or retire it instead"
        raise DecisionError(f"{what.character_id}: these are all its images; {remedy}.")


def _require_name(what: Name, log: DecisionLog) -> None:
    name = what.name.strip()
    if name != what.name or any(ord(letter) < 32 for letter in name):
        raise DecisionError(f"{what.name!r}: a name has no line breaks and no spaces around it.")
    taken = [who for who, called in log.names().items() if called.lower() == name.lower() and who != what.character_id]
    if taken:
        raise DecisionError(f"{name!r} is the name of {taken[0]}. If they are one, merge them.")
    if re.fullmatch(r"cluster_\d+", name) and name != what.character_id:
        raise DecisionError(f"{name!r} is an id, not a name.")


def _require_members(character_id: str, registry: Registry, reason: str) -> None:
    if registry.members_of(character_id).is_empty():
        state = registry.characters.filter(pl.col("character_id") == character_id)["state"][0]
        raise DecisionError(f"{character_id} is {state} and has no members: {reason}.")


def _require_not_frozen(character_id: str, log: DecisionLog, reason: str) -> None:
    freeze = log.last(character_id, Freeze)
    if freeze:
        raise DecisionError(
            f"{character_id} is frozen: {reason}. Undo that first: yokai characters undo {freeze.decision_id}"
        )


def _require_news(what: Dismiss | Retire | Accept, registry: Registry, log: DecisionLog) -> None:
    newest = log.last(what.character_id, Dismiss, Accept, Retire)
    if newest and newest.what.kind == what.kind:
        raise DecisionError(f"{newest.in_words()} already (decision {newest.decision_id}).")
    whole = log.merged_into().get(what.character_id)
    if whole:
        raise DecisionError(f"{what.character_id} is part of {whole} by decision: say it of {whole}.")
    state = registry.characters.filter(pl.col("character_id") == what.character_id)["state"][0]
    if isinstance(what, Accept) and state == "active":
        raise DecisionError(f"{what.character_id} is active already: there is nothing to accept.")


def _require_undoable(what: Undo, registry: Registry, log: DecisionLog) -> None:
    found = {d.decision_id: d for d in log.decisions}.get(what.decision_id)
    if found is None:
        raise DecisionError(f"There is no decision {what.decision_id}. `yokai characters decisions` lists them.")
    if found not in log.in_force:
        hint = "Decide anew instead." if isinstance(found.what, Undo) else "It is undone already."
        raise DecisionError(f"Decision {what.decision_id} ({found.in_words()}) cannot be undone. {hint}")
    made = registry.characters.filter(pl.col("split_by") == what.decision_id)["character_id"].to_list()
    for later in log.in_force:
        if later.decision_id != what.decision_id and later.characters & set(made):
            raise DecisionError(
                f"Decision {later.decision_id} ({later.in_words()}) speaks of {made[0]}, which decision "
                f"{what.decision_id} made. Undo that one first."
            )


def propose_parts(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the part of each instance, int [N], 0 the largest: k-means of unit vectors float32 [N, D].

    Raises:
        DecisionError: There are fewer instances than parts.
    """
    from sklearn.cluster import KMeans

    if len(vectors) < count:
        raise DecisionError(f"{len(vectors)} images cannot be {count} parts.")
    parts = KMeans(n_clusters=count, n_init="auto", random_state=seed).fit_predict(vectors)
    order = np.argsort(-np.bincount(parts, minlength=count), kind="stable")
    return np.argsort(order)[parts]

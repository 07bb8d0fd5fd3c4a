"""Which layers were removed to save space: one small JSON file for each episode, written before anything is removed.

So a layer whose file is gone is known to be *removed* and not missing, and a kill between the two leaves a layer that
is said to be removed and is still there, which harms nothing. The tables are not touched: rows of removed cut-outs and
plates stay as they are.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, ValidationError
from upath import UPath

from yokai_assets.storage.files import write_text
from yokai_assets.storage.layout import Layout

_LOG = logging.getLogger(__name__)


class LayerKind(StrEnum):
    """A kind of layer: the name of its folder."""

    CHARACTERS = "characters"
    BACKGROUNDS = "backgrounds"

    @property
    def asset(self) -> str:
        """The asset that makes it."""
        return "character_layers" if self is LayerKind.CHARACTERS else "background_layers"

    def folder(self, layout: Layout, episode: str) -> UPath:
        """Return where an episode's layers of this kind lie."""
        is_cutout = self is LayerKind.CHARACTERS
        return layout.character_layers(episode) if is_cutout else layout.background_layers(episode)


class Removed(BaseModel):
    """What was removed of one kind of layer of one episode: when, how much, for which policy."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: datetime
    file_count: int
    size_bytes: int
    policy: str


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore")

    removed: dict[LayerKind, Removed] = {}


_UNKNOWN = Removed(at=datetime.fromtimestamp(0, UTC), file_count=0, size_bytes=0, policy="unknown")


def removed_of(layout: Layout, episode: str) -> Mapping[LayerKind, Removed]:
    """Return what was removed of an episode's layers and has not been made again as a whole."""
    path = _file(layout, episode)
    try:
        return _Record.model_validate_json(path.read_bytes()).removed
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        # Whoever reads a layer looks whether its file is there first: to take it for removed is never wrong.
        _LOG.warning("%s is damaged (%s): all layers of the episode count as removed.", path, error.errors()[0]["msg"])
        return dict.fromkeys(LayerKind, _UNKNOWN)


def removed_layers(layout: Layout) -> dict[str, Mapping[LayerKind, Removed]]:
    """Return episode -> what was removed of it, of all episodes of which anything was."""
    if not layout.retention.exists():
        return {}
    names = (f.name for f in layout.retention.iterdir() if f.name.endswith(".json") and not f.name.startswith("."))
    found = {name.removesuffix(".json"): removed_of(layout, name.removesuffix(".json")) for name in sorted(names)}
    return {episode: removed for episode, removed in found.items() if removed}


def note_removal(layout: Layout, episode: str, kind: LayerKind, removed: Removed) -> None:
    """Note that layers are about to be removed; where some were removed before, the first note stands."""
    known = removed_of(layout, episode)
    if kind not in known:
        _write(layout, episode, {**known, kind: removed})


def forget_removal(layout: Layout, episode: str, kind: LayerKind) -> None:
    """Note that all of an episode's layers of a kind are there again; call it once they are."""
    known = removed_of(layout, episode)
    if kind in known:
        _write(layout, episode, {other: removed for other, removed in known.items() if other is not kind})


def _write(layout: Layout, episode: str, removed: Mapping[LayerKind, Removed]) -> None:
    write_text(_file(layout, episode), _Record(removed=dict(removed)).model_dump_json(indent=2))


def _file(layout: Layout, episode: str) -> UPath:
    return layout.retention / f"{episode}.json"

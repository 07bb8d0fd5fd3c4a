"""Room on the disk: what is free, what is still to be written, and whether that fits.

Measured on what is there already where anything is; before, from what drawn and filmed series came to. An estimate
warns; what protects the disk is that nothing is begun once too little is free (`is_low`).
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from upath import UPath

from yokai_assets.forecast import count_frames
from yokai_assets.frames.decoding import FrameError
from yokai_assets.frames.episodes import EpisodeSource
from yokai_assets.retention.ledger import removed_layers
from yokai_assets.settings import Settings
from yokai_assets.storage.files import is_local
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.parquet import table_files
from yokai_assets.storage.sizes import stage_bytes

USUAL_FRAME_BYTES = 20_000
"""A frame of a series leaves so much: 0.4 cut-outs of 38 kB (720p, measured), its share of a plate, vectors, rows."""

USUAL_CHARACTER_BYTES = 500e6
"""A character leaves so much: 200 images, five checkpoints of rank 32, pictures of the evaluation."""

_EPISODE_STAGES = ("frames", "character_layers", "background_layers", "embeddings")
_CHARACTER_STAGES = (
    "character_members", "character_profile", "captions", "training_dataset", "lora_model", "published_lora",
    "lora_evaluation",
)  # fmt: skip


class NoRoomError(RuntimeError):
    """Too little is free on the disk to begin; the message says where, how much, and what to do."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes on the disk of a data root: free, and those of them that are to stay so."""

    place: str
    free_bytes: int
    reserved_bytes: int

    @property
    def is_low(self) -> bool:
        """Whether nothing more should be begun."""
        return self.free_bytes < self.reserved_bytes

    @property
    def usable_bytes(self) -> int:
        """What may be written."""
        return max(0, self.free_bytes - self.reserved_bytes)


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes that a frame and a character leave.

    Attributes:
        frame_bytes: Of all stages of an episode, for each of its frames.
        character_bytes: Of all stages of a character.
        are_measured: Whether frames, characters were measured on what is there.
    """

    frame_bytes: float
    character_bytes: float
    are_measured: tuple[bool, bool]


def room_of(settings: Settings) -> Room | None:
    """Return the room on the data root's disk; None for an object store, which has no end."""
    root = UPath(settings.data_root)
    if not is_local(root):
        return None
    place = Path(str(root)).expanduser().absolute()
    while not place.exists():
        place = place.parent
    return Room(str(place), shutil.disk_usage(place).free, round(settings.retention.min_free_gb * 1e9))


def require_room(settings: Settings) -> None:
    """See that there is room to begin a step that writes much, whoever started it.

    Raises:
        NoRoomError: Less than half of `retention.min_free_gb` is free: runs that `yokai run` had begun when it paused
            may end.
    """
    room = room_of(settings)
    if room and room.free_bytes < room.reserved_bytes / 2:
        raise NoRoomError(
            f"{room.place}: only {room.free_bytes / 1e9:.2f} GB are free. Nothing was begun, so that the disk does not "
            f"fill up. Free space (`yokai space` says what may go), or lower `retention.min_free_gb` "
            f"({settings.retention.min_free_gb:g})."
        )


def rates_of(layout: Layout, sizes: Mapping[str, int] | None = None) -> Rates:
    """Measure what frames and characters leave, on those that are made; usual values where there are none.

    Args:
        layout: Where things lie.
        sizes: `stage_bytes` of it, where that is known already.
    """
    sizes = stage_bytes(layout) if sizes is None else sizes
    frames = sum(_row_count(file) for file in table_files(layout.tables / "frames").values())
    removed = sum(r.size_bytes for kinds in removed_layers(layout).values() for r in kinds.values())
    of_episodes = sum(sizes.get(stage, 0) for stage in _EPISODE_STAGES) + removed
    characters = len(table_files(layout.tables / "lora_evaluation"))
    of_characters = sum(sizes.get(stage, 0) for stage in _CHARACTER_STAGES)
    has_layers = sizes.get("character_layers", 0) + removed > 0
    return Rates(
        of_episodes / frames if frames and has_layers else USUAL_FRAME_BYTES,
        of_characters / characters if characters else USUAL_CHARACTER_BYTES,
        (bool(frames and has_layers), bool(characters)),
    )


def bytes_of_episodes(episodes: Sequence[EpisodeSource], settings: Settings, rates: Rates) -> float:
    """Return what episodes will leave; of those made before, as if nothing of them could be used again."""
    return rates.frame_bytes * sum(_frames_of(episode, settings) for episode in episodes)


def _frames_of(episode: EpisodeSource, settings: Settings) -> int:
    try:
        return count_frames(episode, settings)
    except (OSError, FrameError):
        return 0  # the step says what is amiss with it


def _row_count(file: UPath) -> int:
    try:
        return pl.scan_parquet(str(file)).select(pl.len()).collect().item() if is_local(file) else 0
    except (pl.exceptions.PolarsError, OSError):
        return 0

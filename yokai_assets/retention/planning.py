"""What may go, by the retention policy, and why the rest stays. Names files and bytes; removes nothing.

What is still needed is told to it, for that is known to the orchestration alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from upath import UPath

from yokai_assets.retention.caches import cache_removals
from yokai_assets.retention.checkpoints import checkpoint_removals
from yokai_assets.retention.ledger import LayerKind
from yokai_assets.retention.removal import Kept, Removal
from yokai_assets.settings.retention import RetentionSettings
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.sizes import files_under, stage_bytes


@dataclass(frozen=True, slots=True)
class Needs:
    """What is needed because something that is not made yet, or not up to date, will read it.

    Attributes:
        episodes: Episode -> why its layers must not be touched: they are read now, or would not come back.
        wanted: Episode -> why its layers will be read; whoever does makes again what was removed.
        characters: Character -> why its checkpoints are needed.
        shown: Cut-outs and plates (relative to the data root) that reports show: they stay in any case.
    """

    episodes: Mapping[str, str] = field(default_factory=dict)
    wanted: Mapping[str, str] = field(default_factory=dict)
    characters: Mapping[str, str] = field(default_factory=dict)
    shown: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What may go.

    Attributes:
        removals: What may go, and why.
        kept: What the policy would remove and must not: it is needed, or would not come back.
        stage_bytes: Bytes on disk by stage, before.
    """

    removals: tuple[Removal, ...]
    kept: tuple[Kept, ...]
    stage_bytes: Mapping[str, int]

    @property
    def size_bytes(self) -> int:
        """Bytes that would be freed."""
        return sum(removal.size_bytes for removal in self.removals)

    def freed_by_stage(self) -> dict[str, int]:
        """Return stage -> bytes that would be freed."""
        freed: dict[str, int] = {}
        for removal in self.removals:
            freed[removal.stage] = freed.get(removal.stage, 0) + removal.size_bytes
        return freed


def plan_retention(layout: Layout, settings: RetentionSettings, needs: Needs) -> RetentionPlan:
    """Name what may go.

    Args:
        layout: Where things lie.
        settings: The policy.
        needs: What must stay whatever the policy says.
    """
    removals, kept = _layers(layout, settings, needs)
    if settings.checkpoints_per_character is not None:
        found = checkpoint_removals(layout, settings.checkpoints_per_character, needs.characters)
        removals, kept = [*removals, *found[0]], [*kept, *found[1]]
    removals += cache_removals(layout, settings)
    return RetentionPlan(tuple(removals), tuple(kept), stage_bytes(layout))


def _layers(layout: Layout, settings: RetentionSettings, needs: Needs) -> tuple[list[Removal], list[Kept]]:
    if settings.layers == "keep":
        return [], []
    kinds = [LayerKind.CHARACTERS, *([LayerKind.BACKGROUNDS] if settings.plates == "like_layers" else [])]
    found = [_episode(layout, episode, kind, settings, needs) for episode in _episodes(layout) for kind in kinds]
    filled = [removal for removal in found if removal.paths]
    free = [one for one in filled if one.partition not in needs.episodes and one.partition not in needs.wanted]
    chosen = free
    if settings.layers == "budget_gb":
        excess_bytes = layers_bytes(layout) - settings.budget_gb * 1e9
        # Those that will be read come last: making them again costs time.
        wanted = [one for one in filled if one.partition in needs.wanted and one.partition not in needs.episodes]
        chosen = _down_to([*free, *wanted], excess_bytes)
        if excess_bytes <= sum(removal.size_bytes for removal in chosen):
            return chosen, []
    reasons = {**needs.wanted, **needs.episodes}
    kept = [
        Kept(one.stage, one.partition, one.size_bytes, reasons[one.partition])
        for one in filled
        if one not in chosen and one.partition in reasons
    ]
    return chosen, kept


def layers_bytes(layout: Layout) -> int:
    """Return the bytes that all layers of the series take."""
    return sum(size_bytes for _, size_bytes in files_under(layout.layers))


def _down_to(removals: Iterable[Removal], excess_bytes: float) -> list[Removal]:
    """Return the first removals that together free so much, or all where they do not."""
    chosen: list[Removal] = []
    for removal in removals:
        if excess_bytes <= 0:
            break
        chosen.append(removal)
        excess_bytes -= removal.size_bytes
    return chosen


def _episodes(layout: Layout) -> list[str]:
    if not layout.layers.exists():
        return []
    return sorted(folder.name for folder in layout.layers.iterdir() if not folder.name.startswith("."))


def _episode(layout: Layout, episode: str, kind: LayerKind, settings: RetentionSettings, needs: Needs) -> Removal:
    folder = kind.folder(layout, episode)
    files = [
        (folder.joinpath(*parts), size_bytes)
        for parts, size_bytes in files_under(folder)
        # Not the journal beside them: it knows in which frames nobody was found.
        if parts[-1].endswith(".webp")
        and not parts[-1].startswith(".")
        and _relative(kind, layout, episode, parts) not in needs.shown
    ]
    why = (
        "what will be read of it is made again then"
        if episode in needs.wanted
        else "the training sets of everybody seen in it are made"
    )
    if settings.layers == "budget_gb":
        why += f", and all layers take more than {settings.budget_gb:g} GB"
    paths: tuple[UPath, ...] = tuple(path for path, _ in files)
    return Removal(kind.asset, episode, paths, sum(size_bytes for _, size_bytes in files), why, settings.layers, kind)


def _relative(kind: LayerKind, layout: Layout, episode: str, parts: Iterable[str]) -> str:
    return "/".join((layout.relative(kind.folder(layout, episode)), *parts))

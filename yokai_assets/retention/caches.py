"""Bounding the content-keyed caches of training: the oldest entries go, and are made again where they are wanted.

Entries never become wrong, so any may go at any time; a training that runs meanwhile encodes again what it misses.
Readings of taggers (one small SQLite file) and hashes of model files have no bound.
"""

from collections.abc import Iterator
from pathlib import Path

from upath import UPath

from yokai_assets.retention.removal import Removal
from yokai_assets.settings.retention import RetentionSettings
from yokai_assets.storage.files import is_local
from yokai_assets.storage.layout import Layout
from yokai_assets.storage.sizes import SHARED_CACHES

_SUFFIX = ".safetensors"


def cache_removals(layout: Layout, settings: RetentionSettings) -> list[Removal]:
    """Name the oldest entries of each cache that takes more than it may."""
    budgets = {"latents": settings.latents_budget_gb, "text": settings.texts_budget_gb}
    found = (
        _oldest(layout.cache / name, name, budget_gb) for name, budget_gb in budgets.items() if budget_gb is not None
    )
    return [removal for removal in found if removal.paths]


def _oldest(folder: UPath, name: str, budget_gb: float) -> Removal:
    entries = sorted(_entries(folder))
    excess_bytes = sum(size_bytes for _, _, size_bytes in entries) - budget_gb * 1e9
    chosen: list[UPath] = []
    freed_bytes = 0
    for _, place, size_bytes in entries:
        if freed_bytes >= excess_bytes:
            break
        chosen.append(folder / place)
        freed_bytes += size_bytes
    why = f"{name} take more than {budget_gb:g} GB; the oldest go"
    return Removal(SHARED_CACHES, name, tuple(chosen), freed_bytes, why, f"{name}_budget_gb")


def _entries(folder: UPath) -> Iterator[tuple[float, str, int]]:
    """Yield time of writing (s since the epoch), way below the folder, and size (bytes) of each entry."""
    if not folder.exists():
        return
    if is_local(folder):
        root = Path(str(folder))
        for file in root.glob(f"*/*{_SUFFIX}"):
            try:
                status = file.stat()
            except OSError:  # somebody else removed it
                continue
            yield status.st_mtime, file.relative_to(root).as_posix(), status.st_size
        return
    prefix = folder.path.rstrip("/") + "/"
    for path, details in dict(folder.fs.find(folder.path, detail=True)).items():
        if path.endswith(_SUFFIX):
            at = details.get("LastModified") or details.get("mtime") or details.get("created") or 0
            yield _seconds(at), path.removeprefix(prefix), int(details.get("size") or 0)


def _seconds(at: object) -> float:
    """Return a time as stores give it (datetime or number) in seconds since the epoch."""
    return float(at.timestamp()) if hasattr(at, "timestamp") else float(at) if isinstance(at, int | float) else 0.0  # pyright: ignore[reportAttributeAccessIssue]

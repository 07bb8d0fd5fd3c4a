"""Bytes on disk by the stage that left them.

Counting only. A series has a million cut-outs, so each tree is walked once. What several series of a data root share is
counted apart.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from upath import UPath

from yokai_assets.storage.files import is_local
from yokai_assets.storage.layout import Layout

SHARED_CACHES = "caches"
SHARED_WORK = "unfinished trainings"

_LAYER_STAGES = {"characters": "character_layers", "backgrounds": "background_layers"}
_OUTPUT_STAGES = {"ai_analysis": "character_profile", "lora_tests": "lora_evaluation"}


def stage_bytes(layout: Layout) -> dict[str, int]:
    """Return bytes by stage, and of what is shared under `caches` and `unfinished trainings`."""
    sizes: Counter[str] = Counter()
    for folder, stage_of in _places(layout):
        for parts, size_bytes in files_under(folder):
            sizes[stage_of(parts)] += size_bytes
    if layout.database.exists():
        sizes["catalog"] += layout.database.stat().st_size
    return dict(sizes)


def _places(layout: Layout) -> list[tuple[UPath, Callable[[Sequence[str]], str]]]:
    root, series = layout.root, layout.series
    return [
        (layout.tables, lambda parts: parts[0].removesuffix(".parquet")),
        (layout.layers, lambda parts: _LAYER_STAGES.get(parts[1] if len(parts) > 1 else "", "character_layers")),
        (layout.registry, lambda _: "character_registry"),
        (layout.regularisation, lambda _: "regularisation_set"),
        (root / "training_data" / series, lambda _: "training_dataset"),
        (root / "models" / "lora" / series, _model_stage),
        (layout.outputs, lambda parts: _OUTPUT_STAGES.get(parts[1] if len(parts) > 2 else "", "gallery")),
        (layout.cache, lambda _: SHARED_CACHES),
        (root / "work", lambda _: SHARED_WORK),
    ]


def _model_stage(parts: Sequence[str]) -> str:
    """Return who wrote a file of a LoRA's folder: steps and the training record are the trainer's."""
    character, name = parts[0], parts[-1]
    is_trained = name.startswith((f"{character}-step", f"{character}-training"))
    return "lora_model" if is_trained else "published_lora"


def files_under(folder: UPath) -> Iterator[tuple[Sequence[str], int]]:
    """Yield the way below `folder`, and the size (bytes), of each file; what cannot be read is passed over."""
    if is_local(folder):
        yield from _local_files(Path(str(folder)), ())
        return
    if not folder.exists():
        return
    prefix = folder.path.rstrip("/") + "/"
    found = dict(folder.fs.find(folder.path, detail=True))
    for path, details in found.items():
        yield path.removeprefix(prefix).split("/"), int(details.get("size") or 0)


def _local_files(folder: Path, parts: tuple[str, ...]) -> Iterator[tuple[Sequence[str], int]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _local_files(Path(entry.path), (*parts, entry.name))
                elif entry.is_file(follow_symlinks=False):
                    yield (*parts, entry.name), entry.stat(follow_symlinks=False).st_size
    except OSError:
        return

"""What steps do before they read layers: have those made again that were removed to save space.

Wiring only; what is made again and how is `yokai_assets.segmentation.restoring`.
"""

from typing import Any

import dagster as dg
from upath import UPath

from yokai_assets.defs.resources import ProgressResource, SettingsResource
from yokai_assets.progress import silent
from yokai_assets.segmentation.matte import open_matte
from yokai_assets.segmentation.restoring import LayerRestorer


def restorer_of(
    context: dg.AssetExecutionContext, settings: SettingsResource, progress: ProgressResource | None = None
) -> LayerRestorer:
    """Return what makes removed layers again for this step; it opens the matte only if anything is wanted."""
    chosen = settings.load()
    return LayerRestorer(
        settings.layout,
        UPath(chosen.frames_source),
        chosen.segmentation,
        chosen.background,
        lambda: open_matte(chosen.segmentation, settings.device()),
        progress=progress.of(context) if progress else silent,
        tell=context.log.info,
    )


def told(restorer: LayerRestorer) -> dict[str, Any]:
    """Return what was made again, as metadata; empty where nothing was."""
    numbers = {"restored_layer_count": restorer.restored_count, "layers_not_restored": restorer.problems[:20]}
    return {name: value for name, value in numbers.items() if value}

"""Which model a setting means, told cheaply: for deciding whether work is out of date, without loading anything.

The exact fingerprint over the weights is made by the stage that opens the model, and stands in its metadata.
"""

from pathlib import Path
from typing import Literal

from yokai_assets.settings import Settings
from yokai_assets.storage.files import sha256_of_parts

ModelKind = Literal["matte", "clip", "base", "readers"]


def model_identity(settings: Settings, kind: ModelKind) -> str:
    """Return a text that changes when the model does: its name, and for local files their sizes and times.

    A hub id stands for itself: what a hub holds under it is taken to stay.
    """
    names = {
        "matte": (settings.segmentation.model,),
        "clip": (settings.embedding.model, settings.embedding.pretrained or ""),
        "base": (settings.training.base_model,),
        "readers": (settings.captions.tagger or "", settings.captions.captioner or ""),
    }[kind]
    return sha256_of_parts([(name, _files_of(name, kind)) for name in names])[:16]


def _files_of(name: str, kind: ModelKind) -> object:
    if name == "demo" and kind != "readers":
        from yokai_assets.demo.models import manifest_of

        return manifest_of(kind)
    if not name:  # no model; as a path it would be the working directory
        return []
    path = Path(name.removeprefix("local-dir:")).expanduser()
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]

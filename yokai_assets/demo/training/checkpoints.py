"""Checkpoints of demo training runs: whole or absent on disk. Not here: what is in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors, numbers, strings and containers of them under a temporary name, then renames."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any] | None:
    """The state saved last, or None if there is none.

    Raises:
        RuntimeError: the file cannot be read; the message says what to do.
    """
    import torch

    if not path.exists():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise RuntimeError(
            f"{path} is no readable checkpoint ({type(error).__name__}); delete it to start afresh"
        ) from error

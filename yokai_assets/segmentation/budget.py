"""How much disk the layers of a series may take. Asked before an episode is cut; nothing is removed here."""

import os

from upath import UPath

from yokai_assets.storage.files import folder_bytes, is_local


class LayersBudgetError(RuntimeError):
    """The layers take all the room that they may; the message says how much, and what to do."""


def check_layers_budget(layers: UPath, budget_gb: float | None) -> int:
    """Return the bytes that all layers of a series take.

    Args:
        layers: The folder of all episodes' layers.
        budget_gb: `segmentation.layers_budget_gb`; None: no limit.

    Raises:
        LayersBudgetError: They take the budget or more already.
    """
    if budget_gb is None:
        return 0
    taken = _local_bytes(str(layers)) if is_local(layers) else folder_bytes(layers)
    if taken >= budget_gb * 1e9:
        raise LayersBudgetError(
            f"{layers}: layers take {taken / 1e9:.2f} GB, and segmentation.layers_budget_gb is {budget_gb:g}. "
            "Raise it, or see what may go (`yokai space --layers until_dataset`); the rest of the series goes on."
        )
    return taken


def _local_bytes(folder: str) -> int:
    """Sum file sizes in one pass: hundreds of thousands of cut-outs in a second or two."""
    total, waiting = 0, [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:  # somebody else removed it, or there are no layers yet
            continue
    return total

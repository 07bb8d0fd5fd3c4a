"""Where one training reads its caches and leaves its files.

Names only. A character's lie in the tree of its series, those of `yokai train` in the folder it is given.
"""

import re
from dataclasses import dataclass

from upath import UPath

from yokai_assets.storage.layout import Layout


@dataclass(frozen=True, slots=True)
class TrainingFiles:
    """Paths of one training.

    Attributes:
        name: Begins the name of every file; a character's id, or what `yokai train --name` says.
        folder: Checkpoints, record and TensorBoard events.
        state: Folder of what an unfinished training needs to go on.
        cache: Content-keyed caches, shared with any other training.
    """

    name: str
    folder: UPath
    state: UPath
    cache: UPath

    @classmethod
    def of_character(cls, layout: Layout, character_id: str) -> "TrainingFiles":
        """Return the paths of a character's training."""
        return cls(character_id, layout.lora(character_id), layout.training_state(character_id), layout.cache)

    def checkpoint(self, step: int) -> UPath:
        """Return where the LoRA after `step` steps lies."""
        return self.folder / f"{self.name}-step{step:06d}.safetensors"

    def is_checkpoint(self, file_name: str) -> bool:
        """Say whether a file in `folder` has the name of a checkpoint, in either layout."""
        return re.fullmatch(rf"{re.escape(self.name)}-step\d{{6,7}}(\.diffusers)?\.safetensors", file_name) is not None

    @property
    def record(self) -> UPath:
        """The record of the last finished training: checkpoints, losses, speeds, fingerprints."""
        return self.folder / f"{self.name}-training.json"

    @property
    def tensorboard(self) -> UPath:
        """Event files of the training that is going on, or that was the last; a folder of its own is a run there."""
        return self.folder / "tensorboard" / self.name

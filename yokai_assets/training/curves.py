"""Curves of a training as TensorBoard event files, where people and tools can follow while it runs.

The numbers that count are in the training's state and record; these files are made anew from them at every start, so
a killed run leaves no step twice.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yokai_assets.storage.files import is_local
from yokai_assets.training.files import TrainingFiles
from yokai_assets.training.loop import TrainingLoop

_FLUSH_SECONDS = 10


class CurveWriter:
    """Writes every step of a loop once; does nothing where event files cannot be appended to (an object store)."""

    def __init__(self, files: TrainingFiles, loop: TrainingLoop, validation: Sequence[tuple[int, float]]) -> None:
        self._loop, self._validation = loop, validation
        self._written_steps = self._written_validations = 0
        self._writer: Any = None
        if not is_local(files.folder):
            return
        from tensorboardX import SummaryWriter

        folder = Path(str(files.tensorboard))
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder), flush_secs=_FLUSH_SECONDS)
        self.update()

    def update(self) -> bool:
        """Write what is new; say whether there were new steps."""
        loop, first = self._loop, self._written_steps
        self._written_steps = len(loop.losses)
        if self._writer is not None:
            for index in range(first, self._written_steps):
                self._writer.add_scalar("train/loss", loop.losses[index], index + 1)
                self._writer.add_scalar("train/grad_norm", loop.grad_norms[index], index + 1)
                self._writer.add_scalar("train/learning_rate", loop.learning_rates[index], index + 1)
            for step, loss in self._validation[self._written_validations :]:
                self._writer.add_scalar("validation/loss", loss, step)
        self._written_validations = len(self._validation)
        return self._written_steps > first

    def close(self) -> None:
        """Write the rest, and let go of the file."""
        self.update()
        if self._writer is not None:
            self._writer.close()

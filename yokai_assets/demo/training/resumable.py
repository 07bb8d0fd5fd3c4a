"""What the matte's and CLIP's training share: counting steps, checkpoints, a time budget, a log.

Not here: any network or data.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yokai_assets.demo.training.checkpoints import load_checkpoint, save_checkpoint

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class Run:
    """One resumable training run in a folder.

    Every step draws its randomness from (seed, step), so that a run that was stopped and started again makes
    the same steps as one that was not.
    """

    def __init__(self, folder: Path, steps: int, minutes: float | None, checkpoint_seconds: float = 60.0) -> None:
        self.folder, self.steps = folder, steps
        self.step = 0
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self._checkpoint_seconds, self._saved_at = checkpoint_seconds, time.monotonic()
        self._state: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.folder / "checkpoint.pt"

    def track(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Names what is saved, and loads it if there is a checkpoint."""
        self._state = {"model": model, "optimizer": optimizer}
        saved = load_checkpoint(self.checkpoint)
        if saved is not None:
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            self.step = int(saved["step"])

    def save(self) -> None:
        """Writes a checkpoint under a temporary name and renames it."""
        state = {name: part.state_dict() for name, part in self._state.items()}
        save_checkpoint(self.checkpoint, {**state, "step": self.step})
        self._saved_at = time.monotonic()

    def advance(self) -> bool:
        """Counts a finished step, saves now and then; False when the budget of steps or time is spent."""
        self.step += 1
        is_late = self._deadline is not None and time.monotonic() > self._deadline
        is_over = self.step >= self.steps or is_late
        if is_over or time.monotonic() - self._saved_at > self._checkpoint_seconds:
            self.save()
        return not is_over

    def learning_rate(self, peak: float, warmup_steps: int = 50) -> float:
        """Warm-up, then a cosine down to 2 % of the peak."""
        share = min(1.0, self.step / max(1, self.steps))
        return peak * min(1.0, (self.step + 1) / warmup_steps) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))

    def log(self, **values: float | int | str) -> None:
        """Prints a line and appends it to ``log.jsonl``."""
        rounded = {name: round(value, 5) if isinstance(value, float) else value for name, value in values.items()}
        line = json.dumps({"step": self.step, **rounded})
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

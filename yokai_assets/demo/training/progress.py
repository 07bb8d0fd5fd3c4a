"""The budget of a training run in steps or minutes, its learning rate, and what it prints. Not here: losses."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Budget:
    """Ends a run after `steps` steps or `minutes` minutes of training, whichever comes first.

    `spent_seconds` is what earlier, interrupted runs used; checkpoints carry it on.
    """

    steps: int | None = None
    minutes: float | None = None
    spent_seconds: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ValueError("a training budget needs steps or minutes")

    def resume(self, spent_seconds: float) -> None:
        """Continues a run that has already used so much time."""
        self.spent_seconds, self._started = spent_seconds, time.monotonic()

    def seconds(self) -> float:
        """Training time so far, interrupted runs included."""
        return self.spent_seconds + time.monotonic() - self._started

    def fraction(self, step: int) -> float:
        """How much of the budget is used, 0..1 and beyond."""
        by_steps = step / self.steps if self.steps else 0.0
        by_minutes = self.seconds() / 60 / self.minutes if self.minutes else 0.0
        return max(by_steps, by_minutes)


def warmup_stable_decay(step: int, fraction: float, warmup_steps: int, decay_share: float = 0.3) -> float:
    """Factor on the learning rate: linear warm-up, constant, linear decay to 3 % over the last share of the budget.

    After Hägele et al. 2024 (arXiv:2405.18392); the run stays useful at any time, and its end can be moved.
    """
    warmup = min(1.0, (step + 1) / warmup_steps)
    decay = min(1.0, max(0.03, (1 - fraction) / decay_share))
    return warmup * decay

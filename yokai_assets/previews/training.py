"""Curves of a finished training."""

from typing import Any

import numpy as np
from PIL import Image

from yokai_assets.previews.charts import line_chart
from yokai_assets.training.record import TrainingResult


def loss_chart(result: TrainingResult) -> Image.Image:
    """Draw the loss of every step, and that of the held-out images."""
    series: dict[str, tuple[Any, Any]] = {"train": (np.arange(1, len(result.losses) + 1), result.losses)}
    if result.validation_losses:
        steps, losses = zip(*result.validation_losses, strict=True)
        series["held out"] = (steps, losses)
    return line_chart(series, title="loss", x_label="step", y_label="weighted MSE")


def grad_norm_chart(result: TrainingResult) -> Image.Image:
    """Draw the gradient norm of every step; what overflowed leaves a gap."""
    steps = np.arange(1, len(result.grad_norms) + 1)
    series: dict[str, tuple[Any, Any]] = {"before clipping": (steps, result.grad_norms)}
    return line_chart(series, title="gradient norm", x_label="step", y_label="L2")

"""Optimizers by name, over the adapters' parameters.

The two optional ones are other people's packages; nothing here imports them unless asked for.
"""

import contextlib
import io
from importlib import import_module
from typing import TYPE_CHECKING, Any

from yokai_assets.settings.training import TrainingSettings
from yokai_assets.training.adapters import AdaptedModel

if TYPE_CHECKING:
    import torch

_TEXT_ENCODER_SHARE = 0.5


_MODULES = {"adamw8bit": "bitsandbytes.optim", "prodigy": "prodigyopt"}


class OptimizerMissingError(RuntimeError):
    """The optimizer that was asked for is not installed; the message says how to get it."""


def build_optimizer(model: AdaptedModel, settings: TrainingSettings) -> "torch.optim.Optimizer":
    """Return the optimizer: one parameter group for the UNet, one for every trained text encoder.

    Raises:
        OptimizerMissingError: Its package is not installed.
    """
    import torch

    groups = [{"params": model.parameters_of(part), "lr": learning_rate_of(part, settings)} for part in model.parts]
    if settings.optimizer == "adamw8bit":
        made = require_optimizer(settings).AdamW8bit(groups, weight_decay=settings.weight_decay)
    elif settings.optimizer == "prodigy":
        # Its own advice for diffusion models (README of prodigyopt): bias correction, and a growing start.
        # It prints what it does.
        with contextlib.redirect_stdout(io.StringIO()):
            made = require_optimizer(settings).Prodigy(
                groups,
                lr=settings.learning_rate,
                weight_decay=settings.weight_decay,
                use_bias_correction=True,
                safeguard_warmup=True,
            )
    else:
        made = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
    return made


def learning_rate_of(part: str, settings: TrainingSettings) -> float:
    """Return the peak learning rate of a part of the model."""
    if part == "unet" or settings.optimizer == "prodigy":
        # Prodigy knows one rate for all groups.
        return settings.learning_rate
    return settings.text_encoder_lr or _TEXT_ENCODER_SHARE * settings.learning_rate


def current_rate(optimizer: "torch.optim.Optimizer") -> float:
    """Return the UNet's learning rate of the next step: for Prodigy, with the factor that it has found."""
    group: dict[str, Any] = optimizer.param_groups[0]
    return float(group["lr"]) * float(group.get("d", 1.0))


def require_optimizer(settings: TrainingSettings) -> Any:
    """Return the module that an optional optimizer comes from; None for torch's own.

    Raises:
        OptimizerMissingError: It is not installed.
    """
    module = _MODULES.get(settings.optimizer)
    if module is None:
        return None
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise OptimizerMissingError(
            f"training.optimizer {settings.optimizer} needs the package {package} ({error}). Install it with "
            f"`pip install {package}`, or set training.optimizer to adamw."
        ) from error

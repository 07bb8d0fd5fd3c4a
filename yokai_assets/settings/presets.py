"""Presets of training: numbers for a base family and a size of training set, each with its reason.

A preset fills what the user left unset; whatever stands in a file, the environment, the launchpad or on the command
line wins. Which family and how many images there are is known to the caller. The numbers are conventions with a
reason, not optima: what suits a series, its evaluations say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yokai_assets.settings.training import TrainingSettings

FEW_IMAGES = 40
MANY_IMAGES = 200
_GUIDE, _AUTO = "guide", "auto"
_PRODIGY_LEARNING_RATE = 1.0
_MIN_RESOLUTION_RATIO = 0.6


@dataclass(frozen=True, slots=True)
class Choice:
    """A number and why it is that one."""

    value: Any
    reason: str


Preset = Mapping[str, Choice]

_SD15: Preset = {
    "gradient_checkpointing": Choice(False, "a batch of two 512 px pictures fits into 8 GB without it"),
}
_SDXL: Preset = {
    "gradient_checkpointing": Choice(True, "a batch of two 1024 px pictures does not fit into 16 GB without it"),
}
_FEW: Preset = {
    "max_train_steps": Choice(1200, "at a batch of 2 every one of 40 images is seen 60 times; more is memorised"),
    "save_every_n_steps": Choice(200, "small sets are overtrained early: six checkpoints for the evaluation to choose"),
    "caption_dropout": Choice(0.1, "few captions are soon known by heart"),
}
_SOME: Preset = {
    "max_train_steps": Choice(2000, "the guide's; at a batch of 2 each of 40 to 200 images is seen 100 to 20 times"),
    "save_every_n_steps": Choice(500, "the guide's: four checkpoints for the evaluation to choose"),
}
_MANY: Preset = {
    "max_train_steps": Choice(4000, "at a batch of 4 every one of 200 to 1000 images is seen 80 to 16 times"),
    "train_batch_size": Choice(4, "much to see: a larger batch steadies the gradient"),
    "save_every_n_steps": Choice(1000, "four checkpoints for the evaluation to choose"),
}
_RANK_16 = Choice(16, "6.8 million weights in SD 1.x; what a rank of 32 adds, a small set fills with its backgrounds")
_RANK_32 = Choice(32, "the guide's: 13.6 million weights in SD 1.x")
_RANK_4 = Choice(4, "10.6 million weights: SDXL has 722 such modules where SD 1.x has 192")
_RANK_8 = Choice(8, "21 million weights: more than a rank of 32 has in SD 1.x")
_RANK_16_SDXL = Choice(16, "43 million weights: three times a rank of 32 in SD 1.x")

PRESETS: dict[str, Preset] = {
    "sd15-few": {**_SD15, **_FEW, "network_dim": _RANK_16},
    "sd15-some": {**_SD15, **_SOME, "network_dim": _RANK_32},
    "sd15-many": {**_SD15, **_MANY, "network_dim": _RANK_32},
    "sdxl-few": {**_SDXL, **_FEW, "network_dim": _RANK_4},
    "sdxl-some": {**_SDXL, **_SOME, "network_dim": _RANK_8},
    "sdxl-many": {**_SDXL, **_MANY, "network_dim": _RANK_16_SDXL},
}
"""By name: `<family>-<few | some | many>`; few are under 40 images, many over 200."""


def preset_name(family: str, image_count: int) -> str:
    """Return the name of the preset for a base family (`sd15`, `sdxl`) and a number of training images."""
    size = "few" if image_count < FEW_IMAGES else "many" if image_count > MANY_IMAGES else "some"
    return f"{family}-{size}"


def resolved(settings: TrainingSettings, family: str, native_px: int, image_count: int) -> TrainingSettings:
    """Return the settings with everything filled in that depends on the base model and the training set.

    Args:
        settings: As the user gave them; what is set in them stays.
        family: Of the base model, `sd15` or `sdxl`.
        native_px: Side of the pictures that the base model was trained on; any preset but the guide's takes it.
        image_count: Images to train on.
    """
    name = preset_name(family, image_count) if settings.preset == _AUTO else settings.preset
    filling: dict[str, Any] = {}
    if name != _GUIDE:
        filling = {field: choice.value for field, choice in PRESETS[name].items()} | {"resolution_px": native_px}
    if settings.optimizer == "prodigy":
        filling["learning_rate"] = _PRODIGY_LEARNING_RATE
    missing = {field: value for field, value in filling.items() if field not in settings.model_fields_set}
    return settings.model_copy(update={**missing, "preset": name})


def doubts(settings: TrainingSettings, native_px: int) -> list[tuple[str, str]]:
    """Return (setting, advice) where resolved settings are allowed and yet hardly meant."""
    found = []
    ratio = settings.resolution_px / native_px
    if not _MIN_RESOLUTION_RATIO <= ratio <= 1 / _MIN_RESOLUTION_RATIO:
        advice = (
            f"{settings.resolution_px} px is far from the {native_px} px that this base model was made for, and which "
            f"it draws best: set it to {native_px}, which training sets are then made for, too"
        )
        found.append(("training.resolution_px", advice))
    if settings.optimizer == "prodigy" and settings.learning_rate < 0.1:
        advice = f"prodigy finds the rate itself and takes this as a factor: {settings.learning_rate:g} slows it; set 1"
        found.append(("training.learning_rate", advice))
    if settings.optimizer == "prodigy" and settings.text_encoder_lr is not None:
        found.append(("training.text_encoder_lr", "prodigy knows one rate for all; this one is not used"))
    if settings.lr_scheduler != "constant" and settings.lr_warmup_steps >= settings.max_train_steps:
        advice = f"{settings.lr_warmup_steps} steps of warm-up: the whole training, which never reaches its rate"
        found.append(("training.lr_warmup_steps", advice))
    return found

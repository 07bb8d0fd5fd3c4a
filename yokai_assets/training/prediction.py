"""What the network of a single-file checkpoint predicts: noise or velocity, on which end of the noise schedule.

A diffusers folder says it in its scheduler's config. A single file has none: there it is told by marker tensors
(`v_pred`, `ztsnr`), as ComfyUI, Forge and the trainers of such models write them, or by ModelSpec metadata. Trained
towards the wrong target a LoRA draws noise. Not here: the target itself (`loss`).
"""

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

_VELOCITY_MARK = "v_pred"
_ZERO_TERMINAL_MARK = "ztsnr"
_EDM_MARKS = ("edm_mean", "edm_std", "edm_vpred.sigma_max")
_METADATA_KEYS = ("modelspec.prediction_type", "modelspec.predict_key")
_VELOCITY_WORDS = ("v", "v_prediction", "v-prediction", "velocity")


class UnsupportedScheduleError(ValueError):
    """A checkpoint is made for a noise process that this trainer does not have."""


@dataclass(frozen=True, slots=True)
class VelocityPrediction:
    """v-prediction (Salimans & Ho 2022), with zero terminal SNR (Lin et al. 2023, arXiv:2305.08891) or not."""

    has_zero_terminal_snr: bool


def velocity_prediction(tensor_names: Collection[str], metadata: Mapping[str, str] | None) -> VelocityPrediction | None:
    """Return how a single-file checkpoint predicts velocity; None where nothing says that it does.

    Args:
        tensor_names: Names of all tensors of the file.
        metadata: Metadata of the safetensors header.

    Raises:
        UnsupportedScheduleError: It is made for the EDM noise process (Karras et al. 2022).
    """
    edm = next((mark for mark in _EDM_MARKS if mark in tensor_names), None)
    if edm is not None:
        raise UnsupportedScheduleError(f"it is made for the EDM noise process (tensor `{edm}`), which is not supported")
    words = {str((metadata or {}).get(key, "")).strip().lower() for key in _METADATA_KEYS}
    if _VELOCITY_MARK not in tensor_names and words.isdisjoint(_VELOCITY_WORDS):
        return None
    return VelocityPrediction(has_zero_terminal_snr=_ZERO_TERMINAL_MARK in tensor_names)


def predicting_velocity(scheduler: Any, prediction: VelocityPrediction) -> Any:
    """Return a diffusers scheduler like the given one, for a network that predicts velocity.

    With zero terminal SNR it samples from the very last timestep on, where such a network begins; a scheduler that
    has no such schedule gives way to DDIM.
    """
    changes: dict[str, Any] = {"prediction_type": "v_prediction"}
    kind = type(scheduler)
    if prediction.has_zero_terminal_snr:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        if "rescale_betas_zero_snr" not in inspect.signature(kind.__init__).parameters:
            from diffusers import DDIMScheduler

            kind = DDIMScheduler
            changes["clip_sample"] = False
    return kind.from_config(scheduler.config, **changes)

"""The denoising loss: target, min-SNR weight, and the character's mask.

Pure functions of tensors; where noise and timesteps come from is `batches`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from diffusers import DDPMScheduler


# Ordinary schedules end near 5e-3; rescaled ones at 0, or at the 6e-8 that some samplers put in its place.
_ZERO_TERMINAL_ALPHA = 1e-5


class UnsupportedPredictionError(ValueError):
    """The base model predicts something this trainer has no target for."""


def denoising_target(
    scheduler: "DDPMScheduler", latents: "torch.Tensor", noise: "torch.Tensor", timesteps: "torch.Tensor"
) -> "torch.Tensor":
    """Return what the UNet should predict, [B, C, h, w], by the scheduler's prediction type.

    Raises:
        UnsupportedPredictionError: It is none of `epsilon`, `v_prediction` (Salimans & Ho 2022) and `sample`.
    """
    prediction_type = scheduler.config["prediction_type"]
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return scheduler.get_velocity(latents, noise, timesteps)  # pyright: ignore[reportArgumentType]
    if prediction_type == "sample":
        return latents
    raise UnsupportedPredictionError(
        f"the base model's scheduler says prediction_type `{prediction_type}`; epsilon, v_prediction and sample can "
        "be trained. Check scheduler/scheduler_config.json of the base model."
    )


def min_snr_weight(scheduler: "DDPMScheduler", timesteps: "torch.Tensor", gamma: float) -> "torch.Tensor":
    """Return min-SNR loss weights (Hang et al. 2023, arXiv:2303.09556), f32 [B].

    The error of the denoised image is weighted by min(SNR, gamma), whatever the network predicts. They are written
    so that no SNR gives 0/0. One exception: with v-prediction on a schedule of zero terminal SNR (Lin et al. 2023,
    arXiv:2305.08891) sampling begins where that weight is 0, and nothing would be learnt about where shapes and
    colours are decided. There the weight is min(SNR, gamma) + 1: v-prediction's own SNR + 1 (Salimans & Ho 2022),
    bounded in the same way.
    """
    from diffusers.training_utils import compute_snr

    snr = compute_snr(scheduler, timesteps)
    prediction_type = scheduler.config["prediction_type"]
    if prediction_type == "epsilon":
        return gamma / snr.clamp(min=gamma)
    if prediction_type == "v_prediction":
        floor = 1.0 if float(scheduler.alphas_cumprod[-1]) < _ZERO_TERMINAL_ALPHA else 0.0
        return (snr.clamp(max=gamma) + floor) / (snr + 1)
    return snr.clamp(max=gamma)


def masked_error(prediction: "torch.Tensor", target: "torch.Tensor", weights: "torch.Tensor") -> "torch.Tensor":
    """Return each image's weighted mean squared error, f32 [B].

    The mean is over the weights' sum, so a small character trains as hard as one that fills the image.

    Args:
        prediction: [B, C, h, w], any float dtype.
        target: Same shape.
        weights: [B, 1, h, w], at least 0; an image without any weight has error 0.
    """
    squared = (prediction.float() - target.float()).square().mean(dim=1, keepdim=True)
    return (squared * weights).sum(dim=(1, 2, 3)) / weights.sum(dim=(1, 2, 3)).clamp(min=1e-6)

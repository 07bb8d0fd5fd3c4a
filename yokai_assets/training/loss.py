"""The denoising loss: target, min-SNR weight, and the character's mask.

Pure functions of tensors; where noise and timesteps come from is `batches`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from diffusers import DDPMScheduler


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

    All three forms weigh the error of the denoised image by min(SNR, gamma). They are written so that a schedule
    with zero terminal SNR gives its limit (1, 0 and 0) and never 0/0.
    """
    from diffusers.training_utils import compute_snr

    snr = compute_snr(scheduler, timesteps)
    prediction_type = scheduler.config["prediction_type"]
    if prediction_type == "epsilon":
        return gamma / snr.clamp(min=gamma)
    if prediction_type == "v_prediction":
        return snr.clamp(max=gamma) / (snr + 1)
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

"""Targets, min-SNR weights and the mask, against their formulas."""

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from yokai_assets.training.loss import UnsupportedPredictionError, denoising_target, masked_error, min_snr_weight


def schedule(prediction_type: Any, is_zero_terminal: bool = False) -> DDPMScheduler:
    return DDPMScheduler(prediction_type=prediction_type, rescale_betas_zero_snr=is_zero_terminal)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_prediction_denoises(prediction_type: str) -> None:
    """The target must be what the sampler takes it for: one step from it gives back the clean latents."""
    scheduler = schedule(prediction_type)
    latents, noise = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    timesteps: Any = torch.tensor([400])
    noisy = scheduler.add_noise(latents, noise, timesteps)
    target = denoising_target(scheduler, latents, noise, timesteps)
    clean: Any = scheduler.step(target, 400, noisy).pred_original_sample  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.allclose(clean, latents.clamp(-1, 1), atol=1e-4)


def test_an_unknown_prediction_type_is_named() -> None:
    """Training on the wrong target would give noise without an error."""
    scheduler = schedule("epsilon")
    scheduler.register_to_config(prediction_type="flow")
    with pytest.raises(UnsupportedPredictionError, match="flow"):
        denoising_target(scheduler, torch.zeros(1), torch.zeros(1), torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize("is_zero_terminal", [False, True])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_min_snr_is_finite_everywhere(prediction_type: str, is_zero_terminal: bool) -> None:
    """Zero terminal SNR divides by zero in the textbook form of the weight."""
    weights = min_snr_weight(schedule(prediction_type, is_zero_terminal), torch.arange(1000), 5.0)
    assert torch.isfinite(weights).all()
    assert (weights >= 0).all()


def test_all_forms_weigh_the_denoised_image_alike() -> None:
    """The weight of the clean image's error is min(SNR, gamma) whatever the network predicts (Hang et al. 2023)."""
    timesteps = torch.tensor([5, 300, 900])
    alphas = schedule("epsilon").alphas_cumprod[timesteps]
    snr = alphas / (1 - alphas)
    error_scale = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones(3)}
    for prediction_type, scale in error_scale.items():
        weights = min_snr_weight(schedule(prediction_type), timesteps, 5.0)
        assert torch.allclose(weights * scale, snr.clamp(max=5.0), rtol=1e-4)


def test_with_zero_terminal_snr_the_first_sampling_step_is_trained_too() -> None:
    """The textbook weight is 0 exactly where a v-prediction model with zero terminal SNR decides shape and colour."""
    scheduler, timesteps = schedule("v_prediction", is_zero_terminal=True), torch.tensor([5, 300, 999])
    alphas = scheduler.alphas_cumprod[timesteps]
    snr = alphas / (1 - alphas)
    weights = min_snr_weight(scheduler, timesteps, 5.0)
    assert weights[2].item() == pytest.approx(1.0)
    assert torch.allclose(weights * (snr + 1), snr.clamp(max=5.0) + 1, rtol=1e-4)


def test_the_mask_decides_what_counts() -> None:
    """Errors outside the character must not train; errors inside count the same for small and large characters."""
    prediction, target = torch.zeros(2, 4, 4, 4), torch.zeros(2, 4, 4, 4)
    prediction[0, :, :, 2:] = 9.0
    prediction[1, :, :1, :1] = 2.0
    weights = torch.zeros(2, 1, 4, 4)
    weights[0, :, :, :2] = 1.0
    weights[1, :, :1, :1] = 1.0
    assert masked_error(prediction, target, weights).tolist() == [0.0, 4.0]


def test_without_any_weight_the_error_is_zero() -> None:
    """An empty mask must not turn the whole training into NaN."""
    assert masked_error(torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), torch.zeros(1, 1, 2, 2)).tolist() == [0.0]

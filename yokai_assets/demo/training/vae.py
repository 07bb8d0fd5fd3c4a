"""Training of the demo's autoencoder (diffusers `AutoencoderKL`, factor 8) on fixed linear latents.

The decoder learns to draw from the latents of :mod:`yokai_assets.demo.training.latents`, made a little noisy so
that it forgives the errors of a diffusion model; the encoder learns to produce them. Not here: the diffusion model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yokai_assets.demo.training.checkpoints import load_checkpoint, save_checkpoint
from yokai_assets.demo.training.latents import PatchPca
from yokai_assets.demo.training.progress import Budget, warmup_stable_decay

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

_WARMUP_STEPS = 100
_LOG_STEPS = 100
_POSTERIOR_LOG_VARIANCE = -8.0
_MAX_LATENT_NOISE = 0.2


def build_vae(latent_channels: int, channels: tuple[int, ...] = (16, 32, 64, 64)) -> AutoencoderKL:
    """An untrained autoencoder whose posterior has a small fixed variance: latents are means, as PCA's are."""
    import torch
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * len(channels),  # pyright: ignore[reportArgumentType]
        block_out_channels=channels,  # pyright: ignore[reportArgumentType]
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    last = vae.encoder.conv_out
    with torch.no_grad():
        last.weight[latent_channels:] = 0
        if last.bias is not None:
            last.bias[latent_channels:] = _POSTERIOR_LOG_VARIANCE
    return vae


def _edges(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return pictures[..., 1:, :] - pictures[..., :-1, :], pictures[..., 1:] - pictures[..., :-1]


def _picture_loss(drawn: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Absolute and squared error of pixels, for true colours, and of their differences, for sharp outlines."""
    loss = (drawn - pictures).abs().mean() + 2 * (drawn - pictures).pow(2).mean()
    for drawn_edge, edge in zip(_edges(drawn), _edges(pictures), strict=True):
        loss = loss + 0.5 * (drawn_edge - edge).abs().mean()
    return loss


def _losses(
    vae: AutoencoderKL, pictures: torch.Tensor, latents: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Picture loss and latent loss of one batch; half of it passes the encoder, half starts from linear latents."""
    import torch

    half = len(latents) // 2
    means = vae.encode(pictures[half:], return_dict=False)[0].mean
    latent_loss = torch.nn.functional.mse_loss(means, latents[half:])
    inputs = torch.cat([latents[:half], means.detach()])
    strength = torch.rand(len(inputs), 1, 1, 1, generator=generator) * _MAX_LATENT_NOISE
    noise = torch.randn(inputs.shape, generator=generator) * strength
    drawn = vae.decode(inputs + noise.to(inputs), return_dict=False)[0]  # pyright: ignore[reportArgumentType]
    return _picture_loss(drawn, pictures), latent_loss


def train_vae(
    pictures: NDArray[np.uint8],
    pca: PatchPca,
    checkpoint_path: Path,
    budget: Budget,
    seed: int = 0,
    batch_size: int = 4,
    learning_rate: float = 1e-3,
    device: str = "cpu",
    checkpoint_minutes: float = 3.0,
) -> AutoencoderKL:
    """Trains, or continues from the checkpoint, until the budget is spent; returns the averaged (EMA) weights.

    Args:
        pictures: (N, S, S, 3) uint8.
        pca: the latents to be met.
        checkpoint_path: written every few minutes and at the end.
        budget: steps or minutes in all, interrupted runs included.
        seed: of initial weights and batches; batch number k depends on seed and k only.
        batch_size: pictures a step.
        learning_rate: of Adam, after warm-up.
        device: "cpu" or "cuda".
        checkpoint_minutes: time between checkpoints.
    """
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    torch.manual_seed(seed)
    vae = build_vae(pca.channels)
    torch.nn.Module.to(vae, device).train()
    average = AveragedModel(vae, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    optimizer = torch.optim.Adam(vae.parameters(), lr=learning_rate, betas=(0.9, 0.99))
    step, parts = 0, {"vae": vae, "average": average, "optimizer": optimizer}
    state = load_checkpoint(checkpoint_path, device)
    if state is not None:
        step = state["step"]
        budget.resume(state["seconds"])
        for name, part in parts.items():
            part.load_state_dict(state[name])
    last_saved = budget.seconds()
    while budget.fraction(step) < 1:
        rng, generator = np.random.default_rng([seed, step]), torch.Generator().manual_seed(seed * 10**9 + step)
        chosen = np.sort(rng.integers(len(pictures), size=batch_size))
        batch = pictures[chosen]
        pixels = torch.from_numpy(batch).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warmup_stable_decay(step, budget.fraction(step), _WARMUP_STEPS)
        picture_loss, latent_loss = _losses(vae, pixels, torch.from_numpy(pca.encode(batch)).to(device), generator)
        (picture_loss + latent_loss).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(vae)
        step += 1
        if step % _LOG_STEPS == 0:
            print(
                f"vae step {step} {budget.fraction(step):.0%} pixels {picture_loss.item():.4f} "
                f"latents {latent_loss.item():.4f} {budget.seconds():.0f} s",
                flush=True,
            )
        if budget.seconds() - last_saved > checkpoint_minutes * 60:
            save_checkpoint(checkpoint_path, _state(parts, step, budget))
            last_saved = budget.seconds()
    save_checkpoint(checkpoint_path, _state(parts, step, budget))
    averaged: Any = average.module
    return averaged.eval()


def _state(parts: dict[str, Any], step: int, budget: Budget) -> dict[str, Any]:
    return {"step": step, "seconds": budget.seconds(), **{name: part.state_dict() for name, part in parts.items()}}


def load_trained_vae(checkpoint_path: Path, latent_channels: int) -> AutoencoderKL:
    """The averaged weights of the newest checkpoint.

    Raises:
        FileNotFoundError: nothing has been trained yet.
    """
    state = load_checkpoint(checkpoint_path)
    if state is None:
        raise FileNotFoundError(f"{checkpoint_path} does not exist; train the autoencoder first (command `vae`)")
    vae = build_vae(latent_channels)
    prefix = "module."
    weights = {name[len(prefix) :]: value for name, value in state["average"].items() if name.startswith(prefix)}
    vae.load_state_dict(weights)
    return vae.eval()


def measure_psnr(vae: AutoencoderKL, pictures: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of pictures (N, S, S, 3) uint8 encoded and decoded again."""
    import torch

    device = next(vae.parameters()).device
    errors = []
    with torch.inference_mode():
        for start in range(0, len(pictures), 50):
            pixels = torch.from_numpy(pictures[start : start + 50]).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
            means: Any = vae.encode(pixels, return_dict=False)[0].mean
            drawn = vae.decode(means, return_dict=False)[0].clamp(-1, 1)
            errors.append((drawn - pixels).pow(2).mean(dim=(1, 2, 3)))
    return float(10 * torch.log10(4 / torch.cat(errors).mean()))

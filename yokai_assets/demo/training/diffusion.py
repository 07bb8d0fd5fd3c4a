"""Training of the demo's text encoder and UNet: latent diffusion with v-prediction.

v-prediction after Salimans & Ho 2022 (arXiv:2202.00512); zero terminal SNR and trailing steps after Lin et al. 2024
(arXiv:2305.08891); text dropped at random for classifier-free guidance after Ho & Salimans 2022 (arXiv:2207.12598).
Not here: the autoencoder, the tokenizer, or how the parts become a diffusers folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yokai_assets.demo.training.checkpoints import load_checkpoint, save_checkpoint
from yokai_assets.demo.training.progress import Budget, warmup_stable_decay

if TYPE_CHECKING:
    import torch
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

_TEXT_WIDTH = 128
_TEXT_DROPOUT = 0.1
_LOG_STEPS = 100


@dataclass(frozen=True)
class DiffusionData:
    """`latents` (N, C, H, W) float16 and `tokens` (N, captions, length) int16 of their captions."""

    latents: NDArray[np.float16]
    tokens: NDArray[np.int16]


@dataclass(frozen=True)
class DiffusionOptions:
    """How the diffusion model is trained; all of it decides the result."""

    seed: int = 0
    batch_size: int = 32
    learning_rate: float = 1e-3
    ema_decay: float = 0.999
    warmup_steps: int = 300
    device: str = "cpu"
    checkpoint_minutes: float = 3.0


def build_scheduler() -> DDIMScheduler:
    """DDIM with the cosine schedule of Nichol & Dhariwal 2021 (arXiv:2102.09672), rescaled to zero terminal SNR.

    Stable Diffusion's own schedule is made for 64×64 latents, of which neighbours tell the same; on 8×8 latents it
    spends a third of all steps where nothing can be seen for noise.
    """
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=True,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained two-layer CLIP text encoder for the tokenizer's vocabulary."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=_TEXT_WIDTH,
        intermediate_size=4 * _TEXT_WIDTH,
        projection_dim=_TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,  # pyright: ignore[reportArgumentType]
        eos_token_id=tokenizer.eos_token_id,  # pyright: ignore[reportArgumentType]
        pad_token_id=tokenizer.pad_token_id,  # pyright: ignore[reportArgumentType]
    )
    return CLIPTextModel(config)


def build_unet(latent_channels: int, sample_size: int, channels: tuple[int, ...] = (96, 128)) -> UNet2DConditionModel:
    """An untrained UNet, cross-attention at every level."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * len(channels),
        up_block_types=("CrossAttnUpBlock2D",) * len(channels),
        cross_attention_dim=_TEXT_WIDTH,
        # Despite its name diffusers takes this as the number of heads; many small heads halve the speed on a CPU.
        attention_head_dim=4,
        norm_num_groups=16,
    )


class _Trainer:
    """Text encoder, UNet, their averages and the optimizer: one thing to step, save and restore."""

    def __init__(self, data: DiffusionData, tokenizer: CLIPTokenizer, options: DiffusionOptions) -> None:
        import torch
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        self.data, self.options = data, options
        torch.manual_seed(options.seed)
        self.text_encoder = build_text_encoder(tokenizer)
        self.unet = build_unet(data.latents.shape[1], data.latents.shape[2])
        models = torch.nn.ModuleDict({"text_encoder": self.text_encoder, "unet": self.unet})
        models.to(options.device).train()
        self.average = AveragedModel(models, multi_avg_fn=get_ema_multi_avg_fn(options.ema_decay))
        self.models = models
        self.optimizer = torch.optim.AdamW(
            models.parameters(), lr=options.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.signal = build_scheduler().alphas_cumprod.to(options.device)
        self.empty_tokens = torch.tensor(
            tokenizer("", padding="max_length", max_length=tokenizer.model_max_length)["input_ids"]
        )
        self.step = 0

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "models": self.models.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.models.load_state_dict(state["models"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _batch(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents, noise, timesteps and tokens of this step; they depend on the seed and the step only."""
        import torch

        options, device = self.options, self.options.device
        rng = np.random.default_rng([options.seed, self.step])
        chosen = rng.integers(len(self.data.latents), size=options.batch_size)
        captions = rng.integers(self.data.tokens.shape[1], size=options.batch_size)
        tokens = torch.from_numpy(self.data.tokens[chosen, captions].astype(np.int64))
        tokens[torch.from_numpy(rng.random(options.batch_size) < _TEXT_DROPOUT)] = self.empty_tokens
        latents = torch.from_numpy(self.data.latents[chosen].astype(np.float32))
        noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
        # One timestep from each equal share of the range: a calmer loss than independent draws.
        shares = (np.arange(options.batch_size) + rng.random(options.batch_size)) / options.batch_size
        timesteps = torch.from_numpy((shares * len(self.signal)).astype(np.int64))
        return latents.to(device), noise.to(device), timesteps.to(device), tokens.to(device)

    def train_step(self, learning_rate: float) -> float:
        import torch

        latents, noise, timesteps, tokens = self._batch()
        signal = self.signal[timesteps].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        velocity = signal.sqrt() * noise - (1 - signal).sqrt() * latents
        text = self.text_encoder(tokens).last_hidden_state
        predicted = self.unet(noisy, timesteps, encoder_hidden_states=text, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(predicted, velocity)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.models.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update_parameters(self.models)
        self.step += 1
        return loss.item()


def train_diffusion(
    data: DiffusionData,
    tokenizer: CLIPTokenizer,
    checkpoint_path: Path,
    budget: Budget,
    options: DiffusionOptions,
) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Trains, or continues from the checkpoint, until the budget is spent; returns the averaged (EMA) models.

    A run resumed with a budget in steps ends, on the CPU, with the very weights of an uninterrupted one. A log
    line every hundred steps goes to the console and, as JSON, to a file beside the checkpoint.
    """
    trainer = _Trainer(data, tokenizer, options)
    state = load_checkpoint(checkpoint_path, options.device)
    if state is not None:
        trainer.restore(state)
        budget.resume(state["seconds"])
    log_path = checkpoint_path.with_suffix(".jsonl")
    last_saved, losses = budget.seconds(), []
    while (fraction := budget.fraction(trainer.step)) < 1:
        factor = warmup_stable_decay(trainer.step, fraction, options.warmup_steps)
        losses.append(trainer.train_step(options.learning_rate * factor))
        if trainer.step % _LOG_STEPS == 0:
            record = {
                "step": trainer.step,
                "loss": round(float(np.mean(losses)), 5),
                "seconds": round(budget.seconds()),
            }
            losses = []
            print(f"unet {fraction:.0%} {record}", flush=True)
            with log_path.open("a") as log:
                log.write(json.dumps(record) + "\n")
        if budget.seconds() - last_saved > options.checkpoint_minutes * 60:
            save_checkpoint(checkpoint_path, {**trainer.state(), "seconds": budget.seconds()})
            last_saved = budget.seconds()
    save_checkpoint(checkpoint_path, {**trainer.state(), "seconds": budget.seconds()})
    average: Any = trainer.average.module
    return average["text_encoder"].eval(), average["unet"].eval()


def load_trained_diffusion(
    checkpoint_path: Path, tokenizer: CLIPTokenizer, latent_channels: int, sample_size: int
) -> tuple[CLIPTextModel, UNet2DConditionModel, int]:
    """The averaged models of the newest checkpoint, and its step.

    Raises:
        FileNotFoundError: nothing has been trained yet.
    """
    state = load_checkpoint(checkpoint_path)
    if state is None:
        raise FileNotFoundError(f"{checkpoint_path} does not exist; train the UNet first (command `unet`)")
    text_encoder, unet = build_text_encoder(tokenizer), build_unet(latent_channels, sample_size)
    for name, model in (("text_encoder", text_encoder), ("unet", unet)):
        prefix = f"module.{name}."
        model.load_state_dict(
            {key[len(prefix) :]: value for key, value in state["average"].items() if key.startswith(prefix)}
        )
        model.eval()
    return text_encoder, unet, state["step"]
